//! From what agents report to what decisions are made of. Pure.

use std::{collections::BTreeSet, time::Duration};

use uuid::Uuid;
use windlass_core::{
    id::{InstanceId, MemberId},
    replication::ReplicaState,
};
use windlass_logic::ha::{Barrier, Downstream, Enforced, Facts, Lineage, Upstream};
use windlass_proto::agent::v1 as pb;

use crate::routes::Follower;

/// Longest text of an agent that is kept, in bytes.
const LONGEST: usize = 4096;

/// The facts of one member. None when they name no member or no state that this version knows.
pub(super) fn read(facts: pb::ReplicaFacts) -> Option<(InstanceId, MemberId, Facts)> {
    let instance = facts.instance_id.parse().ok()?;
    let member = facts.member_id.parse().ok()?;
    let state = state(facts.state())?;
    let read = Facts {
        max_epoch: facts.max_epoch,
        applied_rev: facts.applied_rev,
        state,
        role_epoch: facts.role_epoch,
        lineage: facts.lineage.map(lineage).unwrap_or_default(),
        barrier: Barrier { epoch: facts.barrier_epoch, rev: facts.barrier_rev },
        flushed: facts.flushed_lsn,
        replayed: facts.replayed_lsn,
        redo_bytes: facts.redo_bytes,
        upstream: facts.upstream.map(upstream),
        downstream: facts.downstream.iter().filter_map(downstream).collect(),
        enforced: facts.enforced.map(enforced),
        reason: clean(&facts.reason),
        starts: facts.starts,
        crashes: facts.crashes,
        must_not_restart: facts.must_not_restart,
        lost_writes: clean(&facts.lost_writes),
        progress_percent: u8::try_from(facts.progress_percent).ok(),
        checkpoint_rev: facts.checkpoint_rev,
    };
    Some((instance, member, read))
}

/// Who follows the leaders of a report, for their routes.
pub(super) fn followers(report: &pb::ReplicationReport) -> Vec<(InstanceId, Vec<Follower>)> {
    let leads = |state| matches!(state, pb::ReplicaState::Gated | pb::ReplicaState::Open | pb::ReplicaState::Fenced);
    let leaders = report.members.iter().filter(|facts| leads(facts.state()));
    let of = |facts: &pb::ReplicaFacts| {
        let seen = facts.downstream.iter().filter_map(downstream).map(|down| Follower {
            member: down.member,
            streaming: down.streaming && down.epoch == facts.role_epoch,
            lag_bytes: facts.flushed_lsn.saturating_sub(down.replayed),
        });
        Some((facts.instance_id.parse().ok()?, seen.collect()))
    };
    leaders.filter_map(of).collect()
}

/// Facts without what changes with every commit: two that are equal so lead to the same decision while nothing is
/// under way.
pub(super) fn outline(facts: &Facts) -> Facts {
    let upstream = facts.upstream.clone().map(|up| Upstream { silent_for: Duration::ZERO, ..up });
    // The first position that a follower tells is more than a position: it may be counted from then on.
    let begun = |down: &Downstream| Downstream { flushed: down.flushed.min(1), replayed: 0, ..*down };
    let downstream = facts.downstream.iter().map(begun).collect();
    Facts { flushed: 0, replayed: 0, redo_bytes: 0, upstream, downstream, ..facts.clone() }
}

/// A duration of the wire; a negative one is none.
pub(super) fn duration(wire: pbjson_types::Duration) -> Duration {
    Duration::try_from(wire).unwrap_or_default()
}

fn state(state: pb::ReplicaState) -> Option<ReplicaState> {
    Some(match state {
        pb::ReplicaState::Unspecified => return None,
        pb::ReplicaState::New => ReplicaState::New,
        pb::ReplicaState::Cloning => ReplicaState::Cloning,
        pb::ReplicaState::Catchup => ReplicaState::Catchup,
        pb::ReplicaState::Standby => ReplicaState::Standby,
        pb::ReplicaState::Sealed => ReplicaState::Sealed,
        pb::ReplicaState::Promoting => ReplicaState::Promoting,
        pb::ReplicaState::Gated => ReplicaState::Gated,
        pb::ReplicaState::Open => ReplicaState::Open,
        pb::ReplicaState::Fenced => ReplicaState::Fenced,
        pb::ReplicaState::Draining => ReplicaState::Draining,
        pb::ReplicaState::CleanStop => ReplicaState::CleanStop,
        pb::ReplicaState::Crashed => ReplicaState::Crashed,
        pb::ReplicaState::Demoted => ReplicaState::Demoted,
        pb::ReplicaState::Rejoining => ReplicaState::Rejoining,
        pb::ReplicaState::Quarantine => ReplicaState::Quarantine,
        pb::ReplicaState::Resting => ReplicaState::Resting,
    })
}

fn lineage(lineage: pb::Lineage) -> Lineage {
    Lineage {
        system: clean(&lineage.system),
        timeline: lineage.timeline,
        fork: lineage.fork_lsn,
        nonce: Uuid::parse_str(&lineage.nonce).ok(),
    }
}

fn upstream(upstream: pb::Upstream) -> Upstream {
    Upstream {
        member: upstream.member_id.parse().ok(),
        streaming: upstream.streaming,
        application_name: clean(&upstream.application_name),
        silent_for: upstream.silent_for.map(duration).unwrap_or_default(),
    }
}

fn downstream(down: &pb::Downstream) -> Option<Downstream> {
    Some(Downstream {
        member: down.member_id.parse().ok()?,
        epoch: down.epoch,
        streaming: down.streaming,
        acknowledges: down.acknowledges,
        flushed: down.flushed_lsn,
        replayed: down.replayed_lsn,
    })
}

fn enforced(enforced: pb::Enforced) -> Enforced {
    let acks: BTreeSet<_> = enforced.acks.iter().filter_map(|id| id.parse().ok()).collect();
    Enforced { rev: enforced.rev, acks, needed: enforced.acks_needed, barrier_rev: enforced.barrier_rev }
}

/// Text that can be stored in JSON columns, which refuse NUL.
fn clean(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST)].replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_the_wire_is_the_word_of_the_same_name() {
        for word in ReplicaState::ALL {
            let wire = pb::ReplicaState::from_str_name(word.as_str()).expect("in the protocol");
            assert_eq!(state(wire), Some(*word));
        }
        assert_eq!(state(pb::ReplicaState::Unspecified), None);
    }

    #[test]
    fn positions_alone_are_no_news() {
        let facts = Facts { flushed: 5, ..Facts::of(ReplicaState::Open) };
        assert_eq!(outline(&facts), outline(&Facts { flushed: 9, replayed: 9, ..facts.clone() }));
        assert_ne!(outline(&facts), outline(&Facts { crashes: 1, ..facts.clone() }));
        let member = MemberId::new();
        let followed = |flushed| {
            let down =
                Downstream { member, epoch: 1, streaming: true, acknowledges: false, flushed, replayed: flushed };
            outline(&Facts { downstream: vec![down], ..facts.clone() })
        };
        assert_ne!(followed(0), followed(7), "it may be counted from now on");
        assert_eq!(followed(7), followed(8));
    }
}
