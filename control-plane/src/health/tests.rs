//! Health on a real server: what becomes of hellos, heartbeats and silence.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use windlass_core::{Reason, id::HostId, size::Resources};
use windlass_db::{
    agents::AgentHello,
    certificates::{HostCertificate, host_certificate_add_tx, host_certificates_revoke_tx},
    testing::TestDb,
};
use windlass_proto::agent::v1 as pb;

use super::*;
use crate::lease::{Keeper, LeaseConfig};

const SOON: Duration = Duration::from_secs(15);

async fn host(test: &TestDb, name: &str) -> HostId {
    let host = HostId::new();
    test.execute(&format!("insert into host (id, name, state) values ('{host}', '{name}', 'OFFLINE')")).await;
    host
}

fn hello(session: &str) -> AgentHello {
    AgentHello {
        agent_version: "1".into(),
        boot_id: "b".into(),
        session_id: session.into(),
        capacity: Resources { cpu_millis: 1000, memory_bytes: 1 << 30, disk_bytes: 1 << 30 },
        address: "127.0.0.1".into(),
        port_low: 5000,
        port_high: 6000,
        peer_port: 0,
        engines: json!([]),
    }
}

fn beat(session: &str, sequences: &[u64]) -> pb::HeartbeatRequest {
    let happenings = sequences.iter().map(|sequence| pb::Happening {
        kind: "member.crashed".into(),
        message: format!("crash {sequence}"),
        sequence: *sequence,
        ..Default::default()
    });
    pb::HeartbeatRequest { session_id: session.into(), happenings: happenings.collect(), ..Default::default() }
}

async fn events(test: &TestDb, kind: &str) -> i64 {
    test.count(&format!("select count(*) from event where kind = '{kind}'")).await
}

#[tokio::test]
async fn a_happening_becomes_an_event_once_also_after_a_restart_of_this_node() {
    let test = TestDb::create().await;
    let id = host(&test, "h1").await;
    let health = Health::new(test.db.clone(), HealthConfig::default());
    health.hello(id, &hello("s1")).await.expect("hello");
    assert_eq!(health.heartbeat(id, &beat("s1", &[1, 2])).await.expect("beat"), 2);
    assert_eq!(health.heartbeat(id, &beat("s1", &[2, 3])).await.expect("a repeat and a new one"), 3);
    assert_eq!(events(&test, "member.crashed").await, 3);
    let restarted = Health::new(test.db.clone(), HealthConfig::default());
    restarted.hello(id, &hello("s1")).await.expect("hello");
    assert_eq!(restarted.heartbeat(id, &beat("s1", &[3])).await.expect("a lost answer"), 3);
    assert_eq!(events(&test, "member.crashed").await, 3);
    restarted.hello(id, &hello("s2")).await.expect("a new session");
    assert_eq!(restarted.heartbeat(id, &beat("s2", &[1])).await.expect("counts anew"), 1);
    assert_eq!(events(&test, "member.crashed").await, 4);
    assert_eq!(restarted.heartbeat(id, &beat("s1", &[9])).await.expect("an old session"), 0);
    assert_eq!(events(&test, "member.crashed").await, 4);
    assert_eq!(events(&test, "host.online").await, 1, "coming is said once");
}

#[tokio::test]
async fn a_quiet_heartbeat_writes_nothing() {
    let test = TestDb::create().await;
    let id = host(&test, "h1").await;
    let health = Health::new(test.db.clone(), HealthConfig::default());
    health.hello(id, &hello("s1")).await.expect("hello");
    health.heartbeat(id, &beat("s1", &[])).await.expect("the first one stores the list of orphans");
    let version = "select xmin::text::bigint from host";
    let before = test.count(version).await;
    for _ in 0..5 {
        health.heartbeat(id, &beat("s1", &[])).await.expect("beat");
    }
    assert_eq!(test.count(version).await, before, "the row is untouched");
}

