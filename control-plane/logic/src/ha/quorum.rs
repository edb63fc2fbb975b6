//! The arithmetic of quorums, and whom a set of sealed members may promote.
//!
//! Why it is safe (P1, P2): a commit of a reign was released by `needed` members of a set that the leader enforced. If
//! the sealed members meet every such group of every set that may have been enforced, one of them has the commit; and
//! among members of one history whoever has the furthest position has all that the others have. A member that holds a
//! barrier has everything that was released under earlier sets, so only the sets from its own barrier on are asked.

use std::collections::BTreeSet;

use uuid::Uuid;
use windlass_core::id::MemberId;

use super::{
    cluster::{AckSet, Cluster, Reign},
    facts::Barrier,
};

/// One member in an election.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Voter {
    /// Who.
    pub(super) id: MemberId,
    /// It promised to follow nobody of a lower epoch (or, when asking what could be, it would).
    pub(super) sealed: bool,
    /// It answers now.
    pub(super) alive: bool,
    /// It may be promoted: synchronous and staying.
    pub(super) eligible: bool,
    /// Its newest barrier.
    pub(super) barrier: Barrier,
    /// The nonce of that barrier.
    pub(super) nonce: Option<Uuid>,
    /// Durable end; 0 if it has no data.
    pub(super) flushed: u64,
    /// Replayed end.
    pub(super) replayed: u64,
    /// Among equals the higher one wins.
    pub(super) priority: i32,
}

impl Voter {
    /// It has received more than it replayed, so its barrier may be older than its data.
    fn is_replaying(&self) -> bool {
        self.replayed < self.flushed
    }
}

/// Who may be promoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Winner {
    /// Who.
    pub(super) id: MemberId,
    /// Whose sets were proven covered.
    pub(super) base: Base,
}

/// Which reign an election continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// The last one.
    Reign,
    /// The one before: the last one never let anybody in.
    Previous,
}

/// Whether every group of members that could release a commit under any of the sets has one of `quorum`.
pub fn covers(quorum: &BTreeSet<MemberId>, sets: &[AckSet]) -> bool {
    !sets.is_empty() && sets.iter().all(|set| !set.is_alone() && quorum_of(quorum, set) >= seals_needed(set))
}

/// How many members of a set must be sealed: `|set| − needed + 1`.
pub fn seals_needed(set: &AckSet) -> usize {
    (set.members.len() + 1).saturating_sub(set.needed as usize)
}

fn quorum_of(quorum: &BTreeSet<MemberId>, set: &AckSet) -> usize {
    quorum.intersection(&set.members).count()
}

/// The best member that may be promoted without loss.
///
/// # Errors
/// Why none may.
pub(super) fn winner(cluster: &Cluster, voters: &[Voter], to: Option<MemberId>) -> Result<Winner, String> {
    let reign = &cluster.reign;
    let opened = cluster.previous.is_none();
    let floor = if opened { reign.oldest().rev } else { 0 };
    let mut able: Vec<&Voter> = of_reign(voters, reign)
        .filter(|voter| voter.alive && voter.eligible && voter.barrier.rev >= floor)
        .filter(|voter| voter.id == reign.leader && !reign.is_presumed() || covered_by(voter, voters, reign))
        .collect();
    // The elected leader has all there was before it, even if it died before it wrote a barrier.
    if let (true, Some(previous)) = (able.is_empty(), &cluster.previous) {
        let leader = voters.iter().filter(|voter| voter.sealed && voter.alive && voter.eligible && voter.flushed > 0);
        able.extend(leader.filter(|voter| voter.id == reign.leader && voter.barrier.epoch >= previous.epoch));
    }
    if let Some(id) = best(&able, to) {
        return Ok(Winner { id, base: Base::Reign });
    }
    if let Some(previous) = &cluster.previous
        && of_reign(voters, reign).next().is_none()
        && never_opened(voters, reign)
    {
        let able: Vec<&Voter> = of_reign(voters, previous)
            .filter(|voter| voter.alive && voter.eligible && voter.barrier.rev >= previous.oldest().rev)
            .filter(|voter| voter.id == previous.leader || covered_by(voter, voters, previous))
            .collect();
        if let Some(id) = best(&able, to) {
            return Ok(Winner { id, base: Base::Previous });
        }
        return Err(missing(cluster, voters, previous));
    }
    Err(missing(cluster, voters, reign))
}

