//! Stops in order: nothing is lost by comparison, and the former leader needs no rewind.

use std::time::Instant;

use uuid::Uuid;
use windlass_proto::agent::v1 as pb;

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
