//! Clusters of every size lose members, in every way that the specification names, and what comes of it.

use uuid::Uuid;
use windlass_core::{id::OperationId, replication::Durability};
use windlass_logic::ha::{Loss, Mode, Patience, Phase, RestStep};

use super::{
    belief::Belief,
    world::{Action, World, id},
};

fn steady(nodes: usize, durability: Durability, needed: u32) -> World {
    let mut world = World::found(nodes, durability, needed);
    world.settle();
    assert_eq!(world.serving(), Some(0));
    assert_eq!(world.cluster.candidates().len(), nodes - 1, "everybody acknowledges");
    world
}

fn lose(world: &mut World, nodes: &[usize]) {
    for node in nodes {
        assert!(world.apply(Action::Crash(*node)));
    }
    world.settle();
    assert!(world.nothing_acknowledged_is_lost());
}

fn back(world: &mut World, node: usize) {
    assert!(world.apply(Action::Restart(node)));
    world.settle();
    assert!(world.nothing_acknowledged_is_lost());
}

/// A commit at the primary; whether a client is told.
fn commit(world: &mut World) -> bool {
    let Some(primary) = world.serving() else { return false };
    assert!(world.apply(Action::Write(primary)));
    world.settle();
    world.acked.contains_key(&world.written)
}

use Durability::{Availability, Durability as Durable};

fn operation() -> OperationId {
    OperationId(Uuid::from_u128(77))
}

#[test]
fn one_member_is_only_ever_restarted() {
    let mut world = steady(1, Availability, 0);
    assert!(commit(&mut world));
    lose(&mut world, &[0]);
    assert_eq!((world.cluster.epoch, world.serving()), (1, None));
    assert!(world.waits().contains("no replica answers"), "{}", world.waits());
    back(&mut world, 0);
    assert!(commit(&mut world));
    assert_eq!(world.cluster.epoch, 1);
}

#[test]
fn of_two_the_standby_takes_over_alone_until_the_old_primary_is_back() {
    let mut world = steady(2, Availability, 0);
    assert!(commit(&mut world));
    lose(&mut world, &[0]);
    assert_eq!((world.serving(), world.cluster.mode(), world.cluster.epoch), (Some(1), Mode::Alone, 2));
    assert!(commit(&mut world));
    back(&mut world, 0);
    assert_eq!((world.serving(), world.cluster.mode()), (Some(1), Mode::Quorum));
    assert!(commit(&mut world));
}

#[test]
fn of_two_that_must_be_durable_the_standby_waits_for_the_old_primary() {
    let mut world = steady(2, Durable, 0);
    assert!(commit(&mut world));
    lose(&mut world, &[0]);
    assert_eq!(world.serving(), None);
    assert!(world.waits().contains("going on alone is not allowed"), "{}", world.waits());
    assert!(world.waits().contains("to open, which is GATED"), "{}", world.waits());
    back(&mut world, 0);
    assert!(commit(&mut world));
    assert_eq!(world.cluster.mode(), Mode::Quorum);
}

#[test]
fn of_two_the_primary_goes_on_alone_only_if_it_may() {
    let mut world = steady(2, Availability, 0);
    lose(&mut world, &[1]);
    assert_eq!((world.serving(), world.cluster.mode()), (Some(0), Mode::Alone));
    assert!(commit(&mut world));
    let mut world = steady(2, Durable, 0);
    lose(&mut world, &[1]);
    assert_eq!(world.serving(), Some(0));
    assert!(world.waits().contains("going on alone is not allowed"), "{}", world.waits());
    assert!(!commit(&mut world), "commits wait");
    back(&mut world, 1);
    assert!(world.acked.contains_key(&world.written), "and go through when it is back");
}

#[test]
fn a_standby_that_missed_lonely_commits_is_never_promoted() {
    let mut world = steady(2, Availability, 0);
    lose(&mut world, &[1]);
    assert!(commit(&mut world));
    lose(&mut world, &[0]);
    back(&mut world, 1);
    assert_eq!((world.serving(), world.cluster.epoch), (None, 1));
    assert!(world.waits().contains("committed alone, so only it has everything"), "{}", world.waits());
    back(&mut world, 0);
    assert_eq!(world.serving(), Some(0));
    assert!(commit(&mut world));
}