/// Sealed members with data of this reign's history.
fn of_reign<'a>(voters: &'a [Voter], reign: &'a Reign) -> impl Iterator<Item = &'a Voter> {
    voters.iter().filter(|voter| {
        voter.sealed && voter.flushed > 0 && voter.barrier.epoch == reign.epoch && voter.nonce == Some(reign.nonce)
    })
}

/// The sealed members that have nothing beyond `voter` cover every set that may count for it.
fn covered_by(voter: &Voter, voters: &[Voter], reign: &Reign) -> bool {
    let behind = |other: &&Voter| {
        let elsewhere = other.barrier.epoch < reign.epoch && !other.is_replaying();
        other.sealed && other.flushed > 0 && (elsewhere || other.flushed <= voter.flushed)
    };
    let quorum: BTreeSet<MemberId> = voters.iter().filter(behind).map(|other| other.id).collect();
    let from = reign.sets.iter().rposition(|set| set.rev <= voter.barrier.rev).unwrap_or(0);
    covers(&quorum, &reign.sets[from..])
}

/// So many members of each set are sealed without its barrier that it can never have been acknowledged.
fn never_opened(voters: &[Voter], reign: &Reign) -> bool {
    let without = |voter: &&Voter| {
        voter.sealed && voter.flushed > 0 && !voter.is_replaying() && voter.barrier.epoch < reign.epoch
    };
    covers(&voters.iter().filter(without).map(|voter| voter.id).collect(), &reign.sets)
}

/// The furthest; among equals the highest priority. An operator's wish is taken if it is among the able.
fn best(able: &[&Voter], to: Option<MemberId>) -> Option<MemberId> {
    if let Some(wished) = able.iter().find(|voter| Some(voter.id) == to) {
        return Some(wished.id);
    }
    able.iter().max_by_key(|voter| (voter.flushed, voter.priority, voter.id)).map(|voter| voter.id)
}

/// Why nobody may be promoted.
fn missing(cluster: &Cluster, voters: &[Voter], reign: &Reign) -> String {
    let leader = cluster.name(reign.leader);
    if let Some(set) = reign.sets.iter().find(|set| set.is_alone()) {
        let since = if set.rev == reign.ordered().rev { "committed alone" } else { "may have committed alone" };
        return format!("{leader} {since}, so only it has everything; waiting for it to come back");
    }
    let sealed = |id: &&MemberId| voters.iter().any(|voter| voter.id == **id && voter.sealed && voter.flushed > 0);
    for set in &reign.sets {
        let (have, lack): (Vec<_>, Vec<_>) = set.members.iter().partition(sealed);
        if have.len() < seals_needed(set) {
            let more = seals_needed(set) - have.len();
            return format!(
                "epoch {}: an acknowledged commit may be on {}; waiting for {more} of them, or for {leader}, to answer",
                reign.epoch,
                cluster.names(lack)
            );
        }
    }
    if voters.iter().any(|voter| voter.sealed && voter.is_replaying()) {
        return format!("epoch {}: the sealed members are still replaying what they received", reign.epoch);
    }
    let furthest = voters.iter().filter(|voter| voter.sealed).max_by_key(|voter| voter.flushed);
    match furthest {
        Some(voter) if !voter.alive => {
            format!("epoch {}: {} has the furthest position and does not answer", reign.epoch, cluster.name(voter.id))
        }
        Some(_) | None => format!(
            "epoch {}: no sealed member holds the barrier {} of its history; waiting for {leader}",
            reign.epoch,
            reign.oldest().rev
        ),
    }
}
