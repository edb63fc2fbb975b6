//! A leader is lost; another member takes its place with everything that was acknowledged.

use std::time::Instant;

use uuid::Uuid;
use windlass_proto::agent::v1 as pb;

use crate::lab::{Lab, comes};

#[tokio::test]
async fn a_pair_fails_over_without_loss_and_the_former_leader_comes_back() {
    let (lab, _) = Lab::founded(2).await;
    lab.nodes[0].app("create table t(n int); insert into t select generate_series(1, 100)").await.expect("write");
    // The leader is gone, and nothing starts it.
    lab.nodes[0].hold("ha.before_start");
    lab.nodes[0].kill_server();
    let begun = Instant::now();
    lab.seal(1, 2).await;
    let sealed = lab.reaches(1, pb::ReplicaState::Sealed).await;
    let seal_took = begun.elapsed();
    assert_eq!((sealed.max_epoch, sealed.role_epoch, sealed.barrier_epoch), (2, 2, 1));
    assert!(sealed.flushed_lsn > 0 && sealed.upstream.is_none(), "{sealed:?}");
    let nonce = Uuid::new_v4().to_string();
    let promoted = Instant::now();
    lab.lead(1, 2, &nonce, &[]).await;
    let open = lab.reaches(1, pb::ReplicaState::Open).await;
    let open_took = promoted.elapsed();
    assert_eq!((open.barrier_epoch, open.lineage.clone().expect("lineage").nonce), (2, nonce.clone()));
    assert_eq!(open.lineage.expect("lineage").timeline, 2);
    lab.nodes[1].app("insert into t values (101)").await.expect("the new leader takes writes");
    assert_eq!(lab.nodes[1].app("show windlass.epoch").await.as_deref(), Ok("2"));
    lab.nodes[0].let_go("ha.before_start");
    let begun = Instant::now();
    lab.follow(0, 2, &nonce, 1).await;
    lab.reaches(0, pb::ReplicaState::Standby).await;
    println!("figure: sealed in {seal_took:?}, ordered to open in {open_took:?}, rejoined in {:?}", begun.elapsed());
    lab.lead(1, 2, &nonce, &[0]).await;
    lab.enforces(1, &[0]).await;
    lab.nodes[1].app("insert into t values (102)").await.expect("acknowledged");
    comes("102", async || lab.nodes[0].app("select count(*) from t").await).await;
    // Its slots are there for when it leads again, and keep no log until then.
    let slots = "select count(*) || ' ' || count(restart_lsn) from pg_replication_slots";
    comes("1 0", async || lab.nodes[0].sql(slots).await).await;
    comes("1 1", async || lab.nodes[1].sql(slots).await).await;
}

#[tokio::test]
async fn of_three_the_other_standby_acknowledges_the_new_leaders_barrier() {
    let (lab, _) = Lab::founded(3).await;
    lab.nodes[0].app("create table t(n int); insert into t values (1)").await.expect("write");
    lab.nodes[0].hold("ha.before_start");
    lab.nodes[0].kill_server();
    for index in [1, 2] {
        lab.seal(index, 2).await;
    }
    for index in [1, 2] {
        lab.reaches(index, pb::ReplicaState::Sealed).await;
    }
    let nonce = Uuid::new_v4().to_string();
    lab.lead(1, 2, &nonce, &[2]).await;
    // Nobody can have acknowledged the barrier: whatever it does, it does not open.
    lab.reaches(1, pb::ReplicaState::Gated).await;
    lab.nodes[1].app("select 1").await.expect_err("the gate is shut");
    let begun = Instant::now();
    lab.follow(2, 2, &nonce, 1).await;
    lab.reaches(1, pb::ReplicaState::Open).await;
    println!("figure: second standby pointed to barrier acknowledged in {:?}", begun.elapsed());
    lab.reaches(2, pb::ReplicaState::Standby).await;
    lab.nodes[1].app("insert into t values (2)").await.expect("write");
    comes("2", async || lab.nodes[2].app("select count(*) from t").await).await;
    // A member that left loses its slot; what it is told no longer matters.
    let facts = lab.facts(1).expect("facts");
    assert_eq!(
        facts.downstream.iter().filter(|member| member.acknowledges && member.epoch == 2).count(),
        1,
        "{facts:?}"
    );
}

#[tokio::test]
async fn a_leader_that_is_shown_a_higher_epoch_ends_its_server() {
    let (lab, nonce) = Lab::founded(2).await;
    let pid = lab.nodes[0].pid().expect("it runs");
    lab.show(0, 5);
    let demoted = lab.reaches(0, pb::ReplicaState::Demoted).await;
    assert_eq!(demoted.max_epoch, 5);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "the server is gone");
    assert!(lab.nodes[0].root().join("data/standby.signal").exists(), "by hand it could only start as a standby");
    // Its own epoch is over.
    lab.lead(0, 1, &nonce, &[]).await;
    let still = lab.reaches(0, pb::ReplicaState::Demoted).await;
    assert_eq!(still.applied_rev, demoted.applied_rev);
}

#[tokio::test]
async fn a_frozen_leader_counts_as_dead_and_is_ended_before_it_can_acknowledge() {
    let (lab, _) = Lab::founded(1).await;
    lab.nodes[0].app("create table t(n int)").await.expect("write");
    lab.nodes[0].signal_server(nix::sys::signal::Signal::SIGSTOP);
    let crashed = lab.until(0, "counts as dead", |facts| facts.state() == pb::ReplicaState::Crashed).await;
    assert!(crashed.must_not_restart && crashed.reason.contains("does not answer"), "{crashed:?}");
    lab.show(0, 2);
    lab.reaches(0, pb::ReplicaState::Demoted).await;
}
