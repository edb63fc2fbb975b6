//! Who votes, whether an election could succeed, and its steps: seals, choice, order to lead (rows 8, 9, 11).
//!
//! A crash after the epoch was stored repeats the seals; a crash after the choice was stored repeats the order to lead.
//! Invariants: P3, positions count only of sealed members; P4, one leader is stored per epoch, by compare-and-swap.

use std::{collections::BTreeSet, time::Duration};

use uuid::Uuid;
use windlass_core::{id::MemberId, replication::ReplicaState};

use super::{
    adopt,
    cluster::{AckSet, Cluster, Reign},
    decide::Draft,
    facts::Facts,
    happened::{Happened, Timeline},
    observed::Observed,
    phase::{Election, Intent, Loss, Outcome, Phase, Promotion},
    quorum::{Base, Voter, Winner, winner},
};

/// How long an election that has its quorum waits for other members that answer but are not sealed yet.
const STRAGGLERS: Duration = Duration::from_millis(300);
/// How long an election without proof collects seals.
const FORCED_SEALS: Duration = Duration::from_secs(1);

/// Whose seals are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seals {
    /// Only promises that were made.
    Given,
    /// Those that would be made: of members that answer and have data; the leader's own is left out.
    Possible,
}

/// Starts an election.
pub(super) fn start(draft: &mut Draft<'_>, election: Election, lost: Duration) {
    let epoch = draft.next.epoch + 1;
    let wall = draft.observed.wall;
    let leader = draft.next.reign.leader;
    draft.happened.push(Happened::Detected { epoch, leader, cause: election.cause.clone() });
    draft.next.timeline =
        Some(Timeline { lost: wall.checked_sub(lost).unwrap_or(wall), detected: wall, sealed: None, promoted: None });
    draft.next.epoch = epoch;
    draft.next.phase = Phase::Electing(election);
}

/// Whom an election could promote without loss, going by who answers now; `to` if it is among them.
///
/// # Errors
/// Why nobody.
pub(super) fn feasible(cluster: &Cluster, observed: &Observed, to: Option<MemberId>) -> Result<MemberId, String> {
    winner(cluster, &voters(cluster, observed, Seals::Possible), to).map(|winner| winner.id)
}

/// Goes on with an election.
pub(super) fn step(draft: &mut Draft<'_>, election: &Election, nonce: Uuid) {
    let voters = voters(draft.now, draft.observed, Seals::Given);
    let forced = match &draft.now.intent {
        Intent::Failover { loss: Loss::Allowed, .. } => true,
        Intent::Failover { .. } | Intent::None | Intent::Switchover { .. } | Intent::Rest { .. } => {
            election.loss == Loss::Allowed
        }
    };
    let to = match &draft.now.intent {
        Intent::Failover { to: Some(to), .. } => Some(*to),
        Intent::Failover { .. } | Intent::None | Intent::Switchover { .. } | Intent::Rest { .. } => election.to,
    };
    draft.look_again(Duration::from_millis(50));
    if let Some(reign) = adopt::learn(draft.now, &voters) {
        draft.next.reign = reign;
        return;
    }
    match winner(draft.now, &voters, to) {
        Ok(chosen) => promote(draft, &voters, chosen, nonce),
        Err(why) if forced => force(draft, &voters, to, why, nonce),
        Err(why) => draft.wait(why),
    }
}

fn promote(draft: &mut Draft<'_>, voters: &[Voter], chosen: Winner, nonce: Uuid) {
    let former = draft.now.reign.leader;
    let unsealed: Vec<_> = draft
        .now
        .members
        .iter()
        .filter(|(id, member)| member.counts() && **id != former && !silent(draft.observed, draft.now, **id))
        .map(|(id, _)| *id)
        .filter(|id| !voters.iter().any(|voter| voter.id == *id && (voter.sealed || !voter.eligible)))
        .collect();
    if !unsealed.is_empty() && draft.observed.step_for < STRAGGLERS {
        return draft.wait(format!("waiting a moment for {} to be sealed too", draft.now.names(&unsealed)));
    }
    let mut acks: BTreeSet<MemberId> = voters
        .iter()
        .filter(|voter| voter.sealed && voter.alive && voter.eligible && voter.flushed > 0)
        .map(|voter| voter.id)
        .filter(|id| *id != chosen.id && *id != former)
        .collect();
    if acks.is_empty() && !draft.now.may_go_alone() {
        // Its gate stays shut until one of them is back and has its barrier.
        let others = draft.now.members.iter().filter(|(id, member)| member.counts() && **id != chosen.id);
        acks.extend(others.map(|(id, _)| *id));
    }
    let previous = match chosen.base {
        Base::Reign => Some(draft.now.reign.clone()),
        Base::Previous => draft.now.previous.clone(),
    };
    crown(draft, chosen.id, acks, previous, Promotion::Failover, nonce);
}

