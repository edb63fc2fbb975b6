//! The driver's table by artificial time, and its watches and answers on a real server.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use windlass_core::{
    id::{HostId, InstanceId, MemberId, ProjectId},
    replication::Replication,
};
use windlass_db::{
    Guard,
    events::NewEvent,
    ha::{ClusterOwner, PeerHost},
    testing::TestDb,
};
use windlass_logic::ha::{Cluster, Kind, Member, Phase, Stay};
use windlass_proto::agent::v1::{self as pb, replication_order::Goal};

use super::{
    answer::answer,
    events::Teller,
    handle::{Ha, HaConfig, Watch},
    table::{Job, Table},
};
use crate::{routes::Routes, sagas::Waker};

const MS: Duration = Duration::from_millis(1);

/// Two members on two hosts, two more hosts that may be witnesses, and the time.
struct Fleet {
    table: Table,
    now: Duration,
    hosts: Vec<HostId>,
    members: [MemberId; 2],
    instance: InstanceId,
    sequence: u64,
    told: Vec<NewEvent>,
}

impl Fleet {
    fn new() -> Self {
        let hosts: Vec<_> = (0..4).map(|_| HostId::new()).collect();
        let members = [MemberId::new(), MemberId::new()];
        let instance = InstanceId::new();
        let mut table = Table::default();
        let peer = |(n, id): (usize, &HostId)| PeerHost {
            id: *id,
            name: format!("h{n}"),
            address: format!("192.0.2.{n}"),
            peer_port: 7411,
            region: String::new(),
            zone: String::new(),
        };
        table.set_fleet(hosts.iter().enumerate().map(peer).collect());
        let known = members.iter().zip(&hosts).enumerate().map(|(n, (id, host))| (*id, member(n, *host))).collect();
        let cluster = Cluster::found(known, members[0], Replication::default(), Uuid::new_v4());
        let now = 10_000 * MS;
        table.begin(now, guard(), vec![(instance, cluster, owner())]);
        table.survey();
        Self { table, now, hosts, members, instance, sequence: 0, told: Vec::new() }
    }

    /// Every living host reports, as a healthy cluster would; decisions are taken as if they were stored.
    fn round(&mut self, dead: &[usize]) -> Vec<NewEvent> {
        let mut told = Vec::new();
        for n in 0..self.hosts.len() {
            if !dead.contains(&n) {
                self.report(n, dead);
            }
        }
        for _ in 0..10 {
            let jobs = self.table.due(self.now, &|_, _| Vec::new());
            if jobs.is_empty() {
                break;
            }
            for Job { instance, owner, before, next, happened, cause } in jobs {
                let teller = Teller { owner: &owner, instance, before: &before, next: &next, cause: &cause };
                told.extend(teller.events(&happened));
                self.table.put(self.now, instance, next, owner);
            }
        }
        told
    }

    fn report(&mut self, n: usize, dead: &[usize]) {
        self.sequence += 1;
        let members = if n < 2 { vec![self.facts(n, dead)] } else { Vec::new() };
        let silence = |host: &HostId| {
            let dead = self.hosts.iter().position(|known| known == host).is_some_and(|n| dead.contains(&n));
            pb::PeerSighting {
                host_id: host.to_string(),
                silent_for: Some(wire(if dead { 1_500 * MS } else { 10 * MS })),
                unanswered: if dead { 5 } else { 0 },
            }
        };
        let sightings = self.hosts.iter().map(silence).collect();
        let report = pb::ReplicationReport {
            session_id: "s".into(),
            sequence: self.sequence,
            members,
            sightings,
            ..Default::default()
        };
        self.table.report(self.now, self.hosts[n], report);
    }

