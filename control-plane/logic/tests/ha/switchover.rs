//! The steps of a switchover, one by one, with what each waits for and how long.

use std::time::Duration;

use uuid::Uuid;
use windlass_core::{
    id::{OperationId, ProxyId},
    replication::{Durability, ReplicaState},
};
use windlass_logic::ha::{
    Cluster, Facts, Goal, Observed, Patience, Phase, Promotion, ProxySeen, RouteState, SwitchStep, decide, orders,
    route,
};

use super::{
    belief::Belief,
    world::{World, id},
};

const MS: fn(u64) -> Duration = Duration::from_millis;

struct Scene {
    cluster: Cluster,
    observed: Observed,
    waits: String,
}

impl Scene {
    /// Three members that are well, and the wish to make the second the primary.
    fn new(patience: Patience) -> Self {
        let mut world = World::found(3, Durability::Availability, 0);
        world.settle();
        let cluster = world.cluster.switchover(operation(), Some(id(1)), patience).expect("may be asked");
        let observed = Observed { step_for: MS(0), ..world.observed(Belief::Calm, MS(0)) };
        Self { cluster, observed, waits: String::new() }
    }

    /// Decides once.
    fn go(&mut self) -> &mut Self {
        let decision = decide(&self.cluster, &self.observed, Uuid::from_u128(99));
        self.waits = decision.waits.join("; ");
        if let Some(next) = decision.next {
            self.cluster = next;
        }
        self
    }

    fn facts(&mut self, node: usize) -> &mut Facts {
        &mut self.observed.members.get_mut(&id(node)).expect("known").facts
    }

    fn step(&self) -> Option<SwitchStep> {
        if let Phase::Switchover(switch) = &self.cluster.phase { Some(switch.step) } else { None }
    }

    fn pause_rev(&self) -> u64 {
        if let Phase::Switchover(switch) = &self.cluster.phase { switch.pause_rev } else { 0 }
    }

    fn proxy(&mut self, n: u128, age: Duration, paused_rev: Option<u64>) {
        let proxy =
            ProxySeen { proxy: ProxyId(Uuid::from_u128(n)), age, paused_rev, connects_failed: 0, connects_done: 0 };
        self.observed.proxies.retain(|other| other.proxy != proxy.proxy);
        self.observed.proxies.push(proxy);
    }

    /// Up to the pause.
    fn paused(patience: Patience) -> Self {
        let mut scene = Self::new(patience);
        scene.go();
        let Some(SwitchStep::Preparing) = scene.step() else { panic!("{}", scene.waits) };
        let Goal::Lead { checkpoint_rev, .. } = orders(&scene.cluster)[&id(0)].goal else { panic!("it still leads") };
        scene.facts(0).checkpoint_rev = checkpoint_rev;
        scene.go();
        scene
    }

    /// Up to the stop of the old primary.
    fn draining() -> Self {
        let mut scene = Self::paused(Patience::GiveUp);
        scene.go();
        let order = orders(&scene.cluster)[&id(0)].clone();
        assert_eq!((scene.step(), order.goal), (Some(SwitchStep::Draining), Goal::Drain));
        scene.facts(0).applied_rev = order.rev;
        scene
    }

    fn failure(&self) -> Option<&str> {
        self.cluster.outcome_of(operation()).map(|outcome| outcome.failure.as_str())
    }
}

fn operation() -> OperationId {
    OperationId(Uuid::from_u128(5))
}

#[test]
fn it_looks_first_and_gives_up_when_the_candidate_does_not_get_ready() {
    let mut scene = Scene::new(Patience::GiveUp);
    scene.facts(0).flushed = 100 << 20;
    scene.go();
    assert!(scene.waits.contains("100 MiB behind") || scene.waits.contains("99 MiB behind"), "{}", scene.waits);
    assert_eq!(scene.step(), None);
    scene.observed.intent_for = MS(5_000);
    scene.go();
    assert!(scene.failure().is_some_and(|why| why.contains("MiB behind")), "{:?}", scene.failure());
    assert_eq!(scene.cluster.phase, Phase::Steady);
}

#[test]
fn clients_are_held_only_when_the_checkpoint_is_written() {
    let mut scene = Scene::new(Patience::GiveUp);
    scene.go().go();
    assert_eq!((scene.step(), route(&scene.cluster).state), (Some(SwitchStep::Preparing), RouteState::Open));
    assert!(scene.waits.contains("waiting for a checkpoint"));
    scene.observed.step_for = MS(10_000);
    scene.go();
    assert_eq!(scene.step(), Some(SwitchStep::Pausing), "not for ever");
    assert!(matches!(route(&scene.cluster).state, RouteState::Paused(_)));
    assert_eq!(scene.pause_rev(), route(&scene.cluster).rev);
}

