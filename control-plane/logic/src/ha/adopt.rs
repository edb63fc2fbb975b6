//! Agents know more than the stored row: the metadata lost its last changes, or was restored from a backup.
//!
//! Nothing is ordered until the truth is known. Then an epoch above all that was seen is taken, and either the member
//! that leads is taken over with the ack set that it enforces, or, if nobody leads, everybody is sealed and elects.
//! Orders of the lost future are harmless: their epoch is lower (P10).

use std::time::Duration;

use uuid::Uuid;
use windlass_core::{id::MemberId, replication::ReplicaState};

use super::{
    cluster::{AckSet, Cluster, Reign},
    decide::Draft,
    facts::{Barrier, Facts},
    happened::Happened,
    observed::Observed,
    phase::{Election, Loss, Phase, Promotion},
    quorum::Voter,
};

/// Starts the rebuilding if any agent is ahead.
pub(super) fn begin(draft: &mut Draft<'_>) -> bool {
    if draft.now.phase == Phase::Reconciling {
        return false;
    }
    let Some(cause) = ahead(draft.now, draft.observed) else { return false };
    draft.next.phase = Phase::Reconciling;
    draft.happened.push(Happened::ReconcileStarted { cause });
    true
}

/// Who is ahead of the row.
fn ahead(cluster: &Cluster, observed: &Observed) -> Option<String> {
    observed.members.iter().filter(|(id, _)| cluster.members.contains_key(id)).find_map(|(id, seen)| {
        let facts = &seen.facts;
        let epoch = facts.max_epoch > cluster.epoch;
        let rev = facts.max_epoch == cluster.epoch && facts.applied_rev > cluster.rev;
        // A barrier of a set that the row does not have: commits may rest on members that it does not know of.
        let newest = Barrier { epoch: cluster.reign.epoch, rev: cluster.reign.ordered().rev };
        let barrier = !cluster.reign.is_presumed() && facts.barrier > newest;
        (epoch || rev || barrier).then(|| {
            format!(
                "{} has seen epoch {} rev {}, but the metadata has epoch {} rev {}",
                cluster.name(*id),
                facts.max_epoch,
                facts.applied_rev,
                cluster.epoch,
                cluster.rev
            )
        })
    })
}

pub(super) fn step(draft: &mut Draft<'_>, nonce: Uuid) {
    draft.look_again(Duration::from_millis(200));
    let detect = Duration::from_millis(draft.now.timings().detect_ms.into());
    let known: Vec<(MemberId, &Facts)> =
        draft.now.members.keys().filter_map(|id| Some((*id, draft.observed.fresh(*id, detect)?))).collect();
    let silent: Vec<_> =
        draft.now.members.keys().filter(|id| known.iter().all(|(known, _)| known != *id)).copied().collect();
    let epoch = known.iter().map(|(_, facts)| facts.max_epoch).max().unwrap_or(0).max(draft.now.epoch) + 1;
    let rev = known.iter().map(|(_, facts)| facts.applied_rev.max(facts.barrier.rev)).max();
    let rev = rev.unwrap_or(0).max(draft.now.rev) + 1;
    let leader =
        known.iter().filter(|(_, facts)| leads(facts)).max_by_key(|(id, facts)| (facts.role_epoch, facts.barrier, *id));
    if let Some((id, facts)) = leader
        && (silent.is_empty() || unbeaten(*id, facts, &known))
    {
        let (id, facts) = (*id, (*facts).clone());
        return take_over(draft, id, &facts, epoch, rev, nonce);
    }
    if !silent.is_empty() {
        let names = draft.now.names(&silent);
        return draft.wait(format!("the metadata is behind its agents; waiting for {names} to report"));
    }
    elect(draft, &known.into_iter().map(|(id, facts)| (id, facts.clone())).collect::<Vec<_>>(), epoch, rev);
}

