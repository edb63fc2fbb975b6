//! Nobody enters before the barrier was acknowledged, after any start; and who is cut off shuts itself.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use windlass_proto::agent::v1 as pb;

use crate::lab::{Lab, comes};

#[tokio::test]
async fn a_restart_in_place_is_closed_until_a_follower_acknowledged_the_barrier() {
    let (lab, _) = Lab::founded(2).await;
    lab.nodes[0].app("create table t(n int)").await.expect("write");
    // No follower: its agent's machine is held, so nothing starts it again.
    lab.nodes[1].hold("ha.before_start");
    lab.nodes[1].kill_server();
    lab.until(0, "no follower", |facts| facts.downstream.is_empty()).await;
    let before = lab.facts(0).expect("facts");
    let begun = Instant::now();
    lab.nodes[0].kill_server();
    // Rejected as by a shut gate, or refused by a server that is not there; never let in.
    let closed =
        lab.until(0, "runs, closed", |facts| facts.starts > before.starts && facts.state() == pb::ReplicaState::Gated);
    closed.await;
    for _ in 0..20 {
        lab.nodes[0].app("select 1").await.expect_err("closed");
    }
    let waited = lab.reaches(0, pb::ReplicaState::Gated).await;
    assert!(waited.reason.contains("waits for its receipts"), "{}", waited.reason);
    assert_eq!(waited.crashes, 1);
    lab.nodes[1].let_go("ha.before_start");
    lab.reaches(0, pb::ReplicaState::Open).await;
    println!("figure: closed for {:?} in all", begun.elapsed());
    lab.nodes[0].app("insert into t values (1)").await.expect("open");
}

#[tokio::test]
async fn a_crashed_leader_with_a_follower_is_back_within_a_moment() {
    let (lab, _) = Lab::founded(2).await;
    lab.nodes[0].app("create table t(n int)").await.expect("write");
    let before = lab.facts(0).expect("facts");
    let begun = Instant::now();
    lab.nodes[0].kill_server();
    let back =
        lab.until(0, "open again", |facts| facts.state() == pb::ReplicaState::Open && facts.starts > before.starts);
    back.await;
    let took = begun.elapsed();
    lab.nodes[0].app("insert into t values (1)").await.expect("write");
    println!("figure: kill -9 to open in {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn who_is_cut_off_from_all_shuts_itself_and_opens_when_a_follower_is_back() {
    let (lab, nonce) = Lab::founded(2).await;
    lab.nodes[0].app("create table t(n int)").await.expect("write");
    // The shortest isolation; no order is heard after this one.
    let mut order = lab.order(0, 1, lab.lead_goal(&nonce, &[1]));
    order.fence_after = Some(pbjson_types::Duration { seconds: 1, nanos: 0 });
    lab.send(0, order).await;
    lab.enforces(0, &[1]).await;
    // The control plane alone is no reason.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(lab.facts(0).expect("facts").state(), pb::ReplicaState::Open);
    let pid = lab.nodes[0].pid();
    lab.nodes[1].hold("ha.before_start");
    lab.nodes[1].kill_server();
    let fenced = lab.reaches(0, pb::ReplicaState::Fenced).await;
    assert!(fenced.reason.contains("shut itself"), "{}", fenced.reason);
    lab.nodes[0].app("select 1").await.expect_err("stale reads are refused");
    assert_eq!(lab.nodes[0].pid(), pid, "its server goes on");
    lab.nodes[1].let_go("ha.before_start");
    lab.reaches(0, pb::ReplicaState::Open).await;
    assert_eq!(lab.nodes[0].pid(), pid);
    lab.nodes[0].app("insert into t values (1)").await.expect("open");
}

#[tokio::test]
async fn names_prove_nothing_before_the_server_was_seen_to_wait() {
    let (lab, nonce) = Lab::founded(3).await;
    let names = async |node: usize| lab.nodes[node].sql("show synchronous_standby_names").await;
    assert_eq!(names(1).await.as_deref(), Ok("ANY 1 (\"nobody\")"), "a standby has names before it is promoted");
    lab.nodes[0].app("create table t(n int)").await.expect("write");
    lab.lead(0, 1, &nonce, &[]).await;
    lab.enforces(0, &[]).await;
    let signal = lab.nodes[0].checkpointer().await;
    signal(Signal::SIGSTOP);
    let order = lab.order(0, 1, lab.lead_goal(&nonce, &[1]));
    let rev = order.rev;
    lab.send(0, order).await;
    comes("ANY 1", async || names(0).await.map(|names| names.chars().take(5).collect())).await;
    for n in 0..50 {
        lab.nodes[0].app(&format!("insert into t values ({n})")).await.expect("it does not wait yet");
        for node in 0..2 {
            let facts = lab.facts(node).expect("facts");
            assert!(facts.barrier_rev < rev, "commits go through that nobody else has: {facts:?}");
        }
    }
    signal(Signal::SIGCONT);
    lab.enforces(0, &[1]).await;
    lab.until(0, "a barrier", |facts| facts.barrier_rev == rev).await;
}

#[tokio::test]
async fn one_of_two_leads_alone_without_its_checkpointer() {
    let (lab, nonce) = Lab::founded(2).await;
    lab.nodes[0].app("create table t(n int)").await.expect("write");
    lab.reaches(1, pb::ReplicaState::Standby).await;
    let signal = lab.nodes[1].checkpointer().await;
    signal(Signal::SIGSTOP);
    lab.nodes[0].hold("ha.before_start");
    lab.nodes[0].kill_server();
    lab.seal(1, 2).await;
    lab.reaches(1, pb::ReplicaState::Sealed).await;
    lab.lead(1, 2, &nonce, &[]).await;
    lab.reaches(1, pb::ReplicaState::Open).await;
    lab.nodes[1].app("insert into t values (1)").await.expect("open");
    signal(Signal::SIGCONT);
}
