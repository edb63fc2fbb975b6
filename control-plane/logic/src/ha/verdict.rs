//! Is the leader dead? The table of evidence: reports (E1), followers (E2), witnesses (E3), clients (E4), its agent (E5).
//!
//! Silence alone proves nothing: it takes the control plane, every acker and most witnesses together. What a living
//! agent says of its own server needs no proof. Whoever's timers ran late abstains, and a node that distrusts itself
//! declares nobody dead.

use std::time::Duration;

use windlass_core::{id::MemberId, replication::ReplicaState};

use super::{
    cluster::Cluster,
    election,
    facts::Facts,
    observed::{HostSeen, Observed},
};

/// How long a host that witnesses reach, but nobody else, is given.
pub const PARTIAL_PARTITION: Duration = Duration::from_secs(5);
/// After mass silence no new failover begins for so long.
pub const DISTRUST: Duration = Duration::from_secs(5);
/// A round trip to the metadata beyond this makes a node distrust itself.
pub const META_SLOW: Duration = Duration::from_secs(1);
/// E2: least silence of a connection that stands, after which it is held for lost.
const FOLLOWER_SILENCE: Duration = Duration::from_millis(900);
/// Probes without an answer before a witness calls a host silent.
pub const PROBES_MISSED: u32 = 3;
/// A crash restart that would take longer makes a failover better.
pub const RESTART_WORTH: Duration = Duration::from_millis(500);
/// How long a leader that was ordered to run may stand still before it is given up.
pub const STANDSTILL: Duration = Duration::from_secs(10);

/// What is to be thought of the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong with it.
    Alive,
    /// Something is wrong, but no reason to replace it; why not.
    Doubt(String),
    /// It is to be replaced, if anybody may be.
    Down(Evidence),
}

/// Why a leader is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// E5: its own agent says so.
    Server(String),
    /// E1 ∧ E2 ∧ E3.
    Host(String),
    /// E1 ∧ E2 for long, and clients fail too, although witnesses reach its agent; or it stands still.
    Useless(String),
}

impl Evidence {
    /// It is dead for sure; a hold against flapping does not apply.
    pub fn is_positive(&self) -> bool {
        match self {
            Self::Server(_) | Self::Host(_) => true,
            Self::Useless(_) => false,
        }
    }

    /// For people.
    pub fn cause(&self) -> &str {
        let (Self::Server(cause) | Self::Host(cause) | Self::Useless(cause)) = self;
        cause
    }
}

/// How long a crash restart takes to the first write, from measurements: 0.11 s and about 450 MB/s of redo.
pub fn restart_estimate(redo_bytes: u64) -> Duration {
    Duration::from_millis(110) + Duration::from_nanos(redo_bytes.saturating_mul(1_000) / 450)
}

/// What is to be thought of the leader of the present epoch.
pub fn verdict(cluster: &Cluster, observed: &Observed) -> Verdict {
    let leader = cluster.reign.leader;
    let detect = Duration::from_millis(cluster.timings().detect_ms.into());
    let nothing = HostSeen::default();
    let host = cluster.members.get(&leader).and_then(|member| observed.hosts.get(&member.host)).unwrap_or(&nothing);
    if host.silent_for >= detect {
        return by_silence(cluster, observed, leader, host, detect);
    }
    match observed.members.get(&leader) {
        Some(seen) if seen.age < detect => by_its_agent(cluster, observed, leader, &seen.facts, seen.state_for),
        Some(_) => Verdict::Doubt(format!("the agent of {} answers without facts of it", cluster.name(leader))),
        None => Verdict::Doubt(format!("nothing has been heard of {} yet", cluster.name(leader))),
    }
}

/// E5, and E4 while the agent answers.
fn by_its_agent(
    cluster: &Cluster,
    observed: &Observed,
    leader: MemberId,
    facts: &Facts,
    state_for: Duration,
) -> Verdict {
    let name = cluster.name(leader);
    let because = if facts.reason.is_empty() { String::new() } else { format!(": {}", facts.reason) };
    if facts.must_not_restart {
        return Verdict::Down(Evidence::Server(format!("the server of {name} must not be restarted{because}")));
    }
    let opened = !cluster.system.is_empty();
    match facts.state {
        ReplicaState::Quarantine => {
            Verdict::Down(Evidence::Server(format!("the data of {name} is not trusted{because}")))
        }
        ReplicaState::New | ReplicaState::Cloning if opened && facts.max_epoch >= cluster.reign.epoch => {
            Verdict::Down(Evidence::Server(format!("{name} has lost its data{because}")))
        }
        ReplicaState::Crashed => crashed(cluster, observed, facts, state_for, &name),
        ReplicaState::Open if proxies_fail(observed) == Some(true) => Verdict::Doubt(format!(
            "proxies cannot connect to {name}, but its agent says that it serves; its port may be blocked"
        )),
        ReplicaState::Open | ReplicaState::Gated | ReplicaState::Fenced | ReplicaState::Promoting => Verdict::Alive,
        ReplicaState::New
        | ReplicaState::Cloning
        | ReplicaState::Catchup
        | ReplicaState::Standby
        | ReplicaState::Sealed
        | ReplicaState::Draining
        | ReplicaState::CleanStop
        | ReplicaState::Demoted
        | ReplicaState::Rejoining
        | ReplicaState::Resting => {
            let still = format!("{name} is {} and has not taken its order to lead{because}", facts.state);
            if opened && state_for >= STANDSTILL && observed.step_for >= STANDSTILL {
                Verdict::Down(Evidence::Useless(still))
            } else {
                Verdict::Doubt(still)
            }
        }
    }
}

