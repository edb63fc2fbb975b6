//! Who acknowledges: growing, shrinking, going alone and back (rows 4 to 7), and changes of how many must.
//!
//! One rule makes every row safe: a set is added to those that the leader may be enforcing before it is ordered, and
//! the older ones are dropped only when the leader reads the new one back from its server and has its barrier
//! acknowledged. Dropping needs the barrier also when a set gets smaller: until then a commit may be on the member that
//! leaves and nowhere else. A crash at any point leaves too many sets stored, which only makes elections ask for more.

use std::{collections::BTreeSet, time::Duration};

use windlass_core::{id::MemberId, replication::ReplicaState};

use super::{
    cluster::{AckSet, Cluster},
    decide::Draft,
    facts::{Barrier, Facts},
    happened::Happened,
    observed::Observed,
};

/// A member joins the ackers when it is less than this far behind.
pub(super) const GROW_LAG_BYTES: u64 = 16 << 20;
/// How long commits wait for a member whose own agent says that its server is down: a restart in place is quicker.
const SERVER_DOWN: Duration = Duration::from_millis(500);
/// Most sets that may wait for their barrier; then the set stays as it is.
const PENDING_MAX: usize = 6;

/// Whether members may join now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joining {
    /// They may.
    Open,
    /// A new leader waits for its first barrier, which a change of the set would only delay.
    Later,
}

/// Follows the members with the ack set. `leader` are fresh facts of a leader that leads the present epoch.
pub(super) fn follow(draft: &mut Draft<'_>, leader: &Facts, joining: Joining, patience: Duration) {
    confirm(draft, leader);
    let ordered = draft.next.reign.ordered().clone();
    let left = ordered.members.iter().filter_map(|id| time_left(draft, *id, patience));
    if let Some(left) = left.filter(|left| !left.is_zero()).min() {
        draft.look_again(left);
    }
    let lost = lost(draft, leader, &ordered, patience);
    let mut members: BTreeSet<MemberId> = ordered.members.difference(&lost).copied().collect();
    let settled = draft.next.reign.sets.len() == 1;
    let fit = fit(draft.now, draft.observed, leader);
    let mut causes = Vec::new();
    if !lost.is_empty() {
        causes.push(format!("{} no longer acknowledges", draft.now.names(&lost)));
    }
    if joining == Joining::Open && (settled || members.is_empty()) {
        let joined: BTreeSet<_> = fit.difference(&ordered.members).copied().collect();
        if !joined.is_empty() {
            causes.push(format!("{} has caught up", draft.now.names(&joined)));
        }
        members.extend(joined);
    }
    if members.is_empty() && !ordered.is_alone() && !draft.now.may_go_alone() {
        return draft.wait(format!(
            "commits wait: {} does not acknowledge, and going on alone is not allowed (durability)",
            draft.now.names(&ordered.members)
        ));
    }
    let needed = draft.now.acks_wanted().min(u32::try_from(members.len()).unwrap_or(u32::MAX));
    if members == ordered.members && needed == ordered.needed {
        return explain(draft, leader);
    }
    if members == ordered.members && !settled {
        return explain(draft, leader);
    }
    if draft.next.reign.sets.len() >= PENDING_MAX {
        return draft
            .wait("the set of acknowledging members should change, but its last changes are not confirmed yet");
    }
    if causes.is_empty() {
        causes.push(format!("commits shall wait for {needed}"));
    }
    let set = AckSet { rev: draft.rev(), members, needed };
    let acks = set.members.iter().copied().collect();
    draft.happened.push(Happened::SetChanged { rev: set.rev, acks, needed, cause: causes.join("; ") });
    draft.next.reign.sets.push(set);
}

/// Drops the sets that the leader has left for good.
fn confirm(draft: &mut Draft<'_>, leader: &Facts) {
    let Some(at) = proven(draft.now, leader) else { return };
    if at == 0 {
        return;
    }
    draft.next.reign.sets.drain(..at);
    let set = draft.next.reign.oldest();
    let acks = set.members.iter().copied().collect();
    let happened = Happened::SetConfirmed { rev: set.rev, acks, needed: set.needed };
    draft.happened.push(happened);
}

/// Position of the newest set that is in force for sure: read back from the server, nobody else is counted there, and
/// its barrier is acknowledged.
fn proven(cluster: &Cluster, leader: &Facts) -> Option<usize> {
    let enforced = leader.enforced.as_ref()?;
    cluster.reign.sets.iter().rposition(|set| {
        let counted = |id: MemberId| set.members.contains(&id);
        enforced.rev >= set.rev
            && enforced.acks == set.members
            && enforced.needed == set.needed
            && leader.barrier >= Barrier { epoch: cluster.reign.epoch, rev: set.rev }
            && leader.downstream.iter().all(|down| !down.acknowledges || counted(down.member))
    })
}

