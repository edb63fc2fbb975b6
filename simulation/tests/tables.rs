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

/// Orders that a member may still have when it is found in a state that the control plane would not have chosen the
/// order for: an order outlives the state that it was given in. Each with the reason.
const LEFT_OVER: &[(ReplicaState, ReplicaGoal, &str)] = &[];

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