fn leads(facts: &Facts) -> bool {
    facts.leads(facts.role_epoch) && facts.state != ReplicaState::Promoting && facts.role_epoch == facts.barrier.epoch
}

/// So many of its ackers have seen nothing higher that nobody can have been promoted after it.
fn unbeaten(leader: MemberId, facts: &Facts, known: &[(MemberId, &Facts)]) -> bool {
    let Some(enforced) = facts.enforced.as_ref().filter(|enforced| enforced.needed > 0) else { return false };
    let loyal = known
        .iter()
        .filter(|(id, other)| *id != leader && enforced.acks.contains(id) && other.max_epoch <= facts.role_epoch);
    loyal.count() >= enforced.needed as usize && facts.max_epoch == facts.role_epoch
}

/// Takes a member over that leads, with the set that it enforces.
fn take_over(draft: &mut Draft<'_>, leader: MemberId, facts: &Facts, epoch: u64, rev: u64, nonce: Uuid) {
    let enforced = facts.enforced.clone().unwrap_or_default();
    let members = enforced.acks.into_iter().filter(|id| draft.now.members.contains_key(id)).collect();
    let before = AckSet { rev: facts.barrier.rev.max(enforced.barrier_rev), members, needed: enforced.needed };
    let old = facts.lineage.nonce.unwrap_or(draft.now.reign.nonce);
    let mut reign = Reign::new(facts.role_epoch, old, leader, before.clone());
    if enforced.barrier_rev != facts.barrier.rev {
        // The set is not proven yet, and nobody remembers the one before: perhaps it committed alone.
        reign.sets.insert(0, AckSet::alone(0));
    }
    draft.next.previous = Some(reign);
    draft.next.epoch = epoch;
    draft.next.rev = rev;
    draft.next.reign = Reign::new(epoch, nonce, leader, AckSet { rev, ..before });
    draft.next.phase = Phase::Promoting(Promotion::Adoption);
    draft.happened.push(Happened::Adopted { epoch, leader });
}

/// Nobody leads, but everybody reported: all are sealed, and whoever has most is promoted. What they have is known for
/// sure only then, so the reign is a presumption until [`learn`] knows better.
fn elect(draft: &mut Draft<'_>, known: &[(MemberId, Facts)], epoch: u64, rev: u64) {
    let newest = known.iter().map(|(_, facts)| facts.barrier).max().unwrap_or_default();
    let holder = known.iter().filter(|(_, facts)| facts.barrier.epoch == newest.epoch);
    let Some((leader, facts)) = holder.max_by_key(|(id, facts)| (facts.flushed, *id)) else { return };
    let members = draft.now.members.iter().filter(|(_, member)| member.counts()).map(|(id, _)| *id).collect();
    let nonce = facts.lineage.nonce.unwrap_or(draft.now.reign.nonce);
    let set = AckSet { rev: 0, members, needed: 1 };
    draft.next.reign = Reign::new(newest.epoch, nonce, *leader, set);
    draft.next.previous = None;
    draft.next.epoch = epoch;
    draft.next.rev = rev;
    let cause = "the metadata lost its last changes and nobody leads".to_owned();
    draft.next.phase = Phase::Electing(Election { cause, to: None, loss: Loss::Forbidden });
}

/// The newest reign that the sealed members know of, if it is newer than what was presumed: servers that did not run when
/// the row was rebuilt had nothing to say.
pub(super) fn learn(cluster: &Cluster, voters: &[Voter]) -> Option<Reign> {
    let presumed = &cluster.reign;
    let sealed = voters.iter().filter(|voter| voter.sealed && voter.flushed > 0);
    let newest = sealed.max_by_key(|voter| (voter.barrier, voter.flushed, voter.id))?;
    let (epoch, nonce, leader) = (newest.barrier.epoch, newest.nonce?, newest.id);
    let known = Reign { epoch, nonce, leader, sets: presumed.sets.clone(), handed_over: None };
    (presumed.is_presumed() && known.epoch > presumed.epoch).then_some(known)
}