#[test]
fn of_three_both_standbys_must_be_sealed_unless_the_set_had_shrunk() {
    let mut world = steady(3, Availability, 0);
    assert_eq!(world.cluster.acks_needed(), 1);
    assert!(commit(&mut world));
    lose(&mut world, &[0, 1]);
    assert_eq!((world.serving(), world.cluster.epoch), (None, 1), "not without the other standby");
    assert!(world.waits().contains("an acknowledged commit may be on"), "{}", world.waits());
    // It goes on by itself when either is back.
    let mut other = world.clone();
    back(&mut world, 1);
    assert_eq!(world.cluster.epoch, 2);
    assert!(commit(&mut world));
    back(&mut other, 0);
    assert_eq!((other.serving(), other.cluster.epoch), (Some(0), 1));
    assert!(commit(&mut other));

    let mut world = steady(3, Availability, 0);
    lose(&mut world, &[1]);
    assert!(commit(&mut world), "no stall for one of two standbys");
    lose(&mut world, &[0]);
    assert_eq!((world.serving(), world.cluster.epoch), (Some(2), 2), "the set had shrunk to one");
    assert!(commit(&mut world));
}

#[test]
fn of_three_strict_one_seal_is_enough() {
    let mut world = steady(3, Availability, 2);
    assert_eq!(world.cluster.acks_needed(), 2);
    assert!(commit(&mut world));
    lose(&mut world, &[0, 1]);
    assert_eq!((world.serving(), world.cluster.epoch), (Some(2), 2));
    back(&mut world, 0);
    back(&mut world, 1);
    assert_eq!(world.cluster.acks_needed(), 2);
    assert!(commit(&mut world));
}

#[test]
fn of_five_three_of_four_must_be_sealed() {
    let mut world = steady(5, Availability, 0);
    assert_eq!((world.cluster.acks().len(), world.cluster.acks_needed()), (4, 2));
    lose(&mut world, &[0, 1]);
    assert_eq!(world.cluster.epoch, 2);
    assert!(commit(&mut world));
    let mut world = steady(5, Availability, 0);
    lose(&mut world, &[0, 1, 2]);
    assert_eq!(world.serving(), None);
    assert!(world.waits().contains("waiting for 1 of them"), "{}", world.waits());
    back(&mut world, 2);
    assert!(commit(&mut world));
    let mut world = steady(5, Availability, 0);
    lose(&mut world, &[3, 4]);
    assert!(commit(&mut world), "no stall for two losses");
}

#[test]
fn everybody_off_and_back_in_any_order_gives_one_primary() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut world = steady(3, Availability, 0);
        assert!(commit(&mut world));
        lose(&mut world, &[0, 1, 2]);
        for node in order {
            back(&mut world, node);
        }
        assert!(commit(&mut world), "{order:?}");
        assert_eq!(world.cluster.mode(), Mode::Quorum, "{order:?}");
    }
}

/// The new primary dies before it opened.
#[test]
fn a_second_failover_needs_a_barrier_or_the_whole_electorate_of_before() {
    let promoted = || {
        let mut world = steady(3, Availability, 0);
        assert!(commit(&mut world));
        assert!(world.apply(Action::Crash(0)));
        for _ in 0..100 {
            if matches!(world.cluster.phase, Phase::Promoting(_)) {
                break;
            }
            let steps: Vec<_> = world.truthful_actions();
            assert!(world.apply(steps[0]));
        }
        assert!(matches!(world.cluster.phase, Phase::Promoting(_)));
        world
    };
    // It never took its order: nobody holds its barrier, so both standbys of before are asked again.
    let mut world = promoted();
    let new = world.cluster.primary().map(|id| id.0.as_u128() as usize - 1).expect("told");
    let other = 3 - new;
    lose(&mut world, &[new]);
    assert_eq!(world.serving(), None);
    assert!(!world.waits().is_empty());
    let mut either = world.clone();
    back(&mut world, new);
    assert!(commit(&mut world));
    // The old primary has all of its own time, and so may lead again.
    back(&mut either, 0);
    assert!(commit(&mut either), "{}", either.waits());

    // It opened: its barrier is on the other standby.
    let mut world = promoted();
    world.settle();
    assert!(commit(&mut world));
    lose(&mut world, &[new]);
    assert_eq!((world.serving(), world.cluster.epoch), (Some(other), 3));
    assert!(commit(&mut world));
}