    fn facts(&self, n: usize, dead: &[usize]) -> pb::ReplicaFacts {
        let cluster = self.cluster();
        let leads = cluster.reign.leader == self.members[n] && cluster.reign.epoch == cluster.epoch;
        let set = cluster.reign.ordered();
        let alive = !dead.contains(&(1 - n));
        let known = pb::ReplicaFacts {
            instance_id: self.instance.to_string(),
            member_id: self.members[n].to_string(),
            max_epoch: cluster.epoch,
            applied_rev: cluster.rev,
            role_epoch: cluster.epoch,
            barrier_epoch: cluster.reign.epoch,
            barrier_rev: set.rev,
            flushed_lsn: 100,
            replayed_lsn: 100,
            progress_percent: -1,
            lineage: Some(pb::Lineage {
                system: "1".into(),
                timeline: 1,
                fork_lsn: 0,
                nonce: cluster.reign.nonce.to_string(),
            }),
            ..Default::default()
        };
        let other = self.members[1 - n].to_string();
        if leads {
            let acknowledges = set.members.contains(&self.members[1 - n]);
            let down = pb::Downstream {
                member_id: other,
                epoch: cluster.epoch,
                streaming: true,
                acknowledges,
                flushed_lsn: 100,
                replayed_lsn: 100,
            };
            return pb::ReplicaFacts {
                state: pb::ReplicaState::Open.into(),
                enforced: Some(pb::Enforced {
                    rev: cluster.rev,
                    acks: set.members.iter().map(ToString::to_string).collect(),
                    acks_needed: set.needed,
                    barrier_rev: set.rev,
                }),
                downstream: if alive { vec![down] } else { Vec::new() },
                ..known
            };
        }
        let upstream = pb::Upstream { member_id: other, streaming: alive, ..Default::default() };
        let state = match cluster.phase {
            Phase::Electing(_) => pb::ReplicaState::Sealed,
            Phase::Steady | Phase::Promoting(_) | Phase::Switchover(_) | Phase::Reconciling | Phase::Resting(_) => {
                pb::ReplicaState::Standby
            }
        };
        pb::ReplicaFacts { state: state.into(), upstream: Some(upstream), ..known }
    }

    fn cluster(&self) -> &Cluster {
        &self.table.clusters[&self.instance].cluster
    }

    /// Rounds of half a second; gives when something was detected.
    fn run(&mut self, rounds: u32, dead: &[usize]) -> Option<Duration> {
        let begun = self.now;
        for _ in 0..rounds {
            self.now += 100 * MS;
            let told = self.round(dead);
            self.told.extend(told.iter().cloned());
            if told.iter().any(|event| event.kind == "failover.detected") {
                return Some(self.now - begun);
            }
        }
        None
    }
}

fn member(n: usize, host: HostId) -> Member {
    Member {
        host,
        host_name: format!("h{n}"),
        address: format!("192.0.2.{n}"),
        port: 5432,
        kind: Kind::Synchronous,
        priority: 0,
        stay: Stay::Staying,
        clone_anew: false,
        order_rev: 0,
    }
}

fn guard() -> Guard {
    Guard { name: "orchestrator".to_owned(), epoch: 7 }
}

fn owner() -> ClusterOwner {
    ClusterOwner { project: ProjectId::new(), target: "projects/p/instances/i".to_owned() }
}

fn wire(duration: Duration) -> pbjson_types::Duration {
    pbjson_types::Duration { seconds: 0, nanos: i32::try_from(duration.as_nanos()).unwrap_or(999_999_999) }
}

#[test]
fn a_dead_host_is_replaced_within_its_detection_time_and_a_living_one_never() {
    let mut fleet = Fleet::new();
    assert_eq!(fleet.run(100, &[]), None, "nobody is dead");
    assert_eq!(fleet.cluster().acks().len(), 1, "the replica acknowledges");
    let took = fleet.run(50, &[0]).expect("noticed");
    assert!(took >= 1_400 * MS && took <= 1_700 * MS, "{took:?}");
    fleet.run(5, &[0]);
    assert_eq!(fleet.cluster().primary(), Some(fleet.members[1]));
    assert_eq!(fleet.cluster().epoch, 2);
}

