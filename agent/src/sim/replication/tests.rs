//! The model does what a test of the control plane may rely on, and refuses what real databases refuse.

use windlass_core::id::InstanceId;
use windlass_proto::agent::v1::replication_order::Goal;

use super::*;

/// Three hosts with one member each of one instance.
struct Three {
    cluster: SimCluster,
    hosts: [HostId; 3],
    targets: Vec<Arc<SimReplication>>,
    members: [MemberId; 3],
}

impl Three {
    fn new() -> Self {
        let cluster = SimCluster::new();
        let (hosts, members) = ([(); 3].map(|()| HostId::new()), [(); 3].map(|()| MemberId::new()));
        let instance = InstanceId::new().to_string();
        let targets: Vec<_> = hosts.iter().map(|host| cluster.host(*host)).collect();
        for (n, target) in targets.iter().enumerate() {
            target.set_agent(Lives::Yes);
            let data = if n == 0 { DataSource::Initialise } else { DataSource::Cloned };
            target.apply(&pb::MemberGoal {
                instance_id: instance.clone(),
                member_id: members[n].to_string(),
                data: data.into(),
                replicated: true,
                ..pb::MemberGoal::default()
            });
        }
        Self { cluster, hosts, targets, members }
    }

    async fn order(&self, n: usize, epoch: u64, rev: u64, goal: Goal) {
        let order = pb::ReplicationOrder {
            member_id: self.members[n].to_string(),
            epoch,
            rev,
            goal: Some(goal),
            ..pb::ReplicationOrder::default()
        };
        let orders = pb::ReplicationOrders { orders: vec![order], ..pb::ReplicationOrders::default() };
        self.targets[n].take(orders, BootInstant::now()).await;
    }

    fn lead(&self, epoch: u64, barrier_rev: u64, acks: &[usize]) -> Goal {
        Goal::Lead(pb::Lead {
            nonce: format!("n{epoch}"),
            acks: acks.iter().map(|n| self.members[*n].to_string()).collect(),
            acks_needed: u32::from(!acks.is_empty()),
            barrier_rev,
            members: Vec::new(),
            checkpoint_rev: 0,
        })
    }

    fn follow(&self, epoch: u64, leader: usize) -> Goal {
        let leader = pb::MemberAddress { member_id: self.members[leader].to_string(), ..pb::MemberAddress::default() };
        Goal::Follow(pb::Follow {
            nonce: format!("n{epoch}"),
            leader: Some(leader),
            may_acknowledge: true,
            ..pb::Follow::default()
        })
    }

    fn state(&self, n: usize) -> pb::ReplicaState {
        self.cluster.facts(self.members[n]).state()
    }

    async fn founded() -> Self {
        let three = Self::new();
        three.order(0, 1, 1, three.lead(1, 1, &[])).await;
        three.order(1, 1, 1, three.follow(1, 0)).await;
        three.order(2, 1, 1, three.follow(1, 0)).await;
        three.order(0, 1, 2, three.lead(1, 2, &[1, 2])).await;
        three
    }
}

#[tokio::test]
async fn members_are_founded_and_commits_wait_for_receipts() {
    let three = Three::new();
    assert_eq!([0, 1].map(|n| three.state(n)), [pb::ReplicaState::New; 2]);
    let three = Three::founded().await;
    assert_eq!(three.state(0), pb::ReplicaState::Open);
    assert_eq!([1, 2].map(|n| three.state(n)), [pb::ReplicaState::Standby; 2]);
    let facts = three.cluster.facts(three.members[0]);
    assert_eq!(facts.downstream.len(), 2);
    assert!(facts.downstream.iter().all(|down| down.acknowledges && down.epoch == 1));
    assert_eq!(facts.enforced.expect("it leads").rev, 2);

    let first = three.cluster.write(three.members[0]).expect("open");
    assert!(three.cluster.is_acknowledged(first));
    three.cluster.cut(three.hosts[0], three.hosts[1]);
    assert!(three.cluster.is_acknowledged(three.cluster.write(three.members[0]).expect("open")));
    three.cluster.cut(three.hosts[0], three.hosts[2]);
    let hangs = three.cluster.write(three.members[0]).expect("open");
    assert!(!three.cluster.is_acknowledged(hangs));
    three.cluster.heal();
    assert!(three.cluster.is_acknowledged(hangs));
}