#[test]
fn force_needs_proof_or_an_operator_who_gives_it_up() {
    let mut world = steady(3, Availability, 0);
    lose(&mut world, &[0, 1]);
    let next = world.cluster.failover(operation(), None, Loss::Forbidden).expect("may be asked");
    world.store(next);
    world.settle();
    let failure = world.cluster.outcome_of(operation()).expect("an outcome").failure.clone();
    assert!(failure.contains("--allow-data-loss"), "{failure}");
    assert_eq!(world.cluster.epoch, 1);
    let again = OperationId(Uuid::from_u128(78));
    let next = world.cluster.failover(again, None, Loss::Allowed).expect("may be asked");
    world.store(next);
    let mut told = Vec::new();
    for _ in 0..50 {
        let decision = world.decision(Belief::Truth);
        if decision.next.is_some() {
            told.extend(decision.happened);
        }
        let Some(action) = world.truthful_actions().first().copied() else { break };
        world.apply(action);
    }
    world.settle();
    assert_eq!((world.serving(), world.cluster.epoch), (Some(2), 2));
    assert_eq!(world.cluster.outcome_of(again).expect("an outcome").failure, "");
    let audited = |happened: &windlass_logic::ha::Happened| matches!(happened, windlass_logic::ha::Happened::DataLossAccepted { cause, .. } if cause.contains("an acknowledged commit may be on"));
    assert!(told.iter().any(audited), "{told:?}");
    back(&mut world, 0);
    back(&mut world, 1);
    assert!(commit(&mut world));
}

#[test]
fn an_election_that_waits_can_be_forced_too() {
    let mut world = steady(3, Availability, 0);
    // Both answer when it begins, one is lost before it is sealed.
    assert!(world.apply(Action::Crash(0)));
    assert!(world.apply(Action::Report(1)) && world.apply(Action::Report(2)));
    assert!(world.apply(Action::Decide(Belief::LeaderDead)));
    lose(&mut world, &[1]);
    assert!(matches!(world.cluster.phase, Phase::Electing(_)));
    let next = world.cluster.failover(operation(), None, Loss::Allowed).expect("may be asked");
    world.store(next);
    world.settle();
    assert_eq!(world.serving(), Some(2));
}

#[test]
fn a_switchover_moves_the_primary_and_keeps_the_old_one_as_a_standby() {
    for nodes in 2..=5 {
        let mut world = steady(nodes, Availability, 0);
        assert!(commit(&mut world));
        let next = world.cluster.switchover(operation(), Some(id(1)), Patience::GiveUp).expect("may be asked");
        assert_eq!(next.switchover(operation(), Some(id(1)), Patience::GiveUp).expect("again"), next, "idempotent");
        world.store(next);
        world.settle();
        assert_eq!((world.serving(), world.cluster.epoch, world.cluster.mode()), (Some(1), 2, Mode::Quorum));
        assert_eq!(world.cluster.outcome_of(operation()).expect("an outcome").failure, "");
        assert_eq!(world.cluster.candidates().len(), nodes - 1);
        assert!(commit(&mut world));
    }
}

#[test]
fn a_switchover_whose_target_dies_goes_back() {
    for steps in 1..6 {
        let mut world = steady(3, Availability, 0);
        let next = world.cluster.switchover(operation(), Some(id(1)), Patience::GiveUp).expect("may be asked");
        world.store(next);
        for _ in 0..steps {
            if let Some(action) = world.truthful_actions().first().copied() {
                world.apply(action);
            }
        }
        lose(&mut world, &[1]);
        assert!(world.serving().is_some(), "after {steps} steps: {}", world.waits());
        assert!(world.cluster.outcome_of(operation()).is_some(), "after {steps} steps");
        assert!(commit(&mut world));
        back(&mut world, 1);
        assert_eq!(world.cluster.candidates().len(), 2);
    }
}

#[test]
fn a_switchover_whose_target_leads_and_dies_before_it_opens_failed() {
    let mut world = steady(2, Availability, 0);
    let next = world.cluster.switchover(operation(), Some(id(1)), Patience::GiveUp).expect("may be asked");
    world.store(next);
    while world.cluster.primary() != Some(id(1)) {
        let action = world.truthful_actions().first().copied().expect("it goes on");
        world.apply(action);
    }
    lose(&mut world, &[1]);
    assert_eq!(world.serving(), Some(0), "{}", world.waits());
    let failure = &world.cluster.outcome_of(operation()).expect("an outcome").failure;
    assert!(failure.contains("the primary failed"), "{failure:?}");
}

#[test]
fn a_failover_to_somebody_who_lacks_commits_is_refused() {
    let mut world = steady(3, Availability, 1);
    let ahead = world.apply(Action::Write(0)) && world.apply(Action::Replicate(2));
    assert!(ahead && world.apply(Action::Report(1)) && world.apply(Action::Report(2)));
    let next = world.cluster.failover(operation(), Some(id(1)), Loss::Forbidden).expect("may be asked");
    world.store(next);
    assert!(world.apply(Action::Decide(Belief::Truth)));
    let failure = &world.cluster.outcome_of(operation()).expect("an outcome").failure;
    assert!(failure.contains("may lack acknowledged commits") && !failure.contains("--allow"), "{failure:?}");
}

