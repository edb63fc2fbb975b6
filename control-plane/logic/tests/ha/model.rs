//! The world of [`super::world`] explored exhaustively: three members, a crash, a client or two, orders that come late,
//! twice or never, reports that are old, and a control plane that may suspect anybody at any moment (rows 4 to 10).
//!
//! The actor that decides is the real code. Two things are merged because their interleavings cannot matter: the control
//! plane decides at once on what it hears (deciding later is hearing later), and a leader releases at once what its
//! set has acknowledged (what is released later is released in a worse state too).

use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Property};
use windlass_core::replication::{Durability, ReplicaState};

use super::{
    belief::{Belief, Mutation},
    world::{Action, World},
};

struct Limits {
    start: World,
    writes: u16,
    crashes: u8,
    epochs: u64,
    revs: u64,
    away: Option<usize>,
    depth: Option<usize>,
}

impl Model for Limits {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.start.clone()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for node in 0..world.nodes.len() {
            actions.extend(world.deliverable(node).map(|order| Action::Deliver(node, order)));
            if world.may_replicate(node) {
                actions.push(Action::Replicate(node));
            }
            if world.written < self.start.written + self.writes && world.nodes[node].state == ReplicaState::Open {
                actions.push(Action::Write(node));
            }
            if world.crashes < self.crashes {
                actions.push(Action::Crash(node));
            }
            actions.push(Action::Hear(Some(node)));
            if self.away == Some(node) {
                actions.push(Action::Decide(Belief::Away(node)));
            }
        }
        actions.extend([Action::Hear(None), Action::Decide(Belief::LeaderDead)]);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        if !next.apply(action) {
            return None;
        }
        match action {
            Action::Hear(_) => {
                for _ in 0..4 {
                    next.apply(Action::Decide(Belief::Calm));
                }
            }
            Action::Deliver(node, _) => {
                next.apply(Action::Enforce(node));
            }
            // A host that is dead and one that does nothing look the same, so it comes back at once.
            Action::Crash(node) => {
                next.apply(Action::Restart(node));
                next.apply(Action::Enforce(node));
            }
            Action::Enforce(_)
            | Action::Replicate(_)
            | Action::Report(_)
            | Action::Write(_)
            | Action::Acknowledge(_)
            | Action::Restart(_)
            | Action::Spoil(_)
            | Action::Decide(_)
            | Action::Forget => {}
        }
        for node in 0..next.nodes.len() {
            next.apply(Action::Acknowledge(node));
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("P1 nothing acknowledged is lost", |_, world: &World| {
                world.nothing_acknowledged_is_lost()
            }),
            Property::always("P2 what is enforced is recorded", |_, world: &World| world.enforced_is_recorded()),
            Property::always("P4 one leader for each epoch", |_, world: &World| world.one_leader_per_epoch()),
            Property::sometimes("somebody else is told to lead", |model: &Limits, world: &World| {
                world.cluster.reign.leader != model.start.cluster.reign.leader
            }),
        ]
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.cluster.epoch <= self.start.cluster.epoch + self.epochs
            && world.cluster.rev <= self.start.cluster.rev + self.revs
    }
}

/// Members that all serve and acknowledge.
fn steady(nodes: usize, needed: u32) -> World {
    let mut world = World::found(nodes, Durability::Availability, needed);
    world.settle();
    world
}

/// A leader that commits alone, and followers of which the control plane has not heard.
fn alone(nodes: usize) -> World {
    let mut world = World::found(nodes, Durability::Availability, 1);
    let unheard = |action: &Action| !matches!(action, Action::Report(node) if *node > 0);
    while let Some(action) = world.calm_actions().into_iter().find(unheard) {
        world.apply(action);
    }
    world
}

/// Explores all there is, or all up to a depth.
fn explore(limits: Limits) -> (impl Checker<Limits>, Duration) {
    let started = Instant::now();
    let depth = limits.depth;
    let mut checker = limits.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    if let Some(depth) = depth {
        checker = checker.target_max_depth(depth);
    }
    (checker.spawn_bfs().join(), started.elapsed())
}

/// No schedule within the limits breaks an invariant.
fn holds(name: &str, limits: Limits) {
    let (checker, took) = explore(limits);
    let (unique, states, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    println!("{name}: {unique} different states of {states}, depth {depth}, {took:.1?}");
    checker.assert_properties();
}

#[test]
fn a_failover_of_three_loses_nothing() {
    let start = steady(3, 1);
    holds("all failovers", Limits { start, writes: 1, crashes: 0, epochs: 1, revs: 2, away: None, depth: None });
}

#[test]
fn growing_from_alone_loses_nothing() {
    let start = alone(2);
    holds("all of two", Limits { start, writes: 1, crashes: 0, epochs: 1, revs: 4, away: Some(1), depth: None });
    let start = alone(2);
    holds(
        "two with a crash",
        Limits { start, writes: 1, crashes: 1, epochs: 1, revs: 4, away: Some(1), depth: Some(11) },
    );
    let start = alone(3);
    holds("three", Limits { start, writes: 1, crashes: 0, epochs: 1, revs: 4, away: Some(1), depth: Some(10) });
}

#[test]
fn shrinking_and_failing_over_loses_nothing() {
    let start = steady(3, 1);
    holds("one of two", Limits { start, writes: 1, crashes: 0, epochs: 1, revs: 4, away: Some(2), depth: Some(11) });
    let start = steady(3, 2);
    holds("two of two", Limits { start, writes: 1, crashes: 0, epochs: 1, revs: 4, away: Some(2), depth: Some(10) });
}

#[test]
fn two_failovers_and_a_crash_lose_nothing() {
    let start = steady(3, 1);
    holds("twice", Limits { start, writes: 1, crashes: 1, epochs: 2, revs: 5, away: None, depth: Some(10) });
}

/// The checks would notice: each rule that is broken on purpose is found.
#[test]
fn every_broken_rule_is_found() {
    let grow = || (alone(2), Some(1));
    let shrink = || (steady(3, 1), Some(2));
    let fail = || (steady(3, 1), None);
    for (mutation, (start, away), property) in [
        (Mutation::CandidateBeforeConfirmation, grow(), "P2"),
        (Mutation::CandidateBeforeConfirmation, shrink(), "P2"),
        (Mutation::NoBarrier, grow(), "P1"),
        (Mutation::NoBarrier, shrink(), "P1"),
        (Mutation::OneSealIsEnough, fail(), "P1"),
        (Mutation::SealsNotAwaited, fail(), "P1"),
    ] {
        let start = World { mutation, ..start };
        let (checker, _) = explore(Limits { start, writes: 1, crashes: 0, epochs: 1, revs: 4, away, depth: Some(12) });
        let found = checker.discoveries();
        let named = found.iter().find(|(name, _)| name.starts_with(property));
        let Some((_, path)) = named else { panic!("{mutation:?} does not break {property}: {:?}", found.keys()) };
        println!("{mutation:?} breaks {property}: {:?}", path.clone().into_actions());
    }
}
