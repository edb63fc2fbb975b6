//! The agent stops or dies anywhere in a promotion; the next one finishes it, once, and never by its own memory alone.

use uuid::Uuid;
use windlass_proto::agent::v1::{self as pb, replication_order::Goal};

use crate::lab::{Lab, comes};

#[tokio::test]
async fn a_promotion_is_finished_after_a_stop_of_the_agent_anywhere() {
    for (point, before_promotion) in [
        ("ha.after_persist", true),
        ("ha.before_promote", true),
        ("ha.after_promote", false),
        ("ha.after_role", false),
        ("ha.before_barrier", false),
        ("ha.after_barrier", false),
    ] {
        let (mut lab, _) = Lab::founded(2).await;
        lab.nodes[0].app("create table t(n int)").await.expect("write");
        lab.nodes[0].hold("ha.before_start");
        lab.nodes[0].kill_server();
        lab.seal(1, 2).await;
        lab.reaches(1, pb::ReplicaState::Sealed).await;
        let nonce = Uuid::new_v4().to_string();
        let order = lab.order(1, 2, lab.lead_goal(&nonce, &[]));
        lab.nodes[1].hold(point);
        lab.send(1, order.clone()).await;
        lab.nodes[1].held_at(point).await;
        lab.nodes[1].app("insert into t values (1)").await.expect_err("closed");
        lab.nodes[1].agent_stops().await;
        lab.nodes[1].agent_starts().await;
        if before_promotion {
            let waits = |facts: &pb::ReplicaFacts| facts.reason.contains("waits for the control plane");
            lab.until(1, "no promotion by memory", waits).await;
            assert_eq!(lab.nodes[1].sql("select pg_is_in_recovery()").await.as_deref(), Ok("t"), "{point}");
        }
        lab.send(1, order).await;
        let open = lab.reaches(1, pb::ReplicaState::Open).await;
        assert_eq!((open.role_epoch, open.barrier_epoch), (2, 2), "{point}");
        assert_eq!(open.lineage.expect("lineage").timeline, 2, "{point}: promoted once");
        lab.nodes[1].app("insert into t values (1)").await.expect("open");
    }
}

#[tokio::test]
async fn a_restart_of_the_agent_leaves_leader_and_follower_as_they_are() {
    let (mut lab, _) = Lab::founded(2).await;
    lab.nodes[0].app("create table t(n int)").await.expect("write");
    let pids = [0, 1].map(|index: usize| lab.nodes[index].pid());
    for index in [0, 1] {
        lab.nodes[index].agent_stops().await;
        lab.nodes[0].app("insert into t values (1)").await.expect("no agent is needed");
        lab.nodes[index].agent_starts().await;
    }
    // No control plane says anything.
    let open = lab.reaches(0, pb::ReplicaState::Open).await;
    lab.reaches(1, pb::ReplicaState::Standby).await;
    assert_eq!((open.barrier_epoch, open.starts), (1, lab.facts(0).expect("facts").starts));
    assert_eq!(pids, [0, 1].map(|index: usize| lab.nodes[index].pid()));
    lab.nodes[0].app("insert into t values (2)").await.expect("open");
    comes("3", async || lab.nodes[1].app("select count(*) from t").await).await;
}

#[tokio::test]
async fn following_is_finished_after_a_stop_of_the_agent_anywhere() {
    let mut lab = Lab::new(2).await;
    let mut nonce = Uuid::new_v4().to_string();
    lab.lead(0, 1, &nonce, &[]).await;
    lab.reaches(0, pb::ReplicaState::Open).await;
    for (epoch, point) in (2..).zip([
        "ha.after_copy",
        "ha.before_start",
        "ha.after_start",
        "ha.after_role",
        "ha.after_files",
        "ha.after_set_aside",
    ]) {
        // Each time anew: the leader goes on in a higher epoch.
        nonce = Uuid::new_v4().to_string();
        lab.lead(0, epoch, &nonce, &[]).await;
        lab.until(0, "leads on", |facts| facts.barrier_epoch == epoch && facts.state() == pb::ReplicaState::Open).await;
        lab.nodes[1].hold(point);
        let Goal::Follow(follow) = lab.follow_goal(&nonce, 0) else { panic!("follow") };
        let anew = Goal::Follow(pb::Follow { clone_anew: true, ..follow });
        lab.send(1, lab.order(1, epoch, anew)).await;
        lab.nodes[1].held_at(point).await;
        lab.nodes[1].agent_stops().await;
        lab.nodes[1].agent_starts().await;
        let back = lab.reaches(1, pb::ReplicaState::Standby).await;
        assert_eq!((back.role_epoch, back.barrier_epoch), (epoch, epoch), "{point}");
    }
    let aside = std::fs::read_dir(lab.nodes[1].root().join("quarantine")).expect("quarantine").count();
    assert!(aside <= 4, "{aside} copies are kept");
}

#[tokio::test]
async fn a_drain_is_finished_after_a_stop_of_the_agent() {
    let (mut lab, _) = Lab::founded(2).await;
    lab.nodes[0].hold("ha.after_stop");
    lab.drain(0, 1).await;
    lab.nodes[0].held_at("ha.after_stop").await;
    lab.nodes[0].agent_stops().await;
    lab.nodes[0].agent_starts().await;
    let stopped = lab.reaches(0, pb::ReplicaState::CleanStop).await;
    let candidate = lab.facts(1).expect("facts");
    assert_eq!(candidate.flushed_lsn, stopped.flushed_lsn, "the end is exact");
}