#[test]
fn a_failover_is_told_step_by_step_with_its_times_and_why() {
    let mut fleet = Fleet::new();
    fleet.run(30, &[]);
    fleet.told.clear();
    fleet.run(50, &[0]).expect("noticed");
    fleet.run(5, &[0]);
    let kinds: Vec<_> =
        fleet.told.iter().map(|event| event.kind.as_str()).filter(|k| k.starts_with("failover")).collect();
    assert_eq!(kinds, ["failover.detected", "failover.sealed", "failover.promoted", "failover.finished"]);
    let finished = fleet.told.iter().find(|event| event.kind == "failover.finished").expect("told");
    for key in ["detected_ms", "sealed_ms", "promoted_ms", "opened_ms", "rto_ms", "reason", "epoch", "member"] {
        assert!(finished.data.contains_key(key), "{key} of {:?}", finished.data);
    }
    assert!(finished.data["reason"].contains("silent"), "{:?}", finished.data);
    assert_eq!(finished.instance, Some(fleet.instance));
}

#[test]
fn a_new_owner_waits_for_a_whole_round_before_it_holds_anybody_for_dead() {
    let mut fleet = Fleet::new();
    fleet.run(30, &[]);
    let (cluster, owner) = (fleet.cluster().clone(), owner());
    // The primary died a while ago, and another node takes over.
    fleet.now += 2_000 * MS;
    fleet.table.begin(fleet.now, Guard { epoch: 8, ..guard() }, vec![(fleet.instance, cluster, owner)]);
    let took = fleet.run(50, &[0]).expect("noticed");
    assert!(took >= 1_400 * MS, "{took:?}");
}

#[test]
fn a_node_that_stood_still_hears_everybody_again_first() {
    let mut fleet = Fleet::new();
    fleet.run(30, &[]);
    fleet.now += 10_000 * MS;
    assert_eq!(fleet.run(10, &[0]), None, "its own standstill is not the silence of others");
}

#[test]
fn when_everybody_falls_silent_at_once_nobody_is_dead() {
    let mut fleet = Fleet::new();
    fleet.run(30, &[]);
    assert_eq!(fleet.run(25, &[0, 1, 2, 3]), None);
    assert_eq!(fleet.run(20, &[]), None, "and when they are back neither");
    assert_eq!(fleet.cluster().epoch, 1);
}

#[test]
fn an_older_report_of_a_session_changes_nothing() {
    let mut fleet = Fleet::new();
    fleet.run(30, &[]);
    let host = fleet.hosts[0];
    let late = pb::ReplicationReport { session_id: "s".into(), sequence: 1, ..Default::default() };
    assert!(!fleet.table.report(fleet.now, host, late));
    let foreign = pb::ReplicaFacts { state: pb::ReplicaState::Crashed.into(), crashes: 9, ..fleet.facts(0, &[]) };
    let sequence = fleet.sequence + 1;
    let report =
        pb::ReplicationReport { session_id: "s".into(), sequence, members: vec![foreign], ..Default::default() };
    fleet.table.report(fleet.now, fleet.hosts[2], report);
    assert_eq!(fleet.run(5, &[]), None, "facts count only from the member's own host");
}

#[test]
fn a_host_that_moved_is_told_to_everybody() {
    let mut fleet = Fleet::new();
    fleet.run(30, &[]);
    let rev = fleet.cluster().rev;
    let mut hosts: Vec<_> = (0..4).map(|n| (n, fleet.hosts[n])).collect();
    hosts.reverse();
    let peer = |(n, id): (usize, HostId)| PeerHost {
        id,
        name: format!("h{n}"),
        address: format!("198.51.100.{n}"),
        peer_port: 7411,
        region: String::new(),
        zone: String::new(),
    };
    fleet.table.set_fleet(hosts.into_iter().map(peer).collect());
    fleet.run(10, &[]);
    assert!(fleet.cluster().rev > rev);
    let (orders, _) = answer(&fleet.table, fleet.hosts[1], 7);
    let Some(Goal::Follow(follow)) = &orders.orders[0].goal else { panic!("{orders:?}") };
    assert_eq!(follow.leader.as_ref().expect("a leader").address, "198.51.100.0");
}

