//! A leader is taken over that the metadata does not know: which sets may have released commits before.

use std::time::Duration;

use uuid::Uuid;
use windlass_core::replication::Durability;
use windlass_logic::ha::{AckSet, Cluster, Enforced, Phase, decide};

use super::{
    belief::Belief,
    world::{World, id},
};

/// The sets that the reign before is believed to have enforced, if the leader enforces what it acknowledged a barrier of,
/// or something newer.
fn adopted(newer: u64) -> Vec<AckSet> {
    let mut world = World::found(3, Durability::Availability, 1);
    world.settle();
    let mut observed = world.observed(Belief::Calm, Duration::ZERO);
    let leader = &mut observed.members.get_mut(&id(0)).expect("known").facts;
    let barrier_rev = leader.barrier.rev + newer;
    leader.enforced = Some(Enforced { rev: barrier_rev, acks: [id(2)].into(), needed: 1, barrier_rev });
    let lost = Cluster { phase: Phase::Reconciling, ..Cluster::clone(&world.cluster) };
    let next = decide(&lost, &observed, Uuid::from_u128(9)).next.expect("it is taken over");
    assert_eq!((next.epoch, next.reign.leader), (lost.epoch + 1, id(0)));
    next.previous.expect("the reign before").sets
}

#[test]
fn a_set_whose_barrier_is_not_acknowledged_says_nothing_of_what_was_released_before() {
    let sets = adopted(0);
    let members: Vec<_> = sets.iter().map(|set| set.members.iter().copied().collect::<Vec<_>>()).collect();
    assert_eq!(members, [vec![id(2)]], "whoever has its barrier has all that was released before");
    assert!(adopted(7)[0].is_alone(), "perhaps only the leader itself has everything");
}