/// Restart in place or failover.
fn crashed(cluster: &Cluster, observed: &Observed, facts: &Facts, state_for: Duration, name: &str) -> Verdict {
    let estimate = restart_estimate(facts.redo_bytes);
    let redo = facts.redo_bytes >> 20;
    let ready = election::feasible(cluster, observed, None);
    let why = if facts.crashes >= 2 {
        format!("the server of {name} crashed {} times within a minute", facts.crashes)
    } else if estimate > RESTART_WORTH {
        format!("the server of {name} died and would need {estimate:.1?} to redo {redo} MiB")
    } else if state_for >= estimate * 2 + RESTART_WORTH {
        format!("the server of {name} died and has not come up for {state_for:.1?}")
    } else {
        return Verdict::Doubt(format!("the server of {name} died and is restarted in place: {redo} MiB to redo"));
    };
    match ready {
        Ok(_) => Verdict::Down(Evidence::Server(why)),
        Err(not) => Verdict::Doubt(format!("{why}, but nobody may replace it, so it is restarted in place: {not}")),
    }
}

/// E1 holds: E2, E3 and E4 decide.
fn by_silence(cluster: &Cluster, observed: &Observed, leader: MemberId, host: &HostSeen, detect: Duration) -> Verdict {
    let name = cluster.name(leader);
    let silent = format!("the host of {name} has been silent for {:.1?}", host.silent_for);
    if !observed.node.full_round {
        return Verdict::Doubt(format!("{silent}, but this node has not heard a whole round of reports yet"));
    }
    if let Some(ago) = observed.node.mass_silence.filter(|ago| *ago < DISTRUST) {
        return Verdict::Doubt(format!("{silent}, but so were many others {ago:.1?} ago: this node distrusts itself"));
    }
    match followers_cut(cluster, observed, leader, detect) {
        Some(true) => {}
        Some(false) => return Verdict::Doubt(format!("{silent}, but its replicas still hear its server")),
        None => return Verdict::Doubt(format!("{silent}, and no replica answers that could say more")),
    }
    match witnesses_silent(host, detect) {
        Some(true) => Verdict::Down(Evidence::Host(format!("{silent}; neither replicas nor witnesses reach it"))),
        None => Verdict::Doubt(format!("{silent} and cut off from its replicas, but no witness can confirm it")),
        Some(false) if host.silent_for >= PARTIAL_PARTITION && proxies_fail(observed) != Some(false) => {
            Verdict::Down(Evidence::Useless(format!(
                "{silent} and cut off from its replicas and clients, although witnesses reach its agent"
            )))
        }
        Some(false) => {
            Verdict::Doubt(format!("{silent} and cut off from its replicas, but witnesses still reach its agent"))
        }
    }
}

/// E2: every acker that answers has lost the leader. None if none answers.
fn followers_cut(cluster: &Cluster, observed: &Observed, leader: MemberId, detect: Duration) -> Option<bool> {
    let mut ackers = cluster.acks();
    if ackers.is_empty() {
        ackers = cluster.members.keys().copied().collect();
    }
    ackers.remove(&leader);
    // What followers say is as old as their last report, so less silence than E1's must do; a living leader answers
    // pings of an idle connection within half of `wal_receiver_timeout`.
    let limit = (detect * 2 / 3).max(FOLLOWER_SILENCE);
    let fresh = ackers.iter().filter_map(|id| observed.fresh(*id, detect));
    let mut cut = fresh.map(|facts| facts.cut_off(limit)).peekable();
    cut.peek()?;
    Some(cut.all(|cut| cut))
}

/// E3: most of the witnesses that do not abstain have had no answer. None if all abstain.
fn witnesses_silent(host: &HostSeen, detect: Duration) -> Option<bool> {
    let limit = detect.mul_f64(0.6);
    let mut counted = 0;
    let mut silent = 0;
    for witness in host.witnesses.iter().filter(|witness| !witness.late) {
        counted += 1;
        if witness.unanswered >= PROBES_MISSED && witness.silent_for.is_none_or(|since| since >= limit) {
            silent += 1;
        }
    }
    (counted > 0).then_some(silent * 2 > counted)
}

/// E4: most proxies that tried of late failed to connect. None if none tried.
fn proxies_fail(observed: &Observed) -> Option<bool> {
    let tried = observed.proxies.iter().filter(|proxy| proxy.connects_failed + proxy.connects_done > 0);
    let (failing, all) = tried
        .fold((0_usize, 0_usize), |(failing, all), proxy| (failing + usize::from(proxy.connects_done == 0), all + 1));
    (all > 0).then_some(failing * 2 > all)
}