#[test]
fn proxies_that_answer_are_waited_for_and_others_are_not() {
    let mut scene = Scene::paused(Patience::GiveUp);
    let rev = scene.pause_rev();
    scene.proxy(1, MS(0), Some(rev - 1));
    scene.proxy(2, MS(999), None);
    scene.proxy(3, MS(1_000), None);
    scene.go();
    assert_eq!(scene.step(), Some(SwitchStep::Pausing));
    assert!(scene.waits.contains("waiting for 2 proxies"), "{}", scene.waits);
    scene.proxy(1, MS(0), Some(rev));
    scene.proxy(2, MS(0), Some(rev + 1));
    scene.go();
    assert_eq!(scene.step(), Some(SwitchStep::Draining));
}

#[test]
fn transactions_that_do_not_end_are_ended_or_end_the_switchover() {
    let mut scene = Scene::paused(Patience::EndTransactions);
    scene.proxy(1, MS(0), None);
    scene.observed.pause_for = MS(299);
    scene.go();
    assert_eq!(scene.step(), Some(SwitchStep::Pausing));
    scene.observed.pause_for = MS(300);
    scene.go();
    assert_eq!(scene.step(), Some(SwitchStep::Draining));

    let mut scene = Scene::paused(Patience::GiveUp);
    scene.proxy(1, MS(0), None);
    scene.observed.pause_for = MS(1_600);
    scene.go();
    assert_eq!(scene.step(), Some(SwitchStep::Pausing));
    scene.observed.pause_for = MS(1_700);
    scene.go();
    assert!(scene.failure().is_some_and(|why| why.contains("transactions did not end")), "{:?}", scene.failure());
    assert_eq!((&scene.cluster.phase, route(&scene.cluster).state), (&Phase::Steady, RouteState::Open));
    assert!(matches!(orders(&scene.cluster)[&id(0)].goal, Goal::Lead { .. }));
}

#[test]
fn the_candidate_is_promoted_only_when_it_has_all_that_the_old_primary_wrote() {
    let mut scene = Scene::draining();
    let end = scene.facts(0).flushed + 10;
    scene.go();
    assert!(scene.waits.contains("waiting for the old primary to stop"), "{}", scene.waits);
    (scene.facts(0).state, scene.facts(0).flushed) = (ReplicaState::CleanStop, end);
    scene.facts(1).flushed = end - 1;
    scene.go();
    assert!(scene.waits.contains("the old primary ended at"), "{}", scene.waits);
    scene.facts(1).flushed = end;
    scene.go();
    assert_eq!((scene.cluster.primary(), scene.cluster.epoch), (Some(id(1)), 2));
    assert_eq!(scene.cluster.acks(), [id(0), id(2)].into(), "the old primary follows and counts");
    assert_eq!(scene.failure(), Some(""));
    let common = |member| match orders(&scene.cluster)[&id(member)].goal {
        Goal::Follow { common_lsn, .. } => common_lsn,
        Goal::Lead { .. } | Goal::Seal | Goal::Drain | Goal::Rest => panic!("it does not follow"),
    };
    assert_eq!((common(0), common(2)), (end, 0), "of the old primary only it is proven what it has");
    assert!(matches!(route(&scene.cluster).state, RouteState::Paused(_)), "until it opened");
}

#[test]
fn a_stop_from_before_this_order_proves_nothing() {
    let mut scene = Scene::draining();
    let facts = scene.facts(0);
    facts.state = ReplicaState::CleanStop;
    facts.applied_rev -= 1;
    scene.go();
    assert_eq!(scene.step(), Some(SwitchStep::Draining));
}

#[test]
fn the_pause_does_not_outlive_its_budget() {
    let mut scene = Scene::draining();
    scene.observed.pause_for = MS(4_999);
    scene.go();
    assert_eq!(scene.step(), Some(SwitchStep::Draining));
    scene.observed.pause_for = MS(5_000);
    scene.go();
    assert_eq!(scene.cluster.phase, Phase::Promoting(Promotion::Reopening));
    assert!(matches!(orders(&scene.cluster)[&id(0)].goal, Goal::Lead { .. }), "the old primary leads again");
    assert_eq!(scene.cluster.epoch, 1);
    assert!(scene.failure().is_some_and(|why| why.contains("longer than its budget")));
    // What it reported before it took the new order does not count as open.
    scene.facts(0).state = ReplicaState::Open;
    scene.go();
    assert_eq!(scene.cluster.phase, Phase::Promoting(Promotion::Reopening));
    let rev = orders(&scene.cluster)[&id(0)].rev;
    scene.facts(0).applied_rev = rev;
    scene.go();
    assert_eq!((&scene.cluster.phase, route(&scene.cluster).state), (&Phase::Steady, RouteState::Open));
}
