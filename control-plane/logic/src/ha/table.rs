//! Every pair of a member's state and a goal that it may be given in that state, with the row of the specification.
//!
//! Invariant (P14): the agent's table has an edge for each pair. A static check in CI joins the two; a property test
//! holds that no order outside this table is ever given.

use windlass_core::replication::{ReplicaGoal, ReplicaState};

/// (where the member stands, what it is told to be, rows of the transition table that do so).
pub const TABLE: &[(ReplicaState, ReplicaGoal, &[u8])] = {
    use ReplicaGoal::{Drain, Follow, Lead, Rest, Seal};
    use ReplicaState::{
        Catchup, CleanStop, Cloning, Crashed, Demoted, Draining, Fenced, Gated, New, Open, Promoting, Quarantine,
        Rejoining, Resting, Sealed, Standby,
    };
    &[
        // The leader of the epoch.
        (New, Lead, &[1]),
        (Catchup, Lead, &[9]),
        (Standby, Lead, &[9]),
        (Sealed, Lead, &[9]),
        (Promoting, Lead, &[9, 10]),
        (Gated, Lead, &[4, 5, 6, 7, 10]),
        (Open, Lead, &[4, 5, 6, 7]),
        (Fenced, Lead, &[6, 13]),
        (Draining, Lead, &[17]),
        (CleanStop, Lead, &[17]),
        (Crashed, Lead, &[18]),
        (Demoted, Lead, &[9]),
        (Rejoining, Lead, &[9]),
        (Quarantine, Lead, &[19]),
        (Resting, Lead, &[17]),
        // Its followers.
        (New, Follow, &[2]),
        (Cloning, Follow, &[2]),
        (Catchup, Follow, &[2, 3]),
        (Standby, Follow, &[3, 4, 5]),
        (Sealed, Follow, &[11]),
        (Promoting, Follow, &[14]),
        (Gated, Follow, &[14]),
        (Open, Follow, &[14]),
        (Fenced, Follow, &[14]),
        (Draining, Follow, &[14, 15]),
        (CleanStop, Follow, &[15]),
        (Crashed, Follow, &[15]),
        (Demoted, Follow, &[15]),
        (Rejoining, Follow, &[15]),
        (Quarantine, Follow, &[19]),
        (Resting, Follow, &[11]),
        // While nobody leads.
        (New, Seal, &[8]),
        (Cloning, Seal, &[8]),
        (Catchup, Seal, &[8]),
        (Standby, Seal, &[8]),
        (Sealed, Seal, &[8]),
        (Promoting, Seal, &[14]),
        (Gated, Seal, &[14]),
        (Open, Seal, &[14]),
        (Fenced, Seal, &[14]),
        (Draining, Seal, &[14]),
        (CleanStop, Seal, &[14]),
        (Crashed, Seal, &[14]),
        (Demoted, Seal, &[14]),
        (Rejoining, Seal, &[8]),
        (Quarantine, Seal, &[19]),
        (Resting, Seal, &[8]),
        // A leader that hands over in order; whatever it was found to be when the order came.
        (Gated, Drain, &[16]),
        (Open, Drain, &[16]),
        (Fenced, Drain, &[16]),
        (Promoting, Drain, &[16]),
        (Draining, Drain, &[16]),
        (CleanStop, Drain, &[16]),
        (Crashed, Drain, &[16]),
        (Quarantine, Drain, &[19]),
        // Stopped, or removed.
        (New, Rest, &[20]),
        (Cloning, Rest, &[20]),
        (Catchup, Rest, &[20]),
        (Standby, Rest, &[20]),
        (Sealed, Rest, &[20]),
        (Promoting, Rest, &[20]),
        (Gated, Rest, &[20]),
        (Open, Rest, &[20]),
        (Fenced, Rest, &[20]),
        (Draining, Rest, &[20]),
        (CleanStop, Rest, &[20]),
        (Crashed, Rest, &[20]),
        (Demoted, Rest, &[20]),
        (Rejoining, Rest, &[20]),
        (Quarantine, Rest, &[20]),
        (Resting, Rest, &[20]),
    ]
};

/// Every pair that may be assigned.
pub fn pairs() -> impl Iterator<Item = (ReplicaState, ReplicaGoal)> {
    TABLE.iter().map(|(state, goal, _)| (*state, *goal))
}
