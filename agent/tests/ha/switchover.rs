//! Stops in order: nothing is lost by comparison, and the former leader needs no rewind.

use std::time::Instant;

use uuid::Uuid;
use windlass_proto::agent::v1::{self as pb, replication_order::Goal};

use crate::lab::{Lab, comes};

#[tokio::test]
async fn a_drained_leader_hands_over_and_rejoins_without_a_rewind() {
    let (lab, _) = Lab::founded(2).await;
    lab.nodes[0].app("create table t(n int); insert into t values (1)").await.expect("write");
    let begun = Instant::now();
    lab.drain(0, 1).await;
    let stopped = lab.reaches(0, pb::ReplicaState::CleanStop).await;
    let drained = begun.elapsed();
    let candidate = lab.until(1, "has all", |facts| facts.flushed_lsn >= stopped.flushed_lsn).await;
    assert_eq!(candidate.flushed_lsn, stopped.flushed_lsn, "the end is exact");
    lab.seal(1, 2).await;
    lab.reaches(1, pb::ReplicaState::Sealed).await;
    let nonce = Uuid::new_v4().to_string();
    lab.lead(1, 2, &nonce, &[]).await;
    lab.reaches(1, pb::ReplicaState::Open).await;
    let handed = begun.elapsed();
    let begun = Instant::now();
    lab.follow(0, 2, &nonce, 1).await;
    let back = lab.reaches(0, pb::ReplicaState::Standby).await;
    println!(
        "figure: drained in {drained:?}, handed over in {handed:?}, back without a rewind in {:?}",
        begun.elapsed()
    );
    assert_eq!((back.lost_writes.as_str(), back.crashes), ("", 0));
    assert!(!lab.nodes[0].root().join("quarantine").exists(), "neither rewound nor copied");
}

#[tokio::test]
async fn a_history_that_was_handed_over_is_not_compared_and_its_server_shows_at_once() {
    let (mut lab, _) = Lab::founded(2).await;
    lab.nodes[0].supervision_only_when_told().await;
    lab.drain(0, 1).await;
    let stopped = lab.reaches(0, pb::ReplicaState::CleanStop).await;
    lab.until(1, "has all", |facts| facts.flushed_lsn >= stopped.flushed_lsn).await;
    lab.seal(1, 2).await;
    lab.reaches(1, pb::ReplicaState::Sealed).await;
    let nonce = Uuid::new_v4().to_string();
    // It opens when the former leader has its barrier.
    lab.lead(1, 2, &nonce, &[0]).await;
    let Goal::Follow(follow) = lab.follow_goal(&nonce, 1) else { unreachable!("it is a goal to follow") };
    let goal = Goal::Follow(pb::Follow { common_lsn: stopped.flushed_lsn, ..follow });
    lab.send(0, lab.order(0, 2, goal)).await;
    lab.reaches(1, pb::ReplicaState::Open).await;
    lab.reaches(0, pb::ReplicaState::Standby).await;
    comes("on", async || lab.nodes[0].sql("show wal_init_zero").await).await;
    let log = std::fs::read_to_string(lab.nodes[0].root().join("log/server.log")).expect("log");
    let (_, since) = log.rsplit_once("starting PostgreSQL").expect("a start");
    assert!(!since.contains("neither primary_conninfo"), "it was a standby of nobody first: {since}");
    assert!(!since.contains("WAL receiver process shutdown requested"), "it connected twice: {since}");
    comes("Running", async || Ok(format!("{:?}", lab.nodes[0].members.facts()[0].process()))).await;
    assert_eq!(lab.nodes[0].members.facts()[0].pid, i64::from(lab.nodes[0].pid().expect("it runs")));
}

#[tokio::test]
async fn before_a_stop_the_log_goes_on_in_a_fresh_segment() {
    let (lab, nonce) = Lab::founded(2).await;
    let leader = &lab.nodes[0];
    let segment = async || leader.sql("select pg_walfile_name(pg_current_wal_lsn())").await.expect("segment");
    leader.app("create table t as select generate_series(1, 20000)").await.expect("write");
    let before = segment().await;
    let Goal::Lead(lead) = lab.lead_goal(&nonce, &[1]) else { unreachable!("it is a goal to lead") };
    lab.send(0, lab.order(0, 1, Goal::Lead(pb::Lead { checkpoint_rev: 1, ..lead }))).await;
    lab.until(0, "a checkpoint", |facts| facts.checkpoint_rev == 1).await;
    assert_ne!(segment().await, before);
    let offset = leader.sql("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint % (16 << 20)").await;
    let offset: u64 = offset.expect("offset").parse().expect("a number");
    assert!(offset < 1 << 20, "a follower is sent {offset} bytes again");
}

#[tokio::test]
async fn a_drain_is_taken_back_by_the_same_epoch() {
    let (lab, nonce) = Lab::founded(2).await;
    lab.drain(0, 1).await;
    lab.reaches(0, pb::ReplicaState::CleanStop).await;
    lab.lead(0, 1, &nonce, &[1]).await;
    let open = lab.reaches(0, pb::ReplicaState::Open).await;
    assert_eq!(open.lineage.expect("lineage").timeline, 1);
    lab.nodes[0].app("create table t(n int)").await.expect("open");
}

#[tokio::test]
async fn all_rest_and_come_back_as_they_were() {
    let (lab, nonce) = Lab::founded(2).await;
    lab.nodes[0].app("create table t(n int); insert into t values (1)").await.expect("write");
    for index in [0, 1] {
        lab.rest(index, 1).await;
        lab.reaches(index, pb::ReplicaState::Resting).await;
        assert_eq!(lab.nodes[index].pid(), None);
    }
    lab.lead(0, 1, &nonce, &[1]).await;
    lab.reaches(0, pb::ReplicaState::Gated).await;
    lab.follow(1, 1, &nonce, 0).await;
    lab.reaches(1, pb::ReplicaState::Standby).await;
    lab.reaches(0, pb::ReplicaState::Open).await;
    comes("1", async || lab.nodes[1].app("select count(*) from t").await).await;
}
