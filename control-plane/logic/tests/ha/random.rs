//! Random schedules of everything that can go wrong, with every invariant looked at after every step; at the end all is
//! healed and the cluster has to serve again, by itself.

use proptest::prelude::*;
use uuid::Uuid;
use windlass_core::{
    id::OperationId,
    replication::{Durability, ReplicaState},
};
use windlass_logic::ha::{Loss, Patience, Phase};

use super::{
    belief::Belief,
    world::{Action, World},
};

fn check(world: &World, what: &str) {
    assert!(world.nothing_acknowledged_is_lost(), "P1 after {what}: {world:#?}");
    assert!(world.enforced_is_recorded(), "P2 after {what}: {world:#?}");
    assert!(world.one_leader_per_epoch(), "P4 after {what}: {world:#?}");
}

/// One member may lose its data, once, while somebody leads and has all of it: more would be a real loss.
fn may_spoil(world: &World, node: usize) -> bool {
    let settled = world.cluster.phase == Phase::Steady && world.cluster.previous.is_none();
    let led = world.leaders.values().flatten().any(|leader| *leader == node);
    settled && !led && world.nodes.iter().all(|node| node.state != ReplicaState::Quarantine) && world.spoiled < 1
}

/// One random action; most of them move things forward, so that schedules get deep.
fn act(world: &mut World, dice: (u8, u8, u8)) -> String {
    let (kind, which, more) = dice;
    let nodes = world.nodes.len();
    let node = usize::from(which) % nodes;
    let operation = OperationId(Uuid::from_u128(u128::from(world.cluster.rev)));
    let action = match kind % 64 {
        0..=27 => {
            let calm = world.calm_actions();
            if calm.is_empty() {
                Action::Write(node)
            } else {
                calm[(usize::from(which) * 256 + usize::from(more)) % calm.len()]
            }
        }
        28..=33 => {
            let late: Vec<_> = world.deliverable(node).collect();
            if late.is_empty() {
                Action::Replicate(node)
            } else {
                Action::Deliver(node, late[usize::from(more) % late.len()])
            }
        }
        34..=42 => Action::Write(world.serving().unwrap_or(node)),
        43..=45 => Action::Acknowledge(node),
        46..=48 => Action::Report(node),
        49 => Action::Crash(node),
        50 if may_spoil(world, node) => Action::Spoil(node),
        50 => Action::Crash(node),
        51..=53 => Action::Restart(node),
        54 | 55 => Action::Decide(Belief::LeaderDead),
        56 | 57 => Action::Decide(Belief::Away(node)),
        58 => Action::Forget,
        59 | 60 => {
            if let Ok(next) = world.cluster.switchover(operation, None, Patience::EndTransactions) {
                world.store(next);
            }
            return "switchover".to_owned();
        }
        61 => {
            if let Ok(next) = world.cluster.failover(operation, None, Loss::Forbidden) {
                world.store(next);
            }
            return "failover".to_owned();
        }
        62 => {
            if let Ok(next) = world.cluster.rest(operation) {
                world.store(next);
            }
            return "rest".to_owned();
        }
        _ => {
            let next = world.cluster.resume();
            world.store(next);
            return "resume".to_owned();
        }
    };
    world.apply(action);
    format!("{action:?}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_it_always_comes_back(
        nodes in 2_usize..=5,
        needed in 0_u32..=2,
        durable in any::<bool>(),
        schedule in proptest::collection::vec(any::<(u8, u8, u8)>(), 0..400),
    ) {
        let durability = if durable { Durability::Durability } else { Durability::Availability };
        let mut world = World::found(nodes, durability, needed);
        for dice in schedule {
            let what = act(&mut world, dice);
            check(&world, &what);
        }
        for node in 0..nodes {
            world.apply(Action::Restart(node));
        }
        world.settle();
        check(&world, "healing");
        if matches!(world.cluster.phase, Phase::Resting(_)) {
            let next = world.cluster.resume();
            world.store(next);
            world.settle();
        }
        let serving = world.serving();
        prop_assert!(serving.is_some() && world.cluster.phase == Phase::Steady, "stuck: {:?} {:#?}", world.decision(Belief::Calm).waits, world);
        prop_assert_eq!(world.cluster.candidates().len(), nodes - 1, "{:#?}", world);
        world.apply(Action::Write(serving.unwrap_or(0)));
        world.settle();
        prop_assert!(world.acked.contains_key(&world.written), "the last commit is never acknowledged: {:#?}", world);
        check(&world, "serving");
    }
}
