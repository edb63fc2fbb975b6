//! Somebody leads: watch it, serve intents, let the ack set and the members follow what is known.

use std::time::Duration;

use windlass_core::replication::ReplicaState;

use super::{
    acks::{self, Joining},
    cluster::{Cluster, Kind, Stay},
    decide::Draft,
    election,
    facts::Facts,
    happened::Happened,
    observed::Observed,
    phase::{Election, Intent, Loss, Outcome, Phase, Promotion, RestStep},
    switchover,
    verdict::{DISTRUST, Evidence, META_SLOW, Verdict, verdict},
};

/// Automatic failovers within [`FLAP_WINDOW`] after which only positive evidence of death counts.
pub(super) const FLAPS: usize = 3;
/// See [`FLAPS`].
pub(super) const FLAP_WINDOW: Duration = Duration::from_secs(600);

pub(super) fn step(draft: &mut Draft<'_>) {
    watch_silence(draft);
    if let Intent::Failover { .. } = draft.now.intent {
        return by_operator(draft);
    }
    if let Intent::Rest { .. } = draft.now.intent {
        draft.next.phase = Phase::Resting(RestStep::Leader);
        return;
    }
    match verdict(draft.now, draft.observed) {
        Verdict::Alive => {}
        Verdict::Doubt(why) => {
            draft.wait(why);
            draft.look_again(Duration::from_millis(100));
        }
        Verdict::Down(evidence) => return fail_over(draft, &evidence),
    }
    let Some(leader) = leading(draft.now, draft.observed).cloned() else { return };
    learn(draft, &leader);
    let joining = if leader.state == ReplicaState::Open { Joining::Open } else { Joining::Later };
    let patience = Duration::from_millis(draft.now.timings().shrink_ms.into());
    acks::follow(draft, &leader, joining, patience);
    care(draft);
    progress(draft);
    if let Intent::Switchover { id, to, patience } = draft.now.intent {
        switchover::begin(draft, &leader, id, to, patience);
    }
}

/// Fresh facts of the leader, if it leads the present epoch.
pub(super) fn leading<'a>(cluster: &Cluster, observed: &'a Observed) -> Option<&'a Facts> {
    let detect = Duration::from_millis(cluster.timings().detect_ms.into());
    observed.fresh(cluster.reign.leader, detect).filter(|facts| facts.leads(cluster.epoch))
}

/// Keeps the system identifier of the data, by which foreign data is told.
pub(super) fn learn(draft: &mut Draft<'_>, leader: &Facts) {
    if draft.next.system.is_empty() {
        draft.next.system.clone_from(&leader.lineage.system);
    }
}

/// Asks to be woken when the leader's host would have been silent for too long.
pub(super) fn watch_silence(draft: &mut Draft<'_>) {
    let detect = Duration::from_millis(draft.now.timings().detect_ms.into());
    let leader = draft.now.members.get(&draft.now.reign.leader);
    if let Some(host) = leader.and_then(|member| draft.observed.hosts.get(&member.host)) {
        let left = detect.saturating_sub(host.silent_for);
        draft.look_again(left.max(Duration::from_millis(50)));
    }
}

/// Gives the leader up if anybody may be promoted and nothing speaks against it.
pub(super) fn fail_over(draft: &mut Draft<'_>, evidence: &Evidence) {
    let cause = evidence.cause().to_owned();
    draft.look_again(Duration::from_millis(100));
    if let Err(why) = election::feasible(draft.now, draft.observed, None) {
        return draft.wait(format!("{cause}; not failing over: {why}"));
    }
    if let Some(why) = held(draft, evidence) {
        return draft.wait(format!("{cause}; not failing over: {why}"));
    }
    let wall = draft.observed.wall;
    let lost = draft.observed.members.get(&draft.now.reign.leader).map_or(Duration::ZERO, |seen| match evidence {
        Evidence::Server(_) => seen.state_for,
        Evidence::Host(_) | Evidence::Useless(_) => seen.age,
    });
    draft.next.failovers.retain(|at| wall.duration_since(*at).unsigned_abs() < FLAP_WINDOW);
    draft.next.failovers.push(wall);
    give_up_switchover(draft, "the primary failed; it is replaced by an election");
    election::start(draft, Election { cause, to: None, loss: Loss::Forbidden }, lost);
}