#[test]
fn a_stop_and_a_start_go_on_in_the_same_epoch() {
    let mut world = steady(3, Availability, 0);
    assert!(commit(&mut world));
    world.store(world.cluster.rest(operation()).expect("may be asked"));
    world.settle();
    assert_eq!(world.cluster.phase, Phase::Resting(RestStep::Done));
    assert_eq!(world.cluster.outcome_of(operation()).expect("an outcome").failure, "");
    world.store(world.cluster.resume());
    world.settle();
    assert_eq!((world.serving(), world.cluster.epoch), (Some(0), 1));
    assert!(commit(&mut world));
    // A member that died at rest is only missed after the start.
    world.store(world.cluster.rest(OperationId(Uuid::from_u128(78))).expect("may be asked"));
    world.settle();
    lose(&mut world, &[0]);
    world.store(world.cluster.resume());
    world.settle();
    assert!(commit(&mut world), "{}", world.waits());
}

#[test]
fn a_member_that_is_removed_stops_counting_before_it_rests() {
    let mut world = steady(3, Availability, 0);
    assert!(world.cluster.remove(id(0)).is_err(), "not the primary");
    world.store(world.cluster.remove(id(2)).expect("a standby"));
    assert!(!world.cluster.is_out(id(2)));
    assert!(world.cluster.forget(id(2)).is_err());
    world.settle();
    assert!(world.cluster.is_out(id(2)));
    assert_eq!(world.cluster.acks(), [id(1)].into());
    assert_eq!(world.nodes[2].state, windlass_core::replication::ReplicaState::Resting);
    world.store(world.cluster.forget(id(2)).expect("it is out"));
    world.settle();
    assert!(commit(&mut world));
}

#[test]
fn an_acker_whose_data_is_spoilt_is_copied_anew_even_if_commits_wait_for_it() {
    for durability in [Availability, Durable] {
        let mut world = steady(2, durability, 0);
        assert!(commit(&mut world));
        assert!(world.apply(Action::Spoil(1)));
        assert!(commit(&mut world), "{durability}: {}", world.waits());
        world.settle();
        assert_eq!(world.cluster.candidates().len(), 1);
        assert!(!world.cluster.members[&id(1)].clone_anew, "only once");
    }
}

#[test]
fn an_asynchronous_replica_neither_acknowledges_nor_leads() {
    let mut world = World::found(3, Availability, 0);
    let mut cluster = windlass_logic::ha::Cluster::clone(&world.cluster);
    cluster.members.get_mut(&id(2)).expect("a member").kind = windlass_logic::ha::Kind::Asynchronous;
    cluster.rev += 1;
    cluster.members.get_mut(&id(2)).expect("a member").order_rev = cluster.rev;
    world.store(cluster);
    world.settle();
    assert_eq!(world.cluster.acks(), [id(1)].into());
    assert!(world.cluster.switchover(operation(), Some(id(2)), Patience::GiveUp).is_err());
    lose(&mut world, &[0, 1]);
    assert_eq!(world.serving(), None);
    assert!(world.cluster.failover(operation(), Some(id(2)), Loss::Forbidden).is_err());
    world.store(world.cluster.failover(operation(), Some(id(2)), Loss::Allowed).expect("with loss"));
    world.settle();
    assert_eq!(world.serving(), Some(2));
}

#[test]
fn metadata_that_lost_rows_are_rebuilt_from_the_agents() {
    for (nodes, lost) in [(2, 1), (3, 1), (3, 2), (5, 1)] {
        let mut world = steady(nodes, Availability, 0);
        let yesterday = world.cluster.clone();
        lose(&mut world, &[0]);
        back(&mut world, 0);
        if lost == 2 {
            lose(&mut world, &[1]);
            back(&mut world, 1);
        }
        let serving = world.serving();
        assert!(commit(&mut world));
        let known = world.cluster.epoch;
        world.cluster = yesterday;
        world.settle();
        assert_eq!(world.serving(), serving, "the primary is found and kept");
        assert!(world.cluster.epoch > known, "epochs grow");
        assert!(commit(&mut world));
        assert_eq!(world.cluster.candidates().len(), nodes - 1);
    }
}

#[test]
fn metadata_that_lost_rows_while_nobody_leads_elect_among_all() {
    let mut world = steady(3, Availability, 0);
    let yesterday = world.cluster.clone();
    lose(&mut world, &[0]);
    back(&mut world, 0);
    assert!(commit(&mut world));
    let primary = world.serving().expect("one");
    lose(&mut world, &[0, 1, 2]);
    world.cluster = yesterday;
    for node in (0..3).filter(|node| *node != primary) {
        back(&mut world, node);
        assert_eq!(world.serving(), None, "not before everybody reported");
        assert!(world.waits().contains("the metadata is behind its agents"), "{}", world.waits());
    }
    back(&mut world, primary);
    assert!(commit(&mut world), "{}", world.waits());
}