#[test]
fn members_and_witnesses_report_and_probe_and_the_others_are_left_alone() {
    let fleet = Fleet::new();
    let told: Vec<_> = fleet.hosts.iter().map(|host| answer(&fleet.table, *host, 7).0).collect();
    for (n, orders) in told.iter().enumerate() {
        assert_eq!(orders.orders.len(), usize::from(n < 2), "host {n}");
        assert!(orders.peers.len() >= usize::from(n < 2));
        assert_eq!(orders.owner_epoch, 7);
    }
    let mut hosts = fleet.hosts.clone();
    hosts.push(HostId::new());
    let stranger = answer(&fleet.table, hosts[4], 7).0;
    assert_eq!((stranger.orders.len(), stranger.peers.len()), (0, 0));
    assert_eq!(stranger.report_every.expect("set").nanos, 0, "it need not report");
}

#[tokio::test]
async fn a_watch_ends_with_the_orders_at_once_or_when_its_time_is_over() {
    let test = TestDb::create().await;
    let config = HaConfig { hold: 400 * MS };
    let ha = Ha::new(test.db.clone(), config, Waker::new(), Routes::new().0);
    let fleet = Fleet::new();
    let cluster = fleet.cluster().clone();
    {
        let now = ha.now();
        ha.table().begin(now, guard(), vec![(fleet.instance, cluster.clone(), owner())]);
    }
    let watch = |known| Watch { host: fleet.hosts[0], session: "s".into(), known };
    let drain = CancellationToken::new();
    let soon = Duration::from_secs(10);
    let orders =
        tokio::time::timeout(soon, ha.watch(watch(Vec::new()), &drain)).await.expect("at once").expect("orders");
    let order = &orders.orders[0];
    let known = vec![pb::KnownOrder { member_id: order.member_id.clone(), epoch: order.epoch, rev: order.rev }];

    let begun = std::time::Instant::now();
    let again = ha.watch(watch(known.clone()), &drain).await.expect("orders");
    assert!(begun.elapsed() >= 300 * MS, "nothing is new, so it is held");
    assert_eq!(again.orders.len(), 1, "and ends with all orders");

    let parked = {
        let (ha, watch, drain) = (ha.clone(), watch(known), drain.clone());
        tokio::spawn(async move { ha.watch(watch, &drain).await })
    };
    let mut next = cluster.clone();
    next.rev += 1;
    for member in next.members.values_mut() {
        member.order_rev = next.rev;
    }
    let begun = std::time::Instant::now();
    while !parked.is_finished() && begun.elapsed() < soon {
        let now = ha.now();
        ha.table().put(now, fleet.instance, next.clone(), owner());
        tokio::time::sleep(10 * MS).await;
    }
    let pushed = parked.await.expect("no panic").expect("orders");
    assert_eq!(pushed.orders[0].rev, next.rev);
}

#[tokio::test]
async fn a_node_that_does_not_decide_refuses_reports_and_gives_no_orders_of_its_own() {
    let test = TestDb::create().await;
    let ha = Ha::new(test.db.clone(), HaConfig { hold: 50 * MS }, Waker::new(), Routes::new().0);
    let report = pb::ReplicationReport { session_id: "s".into(), sequence: 1, ..Default::default() };
    let refused = ha.report(HostId::new(), report).expect_err("it does not decide");
    assert_eq!(refused.reason, windlass_core::Reason::Unavailable);
    let watch = Watch { host: HostId::new(), session: "s".into(), known: Vec::new() };
    let orders = ha.watch(watch, &CancellationToken::new()).await.expect("answered");
    assert!(orders.orders.is_empty());
}