/// Members of the set that have been away or far behind for too long, or are no longer to count. One whose data is not
/// trusted may go on streaming, but could not be elected: commits must not rest on it.
fn lost(draft: &Draft<'_>, leader: &Facts, set: &AckSet, patience: Duration) -> BTreeSet<MemberId> {
    let link = |id: &MemberId| draft.observed.links.get(id).copied().unwrap_or_default();
    let counts = |id: &MemberId| draft.now.members.get(id).is_some_and(super::cluster::Member::counts);
    let away = |id: &MemberId| time_left(draft, *id, patience).is_some_and(|left| left.is_zero());
    let distrusted =
        |id: &MemberId| draft.observed.members.get(id).is_some_and(|seen| seen.facts.state == ReplicaState::Quarantine);
    let gone = |id: &MemberId| !counts(id) || away(id) || distrusted(id);
    let mut lost: BTreeSet<MemberId> = set.members.iter().copied().filter(gone).collect();
    let slow = |id: &&MemberId| link(id).slow_for.is_some_and(|since| since >= patience);
    let well = |id: &&MemberId| {
        !lost.contains(id) && !slow(id) && leader.downstream_of(**id).is_some_and(|down| down.streaming)
    };
    // A slow member is only let go if enough others keep up.
    if set.members.iter().filter(well).count() >= set.needed.max(1) as usize {
        let behind: Vec<_> = set.members.iter().filter(slow).copied().collect();
        lost.extend(behind);
    }
    lost
}

/// How long a member that is away is still waited for; None if it is there.
fn time_left(draft: &Draft<'_>, id: MemberId, patience: Duration) -> Option<Duration> {
    let away = draft.observed.links.get(&id)?.away_for?;
    let limit = if is_down(draft, id) {
        patience.min(SERVER_DOWN)
    } else if is_unheard(draft, id) {
        patience.min(Duration::from_millis(draft.now.timings().detect_ms.into()))
    } else {
        patience
    };
    Some(limit.saturating_sub(away))
}

/// Its own agent says that its server does not run, so there is no doubt whether it is only hard to reach.
fn is_down(draft: &Draft<'_>, id: MemberId) -> bool {
    let detect = Duration::from_millis(draft.now.timings().detect_ms.into());
    draft.observed.fresh(id, detect).is_some_and(|facts| match facts.state {
        ReplicaState::New
        | ReplicaState::Cloning
        | ReplicaState::Draining
        | ReplicaState::CleanStop
        | ReplicaState::Crashed
        | ReplicaState::Demoted
        | ReplicaState::Rejoining
        | ReplicaState::Quarantine
        | ReplicaState::Resting => true,
        ReplicaState::Catchup
        | ReplicaState::Standby
        | ReplicaState::Sealed
        | ReplicaState::Promoting
        | ReplicaState::Gated
        | ReplicaState::Open
        | ReplicaState::Fenced => false,
    })
}

/// Its host has been silent for so long that it may be held for dead; the leader hears nothing from it either.
fn is_unheard(draft: &Draft<'_>, id: MemberId) -> bool {
    let detect = Duration::from_millis(draft.now.timings().detect_ms.into());
    let host = draft.now.members.get(&id).and_then(|member| draft.observed.hosts.get(&member.host));
    host.is_some_and(|host| host.silent_for >= detect)
}

/// Members that may join: following this epoch under their epoch name, nearly caught up, with an agent that answers.
fn fit(cluster: &Cluster, observed: &Observed, leader: &Facts) -> BTreeSet<MemberId> {
    let detect = Duration::from_millis(cluster.timings().detect_ms.into());
    let fits = |id: &MemberId| {
        let follows = observed
            .fresh(*id, detect)
            .is_some_and(|facts| facts.state == ReplicaState::Standby && facts.role_epoch == cluster.epoch);
        let near = leader.downstream_of(*id).is_some_and(|down| {
            down.streaming
                && down.epoch == cluster.epoch
                && leader.flushed.saturating_sub(down.flushed) < GROW_LAG_BYTES
        });
        follows && near
    };
    cluster
        .members
        .iter()
        .filter(|(id, member)| **id != cluster.reign.leader && member.counts() && fits(id))
        .map(|(id, _)| *id)
        .collect()
}

fn explain(draft: &mut Draft<'_>, leader: &Facts) {
    for id in &draft.now.reign.ordered().members {
        if let Some(away) = draft.observed.links.get(id).and_then(|link| link.away_for) {
            draft.wait(format!("{} has not acknowledged commits for {away:.1?}", draft.now.name(*id)));
        }
    }
    if draft.next.reign.sets.len() > 1 {
        let set = draft.next.reign.ordered().clone();
        let has = leader.enforced.as_ref().map_or(0, |enforced| enforced.rev);
        draft.wait(format!(
            "waiting for {} to confirm the acknowledging members of rev {} ({}); it enforces rev {has}",
            draft.now.name(draft.now.reign.leader),
            set.rev,
            draft.now.names(&set.members)
        ));
    }
}
