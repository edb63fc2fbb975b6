//! Orders that come twice, late or out of order; commands beside orders.

use tokio_util::sync::CancellationToken;
use windlass_agent::{link::ReplicationTarget as _, members::Disposal};
use windlass_proto::agent::v1 as pb;

use crate::lab::{Lab, comes};

#[tokio::test]
async fn repeats_change_nothing_and_what_is_late_is_refused() {
    let (lab, nonce) = Lab::founded(2).await;
    let alone = lab.order(0, 1, lab.lead_goal(&nonce, &[]));
    let together = lab.order(0, 1, lab.lead_goal(&nonce, &[1]));
    lab.send(0, together.clone()).await;
    let before = lab.enforces(0, &[1]).await;
    // A relaxation that was overtaken must not come into force.
    lab.send(0, alone).await;
    lab.send(0, together.clone()).await;
    let lower = pb::ReplicationOrder { epoch: 0, rev: together.rev + 10, ..together.clone() };
    lab.send(0, lower).await;
    lab.until(0, "looked", |facts| facts.flushed_lsn >= before.flushed_lsn).await;
    let names = lab.nodes[0].sql("show synchronous_standby_names").await.expect("names");
    assert!(names.contains(&windlass_core::replication::epoch_name(lab.nodes[1].member(), 1)), "{names}");
    let known = lab.nodes[0].replication.known();
    assert_eq!((known[0].epoch, known[0].rev), (1, together.rev));
    assert_eq!(lab.nodes[0].replication.epochs()[0].epoch, 1);
    // A newer one is valid: waiting commits are released.
    lab.nodes[1].hold("ha.before_start");
    lab.nodes[1].kill_server();
    lab.until(0, "no follower", |facts| facts.downstream.is_empty()).await;
    let node = &lab.nodes[0];
    let (written, ()) = tokio::join!(node.app("create table t(n int)"), lab.lead(0, 1, &nonce, &[]));
    written.expect("released");
    lab.enforces(0, &[]).await;
}

#[tokio::test]
async fn a_former_owner_is_not_listened_to() {
    let (lab, nonce) = Lab::founded(1).await;
    let replication = &lab.nodes[0].replication;
    let newer = pb::ReplicationOrders { owner_epoch: 2, ..Default::default() };
    replication.take(newer, windlass_kit::clock::BootInstant::now()).await;
    let before = replication.known();
    lab.lead(0, 1, &nonce, &[]).await;
    assert_eq!(replication.known(), before);
}

#[tokio::test]
async fn parameters_and_restarts_of_commands_reach_leader_and_follower() {
    let (mut lab, _) = Lab::founded(2).await;
    lab.nodes[0].app("create table t(n int)").await.expect("write");
    for index in [0, 1] {
        let pid = lab.nodes[index].pid();
        let goal = &mut lab.nodes[index].goal;
        goal.generation += 1;
        goal.data = pb::member_goal::DataSource::Existing.into();
        goal.parameters.insert("work_mem".into(), "7MB".into());
        lab.nodes[index].apply().await;
        assert_eq!(lab.nodes[index].sql("show work_mem").await.as_deref(), Ok("7MB"));
        assert_eq!(lab.nodes[index].pid(), pid);
    }
    for index in [1, 0] {
        let pid = lab.nodes[index].pid();
        let goal = &mut lab.nodes[index].goal;
        goal.generation += 1;
        goal.restarts += 1;
        let facts = lab.nodes[index].apply().await;
        assert_eq!(facts.restarts, 1);
        assert_ne!(lab.nodes[index].pid(), pid, "another process");
    }
    lab.reaches(1, pb::ReplicaState::Standby).await;
    let open = lab.reaches(0, pb::ReplicaState::Open).await;
    assert_eq!(open.crashes, 0, "a restart by order is no crash");
    lab.nodes[0].app("insert into t values (1)").await.expect("open");
}

#[tokio::test]
async fn a_member_is_removed_while_it_is_copied() {
    let lab = Lab::new(2).await;
    let nonce = uuid::Uuid::new_v4().to_string();
    lab.lead(0, 1, &nonce, &[]).await;
    lab.reaches(0, pb::ReplicaState::Open).await;
    lab.nodes[1].hold("ha.after_copy");
    lab.follow(1, 1, &nonce, 0).await;
    lab.reaches(1, pb::ReplicaState::Cloning).await;
    lab.nodes[1].members.remove(lab.nodes[1].member(), Disposal::Purge).await.expect("remove");
    assert!(!lab.nodes[1].root().exists());
    // The leader forgets it by the next order.
    let mut order = lab.order(0, 1, lab.lead_goal(&nonce, &[]));
    if let Some(pb::replication_order::Goal::Lead(lead)) = &mut order.goal {
        lead.members.truncate(1);
    }
    lab.send(0, order).await;
    comes("0", async || lab.nodes[0].sql("select count(*) from pg_replication_slots").await).await;
}

#[tokio::test]
async fn a_single_member_becomes_a_leader_without_being_stopped() {
    let lab = Lab::single().await;
    lab.nodes[0].app("create table t(n int)").await.expect("write");
    let pid = lab.nodes[0].pid();
    let mut goal = lab.nodes[0].goal.clone();
    (goal.replicated, goal.generation) = (true, 2);
    goal.data = pb::member_goal::DataSource::Existing.into();
    lab.nodes[0].members.apply(goal, &CancellationToken::new()).await.expect("apply");
    lab.nodes[0].app("insert into t values (1)").await.expect("open as before");
    let nonce = uuid::Uuid::new_v4().to_string();
    lab.lead(0, 1, &nonce, &[]).await;
    lab.reaches(0, pb::ReplicaState::Open).await;
    lab.follow(1, 1, &nonce, 0).await;
    lab.reaches(1, pb::ReplicaState::Standby).await;
    assert_eq!(lab.nodes[0].pid(), pid);
    comes("1", async || lab.nodes[1].app("select count(*) from t").await).await;
}