/// Promotes without proof, because an operator said so.
fn force(draft: &mut Draft<'_>, voters: &[Voter], to: Option<MemberId>, why: String, nonce: Uuid) {
    let able: Vec<&Voter> = voters.iter().filter(|voter| voter.sealed && voter.alive && voter.flushed > 0).collect();
    let best = match to {
        Some(to) => able.iter().find(|voter| voter.id == to),
        None => able.iter().max_by_key(|voter| (voter.eligible, voter.barrier, voter.flushed, voter.priority)),
    };
    let everybody = voters.iter().all(|voter| voter.sealed || !voter.alive);
    let Some(best) = best else {
        return draft.wait(format!("nobody to promote has been sealed yet; {why}"));
    };
    if !everybody && draft.observed.step_for < FORCED_SEALS {
        return draft.wait(format!("collecting seals before promoting without proof; {why}"));
    }
    let id = best.id;
    let acks = able.iter().filter(|voter| voter.eligible && voter.id != id).map(|voter| voter.id).collect();
    let epoch = draft.now.epoch;
    draft.happened.push(Happened::DataLossAccepted { epoch, leader: id, cause: why });
    crown(draft, id, acks, None, Promotion::Failover, nonce);
}

/// Stores who leads the present epoch.
pub(super) fn crown(
    draft: &mut Draft<'_>,
    leader: MemberId,
    acks: BTreeSet<MemberId>,
    previous: Option<Reign>,
    why: Promotion,
    nonce: Uuid,
) {
    let needed = draft.next.acks_wanted().min(u32::try_from(acks.len()).unwrap_or(u32::MAX));
    let (epoch, wall) = (draft.next.epoch, draft.observed.wall);
    let set = AckSet { rev: draft.rev(), members: acks.clone(), needed };
    draft.next.reign = Reign::new(epoch, nonce, leader, set);
    draft.next.previous = previous;
    draft.next.phase = Phase::Promoting(why);
    if let Some(member) = draft.next.members.get_mut(&leader) {
        member.clone_anew = false;
    }
    if let Some(timeline) = &mut draft.next.timeline {
        timeline.sealed.get_or_insert(wall);
        timeline.promoted = Some(wall);
    }
    if let Intent::Failover { id, to, .. } = draft.next.intent {
        draft.next.intent = Intent::None;
        let failure = match to {
            Some(to) if to != leader => {
                let (wanted, leader) = (draft.next.name(to), draft.next.name(leader));
                format!("{leader} was promoted, because {wanted} lacks acknowledged commits or does not answer")
            }
            Some(_) | None => String::new(),
        };
        draft.next.outcome = Some(Outcome { id, failure });
    }
    draft.happened.push(Happened::Promoted { epoch, leader, acks: acks.into_iter().collect() });
}

fn voters(cluster: &Cluster, observed: &Observed, seals: Seals) -> Vec<Voter> {
    let fresh = Duration::from_millis(cluster.timings().detect_ms.into());
    cluster
        .members
        .iter()
        .filter_map(|(id, member)| {
            let seen = observed.members.get(id)?;
            let facts = &seen.facts;
            let alive = seen.age < fresh && !silent(observed, cluster, *id);
            let sealed = match seals {
                Seals::Given => sealed(facts, cluster.epoch),
                Seals::Possible => alive && *id != cluster.reign.leader && has_data(facts.state),
            };
            Some(Voter {
                id: *id,
                sealed,
                alive,
                eligible: member.counts() && !facts.must_not_restart,
                barrier: facts.barrier,
                nonce: facts.lineage.nonce,
                flushed: if same_system(cluster, facts) { facts.flushed } else { 0 },
                replayed: facts.replayed,
                priority: member.priority,
            })
        })
        .collect()
}

fn silent(observed: &Observed, cluster: &Cluster, id: MemberId) -> bool {
    let detect = Duration::from_millis(cluster.timings().detect_ms.into());
    let host = cluster.members.get(&id).and_then(|member| observed.hosts.get(&member.host));
    host.is_some_and(|host| host.silent_for >= detect)
}

fn same_system(cluster: &Cluster, facts: &Facts) -> bool {
    cluster.system.is_empty() || facts.lineage.system.is_empty() || facts.lineage.system == cluster.system
}

/// Promised, on disk, to follow nobody of a lower epoch; a demoted leader has stopped for the same reason.
fn sealed(facts: &Facts, epoch: u64) -> bool {
    match facts.state {
        ReplicaState::Sealed => facts.role_epoch == epoch,
        ReplicaState::Demoted => facts.max_epoch == epoch,
        ReplicaState::New
        | ReplicaState::Cloning
        | ReplicaState::Catchup
        | ReplicaState::Standby
        | ReplicaState::Promoting
        | ReplicaState::Gated
        | ReplicaState::Open
        | ReplicaState::Fenced
        | ReplicaState::Draining
        | ReplicaState::CleanStop
        | ReplicaState::Crashed
        | ReplicaState::Rejoining
        | ReplicaState::Quarantine
        | ReplicaState::Resting => false,
    }
}

/// A seal in this state would leave data that counts.
fn has_data(state: ReplicaState) -> bool {
    match state {
        ReplicaState::Catchup
        | ReplicaState::Standby
        | ReplicaState::Sealed
        | ReplicaState::Crashed
        | ReplicaState::CleanStop
        | ReplicaState::Demoted
        | ReplicaState::Resting => true,
        ReplicaState::New
        | ReplicaState::Cloning
        | ReplicaState::Promoting
        | ReplicaState::Gated
        | ReplicaState::Open
        | ReplicaState::Fenced
        | ReplicaState::Draining
        | ReplicaState::Rejoining
        | ReplicaState::Quarantine => false,
    }
}