/// Why a failover that could be is held back.
fn held(draft: &Draft<'_>, evidence: &Evidence) -> Option<String> {
    let node = draft.observed.node;
    if node.meta_round_trip > META_SLOW {
        return Some(format!(
            "the metadata answers only after {:.1?}: this node distrusts itself",
            node.meta_round_trip
        ));
    }
    if let (Some(ago), false) = (node.mass_silence, matches!(evidence, Evidence::Server(_)))
        && ago < DISTRUST
    {
        return Some("many agents fell silent at once: this node distrusts itself".to_owned());
    }
    let wall = draft.observed.wall;
    let lately = draft.now.failovers.iter().filter(|at| wall.duration_since(**at).unsigned_abs() < FLAP_WINDOW).count();
    if lately >= FLAPS && !evidence.is_positive() {
        return Some(format!(
            "there were {lately} failovers within {} minutes and nothing proves that the primary is dead; \
             use failover --force if it is",
            FLAP_WINDOW.as_secs() / 60
        ));
    }
    None
}

/// `failover --force`.
pub(super) fn by_operator(draft: &mut Draft<'_>) {
    let Intent::Failover { id, to, loss } = draft.now.intent else { return };
    let failure = match (loss, election::feasible(draft.now, draft.observed, to)) {
        (Loss::Allowed, _) => None,
        (Loss::Forbidden, Err(why)) => Some(format!("{why}; --allow-data-loss would go on without it")),
        (Loss::Forbidden, Ok(chosen)) => to.filter(|to| *to != chosen).map(|to| {
            let (to, chosen) = (draft.now.name(to), draft.now.name(chosen));
            format!("{to} may lack acknowledged commits or does not answer; {chosen} has all of them")
        }),
    };
    if let Some(failure) = failure {
        draft.next.intent = Intent::None;
        draft.next.outcome = Some(Outcome { id, failure });
        return;
    }
    let cause = "an operator ordered it".to_owned();
    election::start(draft, Election { cause, to, loss }, Duration::ZERO);
}

/// A switchover that was asked for cannot be had any more.
pub(super) fn give_up_switchover(draft: &mut Draft<'_>, cause: &str) {
    let id = match (&draft.next.intent, &draft.next.phase, &draft.next.outcome) {
        (Intent::Switchover { id, .. }, ..) => *id,
        (_, Phase::Switchover(switch), _) => switch.id,
        // Its outcome said that it was reached, but nobody has been let in yet.
        (_, Phase::Promoting(Promotion::Switchover), Some(outcome)) => outcome.id,
        (Intent::None | Intent::Failover { .. } | Intent::Rest { .. }, ..) => return,
    };
    draft.happened.push(Happened::SwitchoverGivenUp { cause: cause.to_owned() });
    if matches!(draft.next.intent, Intent::Switchover { .. }) {
        draft.next.intent = Intent::None;
    }
    draft.next.outcome = Some(Outcome { id, failure: cause.to_owned() });
}

/// Says which members do not follow yet, and how far they are.
fn progress(draft: &mut Draft<'_>) {
    let detect = Duration::from_millis(draft.now.timings().detect_ms.into());
    for (id, member) in &draft.now.members {
        if *id == draft.now.reign.leader {
            continue;
        }
        let name = draft.now.name(*id);
        let Some(facts) = draft.observed.fresh(*id, detect) else {
            draft.wait(format!("{name} does not answer"));
            continue;
        };
        let done = match (member.stay, facts.state) {
            (Stay::Leaving, ReplicaState::Resting) | (Stay::Staying, ReplicaState::Standby) => true,
            (Stay::Staying, ReplicaState::Catchup) => member.kind == Kind::Asynchronous,
            (Stay::Staying | Stay::Leaving, _) => false,
        };
        if !done {
            let percent = facts.progress_percent.map(|percent| format!(" ({percent} %)")).unwrap_or_default();
            let because = if facts.reason.is_empty() { String::new() } else { format!(": {}", facts.reason) };
            draft.wait(format!("{name} is {}{percent}{because}", facts.state));
        }
    }
}

/// Members whose data is not trusted are copied anew. Also ackers, without which commits may wait for ever: somebody
/// leads and so has all that they acknowledged, and no election counts them until they have it again.
pub(super) fn care(draft: &mut Draft<'_>) {
    let leader = draft.next.reign.leader;
    let detect = Duration::from_millis(draft.now.timings().detect_ms.into());
    for (id, member) in &mut draft.next.members {
        let Some(facts) = draft.observed.fresh(*id, detect).filter(|_| *id != leader) else { continue };
        let copied = matches!(facts.state, ReplicaState::Catchup | ReplicaState::Standby);
        if facts.state == ReplicaState::Quarantine && !member.clone_anew {
            member.clone_anew = true;
            draft.happened.push(Happened::CloneOrdered { member: *id, cause: facts.reason.clone() });
        } else if member.clone_anew && copied && facts.applied_rev >= member.order_rev {
            member.clone_anew = false;
        }
    }
}
