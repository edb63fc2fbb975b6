//! Every state that a member can be in, every goal that it can be given there, and what it then does.
//!
//! Why as data: a goal without an edge leaves a cluster stuck for ever, and only a table can be joined with the control
//! plane's by a test. The machine acts through this table and through nothing else.

use windlass_core::replication::{
    ReplicaGoal::{self, Drain, Follow, Lead, Rest, Seal},
    ReplicaState::{
        self, Catchup, CleanStop, Cloning, Crashed, Demoted, Draining, Fenced, Gated, New, Open, Promoting, Quarantine,
        Rejoining, Resting, Sealed, Standby,
    },
};

/// What a member does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Becomes the first leader of what was initialised here.
    Found,
    /// Goes on leading: settings, slots, barrier, gate.
    Hold,
    /// Becomes the leader of a new epoch.
    Promote,
    /// Starts again in the role that it had, then as that role says.
    Resume,
    /// Goes on following: name, gate, slots.
    Trail,
    /// Compares histories, then follows, is rewound or is copied anew.
    Rejoin,
    /// Copies the leader's data.
    Copy,
    /// Stops at once: somebody else leads a higher epoch.
    StepDown,
    /// Follows nobody any more, and says how far it got.
    Hush,
    /// Has promised, which is all that it can do.
    Promise,
    /// Stops in order.
    Stop,
    /// Does not run, as it shall.
    Stay,
    /// Cannot: says why.
    Refuse,
}

/// The edges: one for each pair.
pub const EDGES: &[(ReplicaState, ReplicaGoal, Deed)] = &[
    (New, Lead, Deed::Found),
    (Cloning, Lead, Deed::Refuse),
    (Catchup, Lead, Deed::Promote),
    (Standby, Lead, Deed::Promote),
    (Sealed, Lead, Deed::Promote),
    (Promoting, Lead, Deed::Promote),
    (Gated, Lead, Deed::Hold),
    (Open, Lead, Deed::Hold),
    (Fenced, Lead, Deed::Hold),
    (Draining, Lead, Deed::Hold),
    (CleanStop, Lead, Deed::Resume),
    (Crashed, Lead, Deed::Resume),
    (Demoted, Lead, Deed::Promote),
    (Rejoining, Lead, Deed::Promote),
    (Quarantine, Lead, Deed::Refuse),
    (Resting, Lead, Deed::Resume),
    (New, Follow, Deed::Copy),
    (Cloning, Follow, Deed::Copy),
    (Catchup, Follow, Deed::Trail),
    (Standby, Follow, Deed::Trail),
    (Sealed, Follow, Deed::Rejoin),
    (Promoting, Follow, Deed::Rejoin),
    (Gated, Follow, Deed::StepDown),
    (Open, Follow, Deed::StepDown),
    (Fenced, Follow, Deed::StepDown),
    (Draining, Follow, Deed::StepDown),
    (CleanStop, Follow, Deed::Rejoin),
    (Crashed, Follow, Deed::Rejoin),
    (Demoted, Follow, Deed::Rejoin),
    (Rejoining, Follow, Deed::Rejoin),
    (Quarantine, Follow, Deed::Copy),
    (Resting, Follow, Deed::Rejoin),
    (New, Seal, Deed::Promise),
    (Cloning, Seal, Deed::Promise),
    (Catchup, Seal, Deed::Hush),
    (Standby, Seal, Deed::Hush),
    (Sealed, Seal, Deed::Hush),
    (Promoting, Seal, Deed::Hush),
    (Gated, Seal, Deed::StepDown),
    (Open, Seal, Deed::StepDown),
    (Fenced, Seal, Deed::StepDown),
    (Draining, Seal, Deed::StepDown),
    (CleanStop, Seal, Deed::Hush),
    (Crashed, Seal, Deed::Hush),
    (Demoted, Seal, Deed::Hush),
    (Rejoining, Seal, Deed::Hush),
    (Quarantine, Seal, Deed::Promise),
    (Resting, Seal, Deed::Hush),
    (New, Drain, Deed::Stop),
    (Cloning, Drain, Deed::Stay),
    (Catchup, Drain, Deed::Stop),
    (Standby, Drain, Deed::Stop),
    (Sealed, Drain, Deed::Stop),
    (Promoting, Drain, Deed::Stop),
    (Gated, Drain, Deed::Stop),
    (Open, Drain, Deed::Stop),
    (Fenced, Drain, Deed::Stop),
    (Draining, Drain, Deed::Stop),
    (CleanStop, Drain, Deed::Stay),
    (Crashed, Drain, Deed::Stay),
    (Demoted, Drain, Deed::Stop),
    (Rejoining, Drain, Deed::Stop),
    (Quarantine, Drain, Deed::Stay),
    (Resting, Drain, Deed::Stay),
    (New, Rest, Deed::Stop),
    (Cloning, Rest, Deed::Stay),
    (Catchup, Rest, Deed::Stop),
    (Standby, Rest, Deed::Stop),
    (Sealed, Rest, Deed::Stop),
    (Promoting, Rest, Deed::Stop),
    (Gated, Rest, Deed::Stop),
    (Open, Rest, Deed::Stop),
    (Fenced, Rest, Deed::Stop),
    (Draining, Rest, Deed::Stop),
    (CleanStop, Rest, Deed::Stay),
    (Crashed, Rest, Deed::Stay),
    (Demoted, Rest, Deed::Stop),
    (Rejoining, Rest, Deed::Stop),
    (Quarantine, Rest, Deed::Stay),
    (Resting, Rest, Deed::Stay),
];

/// What a member in the state does about the goal.
pub fn deed(state: ReplicaState, goal: ReplicaGoal) -> Deed {
    let edge = EDGES.iter().find(|(from, to, _)| (*from, *to) == (state, goal));
    // A test holds the table complete; a gap would be told, not acted on.
    edge.map_or(Deed::Refuse, |(_, _, deed)| *deed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_has_one_edge() {
        for state in ReplicaState::ALL {
            for goal in ReplicaGoal::ALL {
                let edges = EDGES.iter().filter(|(from, to, _)| (from, to) == (state, goal)).count();
                assert_eq!(edges, 1, "{state} {goal}");
            }
        }
    }

    #[test]
    fn no_leader_of_a_lower_epoch_goes_on() {
        for state in [Gated, Open, Fenced, Draining] {
            for goal in [Follow, Seal] {
                assert_eq!(deed(state, goal), Deed::StepDown, "{state} {goal}");
            }
        }
    }
}
