//! The thin path of high availability: found, open, grow, and fail over a dead primary.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;
use windlass_core::{
    id::{HostId, MemberId},
    replication::{ReplicaState, Replication},
};
use windlass_logic::ha::{
    Barrier, Cluster, Decision, Downstream, Enforced, Facts, Goal, HostSeen, Kind, Lineage, Member, Mode, Observed,
    Phase, RouteState, Seen, Stay, Upstream, Witness, decide, orders, route,
};

fn member(n: u128) -> (MemberId, Member) {
    let host = HostId(Uuid::from_u128(100 + n));
    let member = Member {
        host,
        host_name: format!("h{n}"),
        address: "127.0.0.1".to_owned(),
        port: 5432,
        kind: Kind::Synchronous,
        priority: 0,
        stay: Stay::Staying,
        clone_anew: false,
        order_rev: 0,
    };
    (MemberId(Uuid::from_u128(n)), member)
}

fn step(cluster: &mut Cluster, observed: &Observed) -> Decision {
    let decision = decide(cluster, observed, Uuid::from_u128(999));
    if let Some(next) = &decision.next {
        assert!(next.rev > cluster.rev);
        let text = serde_json::to_string(next).expect("json");
        assert_eq!(&serde_json::from_str::<Cluster>(&text).expect("back"), next);
        *cluster = next.clone();
    }
    decision
}

fn see(observed: &mut Observed, id: MemberId, facts: Facts) {
    observed.members.insert(id, Seen { facts, age: Duration::ZERO, state_for: Duration::ZERO });
}

#[test]
fn two_members_found_grow_and_survive_the_primary() {
    let (a, b) = (member(1), member(2));
    let (first, second) = (a.0, b.0);
    let hosts = [a.1.host, b.1.host];
    let nonce = Uuid::from_u128(7);
    let mut cluster = Cluster::found(BTreeMap::from([a, b]), first, Replication::default(), nonce);
    let mut observed = Observed::nothing(Timestamp::UNIX_EPOCH);
    assert!(matches!(&orders(&cluster)[&first].goal, Goal::Lead { acks, .. } if acks.is_empty()));
    assert!(matches!(&orders(&cluster)[&second].goal, Goal::Follow { .. }));
    assert!(decide(&cluster, &observed, nonce).next.is_none());

    let lineage = Lineage { system: "s".to_owned(), timeline: 1, fork: 0, nonce: Some(nonce) };
    let mut leader = Facts {
        max_epoch: 1,
        applied_rev: 1,
        role_epoch: 1,
        barrier: Barrier { epoch: 1, rev: 1 },
        enforced: Some(Enforced { rev: 1, ..Enforced::default() }),
        lineage: lineage.clone(),
        flushed: 100,
        ..Facts::of(ReplicaState::Open)
    };
    see(&mut observed, first, leader.clone());
    step(&mut cluster, &observed);
    assert_eq!(
        (cluster.phase.clone(), cluster.mode(), route(&cluster).state),
        (Phase::Steady, Mode::Alone, RouteState::Open)
    );

    let mut follower = Facts {
        max_epoch: 1,
        role_epoch: 1,
        barrier: Barrier { epoch: 1, rev: 1 },
        lineage,
        flushed: 100,
        replayed: 100,
        upstream: Some(Upstream {
            member: Some(first),
            streaming: true,
            application_name: String::new(),
            silent_for: Duration::ZERO,
        }),
        ..Facts::of(ReplicaState::Standby)
    };
    leader.downstream = vec![Downstream {
        member: second,
        epoch: 1,
        streaming: true,
        acknowledges: false,
        flushed: 100,
        replayed: 100,
    }];
    see(&mut observed, first, leader.clone());
    see(&mut observed, second, follower.clone());
    step(&mut cluster, &observed);
    assert_eq!(cluster.mode(), Mode::Quorum);
    assert!(cluster.candidates().is_empty(), "not before the leader confirms");
    let Goal::Lead { acks, acks_needed, barrier_rev, .. } = orders(&cluster)[&first].goal.clone() else { panic!() };
    leader.enforced = Some(Enforced { rev: cluster.rev, acks, needed: acks_needed, barrier_rev });
    leader.barrier.rev = barrier_rev;
    leader.applied_rev = cluster.rev;
    leader.downstream[0].acknowledges = true;
    follower.barrier.rev = barrier_rev;
    see(&mut observed, first, leader);
    see(&mut observed, second, follower.clone());
    step(&mut cluster, &observed);
    assert!(cluster.candidates().contains(&second));

    // The primary's host falls silent; its standby and a witness agree.
    let silent = Duration::from_millis(1_600);
    if let Some(seen) = observed.members.get_mut(&first) {
        seen.age = silent;
    }
    let witness = Witness { by: hosts[1], silent_for: Some(silent), unanswered: 5, late: false };
    observed.hosts.insert(hosts[0], HostSeen { silent_for: silent, witnesses: vec![witness] });
    observed.hosts.insert(hosts[1], HostSeen::default());
    follower.upstream = None;
    see(&mut observed, second, follower.clone());
    step(&mut cluster, &observed);
    assert!(matches!(cluster.phase, Phase::Electing(_)), "{cluster:?}");
    assert_eq!(orders(&cluster)[&second].goal, Goal::Seal);
    assert!(matches!(route(&cluster).state, RouteState::Paused(_)));

    follower = Facts { max_epoch: 2, role_epoch: 2, state: ReplicaState::Sealed, ..follower };
    see(&mut observed, second, follower);
    step(&mut cluster, &observed);
    assert_eq!((cluster.primary(), cluster.epoch, cluster.mode()), (Some(second), 2, Mode::Alone));
    assert!(matches!(orders(&cluster)[&second].goal, Goal::Lead { .. }));
    let leader = Facts {
        max_epoch: 2,
        role_epoch: 2,
        applied_rev: cluster.rev,
        barrier: Barrier { epoch: 2, rev: cluster.rev },
        ..Facts::of(ReplicaState::Open)
    };
    see(&mut observed, second, leader);
    step(&mut cluster, &observed);
    assert_eq!((cluster.phase.clone(), route(&cluster).state), (Phase::Steady, RouteState::Open));
}