#[tokio::test]
async fn silence_makes_a_host_offline_and_a_heartbeat_brings_it_back() {
    let test = TestDb::create().await;
    let (talking, silent) = (host(&test, "talking").await, host(&test, "silent").await);
    let config = HealthConfig {
        offline_after: Duration::from_secs(2),
        start_grace: Duration::from_millis(100),
        touch_every: Duration::from_millis(500),
    };
    let health = Health::new(test.db.clone(), config);
    let keeper = Keeper::new(test.db.clone(), LeaseConfig::orchestrator("a"));
    let (shutdown, ownership) = (CancellationToken::new(), keeper.ownership());
    let tasks = tokio::spawn({
        let (health, shutdown) = (health.clone(), shutdown.clone());
        async move { tokio::join!(keeper.run(shutdown.clone()), health.run(ownership, shutdown)) }
    });
    for id in [talking, silent] {
        health.hello(id, &hello("s")).await.expect("hello");
    }
    let going = async {
        while test.count("select count(*) from host where state = 'OFFLINE'").await == 0 {
            let load = pb::HostFacts { cpu_percent: 12.5, ..Default::default() };
            let beat = pb::HeartbeatRequest { host: Some(load), ..beat("s", &[]) };
            health.heartbeat(talking, &beat).await.expect("beat");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, going).await.expect("it goes");
    assert_eq!(test.count(&format!("select count(*) from host where state = 'OFFLINE' and id = '{silent}'")).await, 1);
    assert_eq!(events(&test, "host.offline").await, 1);
    assert_eq!(test.count("select count(*) from host where load->>'cpu_percent' = '12.5'").await, 1, "touched");
    health.heartbeat(silent, &beat("s", &[])).await.expect("beat");
    assert_eq!(test.count("select count(*) from host where state = 'ONLINE'").await, 2);
    shutdown.cancel();
    let (kept, watched) = tasks.await.expect("no panic");
    kept.expect("keeper");
    watched.expect("health");
}

#[tokio::test]
async fn a_host_that_only_another_node_hears_stays_online() {
    let test = TestDb::create().await;
    let (ours, theirs, silent) = (host(&test, "ours").await, host(&test, "theirs").await, host(&test, "silent").await);
    let config = HealthConfig {
        offline_after: Duration::from_secs(2),
        start_grace: Duration::from_millis(100),
        ..HealthConfig::default()
    };
    let shutdown = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    let mut nodes = Vec::new();
    for name in ["a", "b"] {
        let health = Health::new(test.db.clone(), config);
        let keeper = Keeper::new(test.db.clone(), LeaseConfig::orchestrator(name));
        let mut ownership = keeper.ownership();
        let (watched, token) = (health.clone(), shutdown.clone());
        let sight = ownership.clone();
        tasks.spawn(async move { tokio::join!(keeper.run(token.clone()), watched.run(sight, token)) });
        if nodes.is_empty() {
            ownership.held().await;
        }
        nodes.push(health);
    }
    nodes[0].hello(ours, &hello("s")).await.expect("hello");
    nodes[0].hello(silent, &hello("s")).await.expect("hello");
    nodes[1].hello(theirs, &hello("s")).await.expect("hello");
    let going = async {
        while events(&test, "host.offline").await == 0 {
            nodes[0].heartbeat(ours, &beat("s", &[])).await.expect("beat");
            nodes[1].heartbeat(theirs, &beat("s", &[])).await.expect("beat");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, going).await.expect("the silent one goes");
    assert_eq!(test.count(&format!("select count(*) from host where state = 'OFFLINE' and id = '{silent}'")).await, 1);
    assert_eq!(test.count("select count(*) from host where state = 'ONLINE'").await, 2);
    shutdown.cancel();
    while let Some(ended) = tasks.join_next().await {
        let (kept, watched) = ended.expect("no panic");
        kept.expect("keeper");
        watched.expect("health");
    }
}

#[tokio::test]
async fn only_a_known_certificate_is_let_in_and_a_revocation_counts_at_once() {
    let test = TestDb::create().await;
    let id = host(&test, "h1").await;
    let mut tx = test.db.begin().await.expect("begin");
    let certificate = HostCertificate { serial: "aa".into(), host: id, not_after: Timestamp::now() };
    host_certificate_add_tx(&mut tx, &certificate).await.expect("add");
    tx.commit().await.expect("commit");
    let health = Health::new(test.db.clone(), HealthConfig::default());
    health.admit(id, "aa").await.expect("known");
    assert_eq!(health.admit(id, "bb").await.expect_err("unknown").reason, Reason::HostRevoked);
    assert_eq!(health.admit(HostId::new(), "aa").await.expect_err("another's").reason, Reason::HostRevoked);
    let mut tx = test.db.begin().await.expect("begin");
    host_certificates_revoke_tx(&mut tx, id).await.expect("revoke");
    tx.commit().await.expect("commit");
    let waiting = tokio::spawn({
        let health = health.clone();
        async move { health.until_revoked(id).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    health.revoked(id);
    let refusal = tokio::time::timeout(SOON, waiting).await.expect("told").expect("no panic");
    assert_eq!(refusal.reason, Reason::HostRevoked);
    assert_eq!(health.admit(id, "aa").await.expect_err("revoked").reason, Reason::HostRevoked);
}