#[tokio::test]
async fn a_failover_keeps_what_was_acknowledged_and_the_old_leader_rejoins() {
    let three = Three::founded().await;
    let kept = three.cluster.write(three.members[0]).expect("open");
    three.cluster.cut(three.hosts[0], three.hosts[1]);
    three.cluster.cut(three.hosts[0], three.hosts[2]);
    let lost = three.cluster.write(three.members[0]).expect("open");
    for n in [1, 2] {
        three.order(n, 2, 3, Goal::Seal(pb::Seal {})).await;
        assert_eq!(three.state(n), pb::ReplicaState::Sealed);
    }
    three.order(1, 2, 4, three.lead(2, 4, &[2])).await;
    assert_eq!(three.state(1), pb::ReplicaState::Gated, "nobody acknowledges yet");
    three.order(2, 2, 4, three.follow(2, 1)).await;
    assert_eq!(three.state(1), pb::ReplicaState::Open);
    assert_eq!(three.cluster.facts(three.members[1]).lineage.expect("data").timeline, 2);
    assert!(three.cluster.lost_at(three.members[1]).is_empty());

    three.cluster.heal();
    assert!(!three.cluster.is_acknowledged(lost), "the old leader has no ackers any more");
    assert!(three.cluster.open().contains(&three.members[0]), "it does not know yet");
    three.order(0, 2, 4, three.follow(2, 1)).await;
    assert_eq!(three.state(0), pb::ReplicaState::Standby);
    assert!(three.cluster.facts(three.members[0]).lost_writes.contains("1 transaction"));
    assert!(three.cluster.is_acknowledged(kept));
}

#[tokio::test]
async fn old_orders_are_refused_and_a_higher_epoch_ends_a_leader() {
    let three = Three::founded().await;
    three.order(0, 1, 1, Goal::Rest(pb::Rest {})).await;
    assert_eq!(three.state(0), pb::ReplicaState::Open, "a rev that was seen");
    let instance_id = three.cluster.facts(three.members[0]).instance_id;
    three.targets[0].shown(&[pb::InstanceEpoch { instance_id, epoch: 2 }]);
    assert_eq!(three.state(0), pb::ReplicaState::Demoted);
    three.order(0, 1, 9, three.lead(1, 9, &[])).await;
    assert_eq!(three.state(0), pb::ReplicaState::Demoted, "a lower epoch than it was shown");
}

#[tokio::test]
async fn nobody_obeys_without_an_agent_and_servers_go_on() {
    let three = Three::founded().await;
    three.targets[1].set_agent(Lives::No);
    three.order(1, 2, 9, Goal::Seal(pb::Seal {})).await;
    assert_eq!(three.state(1), pb::ReplicaState::Standby);
    assert!(three.cluster.is_acknowledged(three.cluster.write(three.members[0]).expect("open")));
    three.targets[1].set_agent(Lives::Yes);
    assert_eq!(three.state(1), pb::ReplicaState::Sealed);
}

#[tokio::test]
async fn a_crashed_server_comes_back_unless_it_is_beyond_repair() {
    let three = Three::founded().await;
    let starts = three.cluster.facts(three.members[0]).starts;
    three.cluster.crash(three.members[0], Repair::Restart);
    assert_eq!(three.state(0), pb::ReplicaState::Open);
    assert_eq!(three.cluster.facts(three.members[0]).starts, starts + 1);
    three.cluster.crash(three.members[0], Repair::Hopeless);
    assert_eq!(three.state(0), pb::ReplicaState::Crashed);
    assert!(three.cluster.facts(three.members[0]).must_not_restart);
    three.cluster.repair(three.members[0]);
    assert_eq!(three.state(0), pb::ReplicaState::Open);
}

#[tokio::test]
async fn a_drained_leader_has_handed_over_everything() {
    let three = Three::founded().await;
    three.cluster.write(three.members[0]).expect("open");
    three.order(0, 1, 5, Goal::Drain(pb::Drain {})).await;
    let old = three.cluster.facts(three.members[0]);
    assert_eq!(old.state(), pb::ReplicaState::CleanStop);
    assert_eq!(three.cluster.facts(three.members[1]).flushed_lsn, old.flushed_lsn, "its last record arrived");
    three.order(0, 1, 6, three.lead(1, 6, &[1, 2])).await;
    assert_eq!(three.state(0), pb::ReplicaState::Open, "a switchover that was given up");
}
