//! What a member with data does before it follows a leader: goes on, is rewound, or is copied anew. Pure.
//!
//! The first rule that fits decides. The member runs as a standby of nobody while it is compared, so its end is exact.
//! What is thrown away is put aside first, always.

use crate::engines::postgres::replication::{Barrier, Leader, Lsn, Position, Relation, Shared, relation};

use super::{order::Follow, state::Promoting};

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rejoin {
    /// Follow: all that it has, the leader has.
    Point,
    /// Make the data a part of the leader's history.
    Rewind {
        /// The last common position.
        fork: Lsn,
    },
    /// Put the data aside and copy anew, and why.
    Copy(String),
    /// Not now, and why.
    Wait(String),
    /// It has more than its leader. It must not follow: once the leader has written as much again, the two would stream
    /// as if they were one.
    Ahead(String),
    /// The data is of another cluster: nothing is done by itself.
    Foreign(String),
}

/// What is known of the member itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) position: Position,
    /// Its newest barrier row.
    pub(super) barrier: Option<Barrier>,
    /// A promotion that was not confirmed.
    pub(super) promoting: Option<Promoting>,
    /// A rewind was tried for this epoch.
    pub(super) rewound: bool,
}

/// Decides.
pub(super) fn rejoin(epoch: u64, follow: &Follow, own: &Own, leader: &Leader) -> Rejoin {
    if leader.recovering {
        return Rejoin::Wait("the leader is not promoted yet".to_owned());
    }
    // The barrier row itself is not visible on the leader before it is acknowledged, perhaps by this very member.
    if leader.epoch != Some(epoch) {
        let leads = leader.epoch.map_or("none".to_owned(), |epoch| epoch.to_string());
        return Rejoin::Wait(format!("the leader is to lead epoch {epoch}, and leads {leads}"));
    }
    if let Some(promoting) = own.promoting
        && own.position.timeline != promoting.timeline
    {
        return Rejoin::Copy(format!(
            "it was promoted for epoch {} and never led it; its timeline may have another's number",
            promoting.epoch
        ));
    }
    // A row of the epoch that is ordered needs no witness: its nonce came with the order.
    let known = own.barrier.is_some_and(|row| row.epoch == epoch && row.nonce == follow.nonce);
    let shared = if known { Shared::Yes } else { leader.shared };
    match relation(&own.position, &leader.position, shared) {
        Relation::Foreign => Rejoin::Foreign(format!(
            "its data is of system {}, and the leader's of {}",
            own.position.system, leader.position.system
        )),
        Relation::Part if leader.has_log == Some(false) => {
            Rejoin::Copy(format!("the leader no longer has the log from {} on", own.position.end))
        }
        Relation::Part => Rejoin::Point,
        // A disk that went back in time, perhaps. What this member has may be the only copy of acknowledged writes.
        Relation::Ahead => Rejoin::Ahead(format!(
            "it has the log up to {}, and the leader on the same timeline only up to {}: the leader lost writes",
            own.position.end, leader.position.end
        )),
        Relation::Collision => Rejoin::Copy("its history has the leader's timelines, but is another".to_owned()),
        Relation::Diverged(fork) if own.rewound => {
            Rejoin::Copy(format!("it was rewound for this epoch and still goes its own way behind {fork}"))
        }
        // A rewind would believe the control file, and say that there is nothing to do.
        Relation::Diverged(_) if leader.checkpoint_timeline != leader.position.timeline => Rejoin::Wait(
            "it has to be rewound, and the leader has written no checkpoint on its timeline yet".to_owned(),
        ),
        Relation::Diverged(fork) => Rejoin::Rewind { fork },
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use windlass_core::id::MemberId;

    use super::super::order::{Data, Receipts};
    use super::*;
    use crate::engines::postgres::replication::{Ancestor, Remote};

    fn follow(nonce: Uuid) -> Follow {
        Follow {
            nonce,
            leader: Remote { member: MemberId::new(), address: "h".into(), port: 1 },
            receipts: Receipts::MayCount,
            data: Data::Keep,
            others: Vec::new(),
            common: None,
        }
    }

    fn position(timeline: u32, fork: u64, end: u64) -> Position {
        let history = (1..timeline).map(|timeline| Ancestor { timeline, end: Lsn(fork) }).collect();
        Position { system: "7".into(), timeline, history, end: Lsn(end) }
    }

    fn case(own: Position, change: impl FnOnce(&mut Leader, &mut Own)) -> Rejoin {
        let nonce = Uuid::new_v4();
        let mut leader = Leader {
            recovering: false,
            position: position(2, 100, 500),
            checkpoint_timeline: 2,
            epoch: Some(7),
            shared: Shared::Yes,
            has_log: Some(true),
        };
        let mut own = Own { position: own, barrier: None, promoting: None, rewound: false };
        change(&mut leader, &mut own);
        rejoin(7, &follow(nonce), &own, &leader)
    }

    #[test]
    fn a_part_goes_on_and_a_diverged_one_is_rewound_once() {
        assert_eq!(case(position(1, 0, 100), |_, _| ()), Rejoin::Point);
        assert_eq!(case(position(1, 0, 101), |_, _| ()), Rejoin::Rewind { fork: Lsn(100) });
        assert!(matches!(case(position(1, 0, 101), |_, own| own.rewound = true), Rejoin::Copy(_)));
    }

    #[test]
    fn a_rewind_waits_for_the_leaders_checkpoint() {
        let waits = case(position(1, 0, 101), |leader, _| leader.checkpoint_timeline = 1);
        assert!(matches!(waits, Rejoin::Wait(_)), "{waits:?}");
    }

    #[test]
    fn nothing_is_believed_of_who_does_not_lead_the_epoch() {
        for change in [
            (|leader: &mut Leader| leader.epoch = None) as fn(&mut Leader),
            |leader| leader.epoch = Some(6),
            |leader| leader.epoch = Some(8),
            |leader| leader.recovering = true,
        ] {
            let waits = case(position(1, 0, 100), |leader, _| change(leader));
            assert!(matches!(waits, Rejoin::Wait(_)), "{waits:?}");
        }
    }

    #[test]
    fn a_timeline_made_twice_is_copied_anew() {
        // It promoted itself and died before the barrier; the next leader made the same timeline at the same place.
        let promoting = Promoting { epoch: 6, nonce: Uuid::new_v4(), timeline: 1 };
        let same = case(position(2, 100, 140), |_, own| own.promoting = Some(promoting));
        assert!(matches!(same, Rejoin::Copy(_)), "{same:?}");
        // It never got as far as a timeline of its own.
        assert_eq!(case(position(1, 0, 100), |_, own| own.promoting = Some(promoting)), Rejoin::Point);
        // Its barrier is not the leader's.
        let other = case(position(2, 100, 140), |leader, _| leader.shared = Shared::No);
        assert!(matches!(other, Rejoin::Copy(_)), "{other:?}");
        let earlier = case(position(2, 90, 95), |_, _| ());
        assert!(matches!(earlier, Rejoin::Copy(_)), "{earlier:?}");
    }

    #[test]
    fn what_a_leader_lost_is_never_thrown_away() {
        let waits = case(position(2, 100, 501), |_, _| ());
        assert!(matches!(&waits, Rejoin::Ahead(why) if why.contains("lost writes")), "{waits:?}");
    }

    #[test]
    fn missing_log_is_copied_and_another_cluster_is_left_alone() {
        assert!(matches!(case(position(1, 0, 50), |leader, _| leader.has_log = Some(false)), Rejoin::Copy(_)));
        let foreign = case(Position { system: "8".into(), ..position(1, 0, 50) }, |_, _| ());
        assert!(matches!(foreign, Rejoin::Foreign(_)), "{foreign:?}");
    }
}
