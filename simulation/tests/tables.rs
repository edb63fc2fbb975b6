//! P14: the two tables of states and goals are one. What the control plane may order has an edge in the agent, and the
//! agent has no edge that nobody can use.

use std::collections::BTreeSet;

use windlass_agent::ha::{Deed, EDGES};
use windlass_core::replication::{ReplicaGoal, ReplicaState};
use windlass_logic::ha::table;

type Pair = (&'static str, &'static str);

fn name(state: ReplicaState, goal: ReplicaGoal) -> Pair {
    (state.as_str(), goal.as_str())
}

/// Pairs in which a member may find itself although nobody chose the order for that state: the order stays on disk while
/// the state changes under it. Each with how that comes about.
const LEFT_OVER: &[(ReplicaState, ReplicaGoal, &str)] = &[
    (ReplicaState::Cloning, ReplicaGoal::Lead, "elected by a report from before its data was put aside"),
    (ReplicaState::New, ReplicaGoal::Drain, "a leader that lost its data after the order"),
    (ReplicaState::Cloning, ReplicaGoal::Drain, "an agent that starts while a copy from before the order ends"),
    (ReplicaState::Catchup, ReplicaGoal::Drain, "a leader that was promoted and is started as a standby again"),
    (ReplicaState::Standby, ReplicaGoal::Drain, "as before, with its old connection"),
    (ReplicaState::Sealed, ReplicaGoal::Drain, "a promotion that the agent's end cut short"),
    (ReplicaState::Demoted, ReplicaGoal::Drain, "somebody showed a higher epoch after the order"),
    (ReplicaState::Rejoining, ReplicaGoal::Drain, "as before, with its server still up"),
    (ReplicaState::Resting, ReplicaGoal::Drain, "at rest since before the order"),
];

#[test]
fn every_order_that_may_be_given_has_an_edge() {
    let edges: BTreeSet<Pair> = EDGES.iter().map(|(state, goal, _)| name(*state, *goal)).collect();
    let missing: Vec<Pair> =
        table::pairs().map(|(state, goal)| name(state, goal)).filter(|pair| !edges.contains(pair)).collect();
    assert_eq!(missing, [], "the agent does not know what to do about these");
}

#[test]
fn no_edge_is_of_no_use() {
    let used: BTreeSet<Pair> = table::pairs()
        .chain(LEFT_OVER.iter().map(|(state, goal, _)| (*state, *goal)))
        .map(|(state, goal)| name(state, goal))
        .collect();
    let doubled: Vec<_> =
        LEFT_OVER.iter().filter(|(state, goal, _)| table::pairs().any(|pair| pair == (*state, *goal))).collect();
    assert_eq!(doubled.len(), 0, "ordered after all: {doubled:?}");
    let spare: Vec<Pair> =
        EDGES.iter().map(|(state, goal, _)| name(*state, *goal)).filter(|pair| !used.contains(pair)).collect();
    assert_eq!(spare, [], "the control plane never orders these");
}

#[test]
fn only_what_cannot_be_is_refused() {
    let refused: BTreeSet<Pair> =
        EDGES.iter().filter(|(_, _, deed)| *deed == Deed::Refuse).map(|(state, goal, _)| name(*state, *goal)).collect();
    assert_eq!(refused, BTreeSet::from([("CLONING", "LEAD"), ("QUARANTINE", "LEAD")]));
}
