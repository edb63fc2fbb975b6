//! Deleting, bringing back, purging.

use windlass_core::{
    Error, Reason, command::CommandKind, host::HostState, id::OperationId, instance::Lifecycle, size::Resources,
};

use crate::{
    app::instances::{self, InstanceName, UpdateInstance},
    sagas::{instance_delete::Disposal, instance_update::RestartPolicy},
    testbed::{Bed, by_uid, name},
};

async fn delete(bed: &Bed, name: &InstanceName, disposal: Disposal) -> Result<OperationId, Error> {
    let mut tx = bed.tx().await;
    let operation = instances::delete(&bed.cx, &mut tx, &bed.caller, name, "", disposal).await?;
    tx.commit().await?;
    Ok(operation)
}

async fn undelete(bed: &Bed, name: &InstanceName) -> Result<OperationId, Error> {
    let mut tx = bed.tx().await;
    let operation = instances::undelete(&mut tx, &bed.caller, name).await?;
    tx.commit().await?;
    Ok(operation)
}

async fn deleted(bed: &mut Bed, id: &str) {
    let operation = delete(bed, &name(id), Disposal::Retain).await.expect("accepted");
    bed.succeed(operation).await;
}

#[tokio::test]
async fn a_deleted_instance_keeps_its_data_and_disk_and_comes_back_as_it_was() {
    let mut bed = Bed::new(1).await;
    let before = bed.created("pg-1").await;
    deleted(&mut bed, "pg-1").await;
    assert_eq!(bed.find("pg-1").await.expect_err("by name").reason, Reason::NotFound);
    let uid = before.row.id.to_string();
    let gone = bed.get(&uid).await;
    assert_eq!(gone.row.lifecycle, Lifecycle::Deleted);
    let left = Resources { disk_bytes: Resources::DEFAULT.disk_bytes, ..Resources::default() };
    assert_eq!((gone.members[0].port, gone.members[0].reserved), (None, left));
    let kept_for = gone.row.purge_time.expect("a time").duration_since(gone.row.delete_time.expect("a time"));
    assert_eq!(kept_for, bed.cx.config.undelete_window);
    assert_eq!((bed.agents.count(), bed.agents.live()), (1, 0), "put aside");

    let operation = undelete(&bed, &name("pg-1")).await.expect("accepted");
    bed.succeed(operation).await;
    let after = bed.get("pg-1").await;
    assert_eq!((after.row.id, after.row.lifecycle, after.row.purge_time), (before.row.id, Lifecycle::Running, None));
    assert_eq!(after.members[0].reserved, Resources::DEFAULT);
    assert_eq!(bed.agents.live(), 1);
}

#[tokio::test]
async fn a_protected_instance_is_not_deleted() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    let mut tx = bed.tx().await;
    let protect = UpdateInstance { deletion_protection: Some(true), ..UpdateInstance::default() };
    let operation = instances::update(&mut tx, &bed.caller, &name("pg-1"), "", protect, RestartPolicy::Wait)
        .await
        .expect("accepted");
    tx.commit().await.expect("commit");
    bed.succeed(operation).await;
    let error = delete(&bed, &name("pg-1"), Disposal::Purge).await.expect_err("protected");
    assert_eq!(error.reason, Reason::DeletionProtected);
}

#[tokio::test]
async fn a_name_given_to_another_meanwhile_keeps_the_deleted_one_deleted() {
    let mut bed = Bed::new(1).await;
    let old = bed.created("pg-1").await.row.id;
    deleted(&mut bed, "pg-1").await;
    bed.created("pg-1").await;
    let error = undelete(&bed, &by_uid(old)).await.expect_err("the name is taken");
    assert_eq!(error.reason, Reason::NameInUse);
    bed.check().await;
}

#[tokio::test]
async fn what_cannot_be_brought_back_stays_deleted_with_its_time_of_purge() {
    let mut bed = Bed::new(1).await;
    let id = bed.created("pg-1").await.row.id.to_string();
    deleted(&mut bed, "pg-1").await;
    let purge = bed.get(&id).await.row.purge_time;
    bed.agents.fail(CommandKind::ApplyMember, Reason::DataDirectoryInvalid);
    let operation = undelete(&bed, &name("pg-1")).await.expect("accepted");
    assert_eq!(bed.fail(operation).await.reason, Reason::DataDirectoryInvalid);
    let row = bed.get(&id).await.row;
    assert_eq!((row.lifecycle, row.purge_time), (Lifecycle::Deleted, purge));
    assert_eq!((bed.agents.count(), bed.agents.live()), (1, 0));
    let operation = undelete(&bed, &name("pg-1")).await.expect("accepted");
    bed.succeed(operation).await;
}

#[tokio::test]
async fn undeleting_a_stopped_one_gives_a_stopped_one() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    let mut tx = bed.tx().await;
    let operation = instances::stop(&mut tx, &bed.caller, &name("pg-1"), "").await.expect("accepted");
    tx.commit().await.expect("commit");
    bed.succeed(operation).await;
    deleted(&mut bed, "pg-1").await;
    let operation = undelete(&bed, &name("pg-1")).await.expect("accepted");
    bed.succeed(operation).await;
    assert_eq!(bed.get("pg-1").await.row.lifecycle, Lifecycle::Stopped);
}

#[tokio::test]
async fn purging_at_once_leaves_nothing() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    let operation = delete(&bed, &name("pg-1"), Disposal::Purge).await.expect("accepted");
    bed.succeed(operation).await;
    assert_eq!(bed.agents.count(), 0);
    for table in ["instance", "member", "database_object"] {
        assert_eq!(bed.count(&format!("select count(*) from {table}")).await, 0, "{table}");
    }
    assert_eq!(bed.count("select used_instances + used_memory + used_disk from project").await, 0);
}

#[tokio::test]
async fn the_data_goes_when_the_window_is_over_and_not_before() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    deleted(&mut bed, "pg-1").await;
    assert_eq!(bed.reconcile().await, 0, "not yet");
    bed.test.execute("update instance set purge_time = now()").await;
    assert_eq!(bed.reconcile().await, 1);
    assert_eq!(bed.reconcile().await, 0, "begun once");
    for _ in 0..10 {
        bed.round().await;
    }
    assert_eq!((bed.agents.count(), bed.count("select count(*) from instance").await), (0, 0));
    assert_eq!(bed.count("select reserved_disk from host").await, 0);
    bed.check().await;
}

#[tokio::test]
async fn a_purge_that_fails_is_tried_again_later() {
    let mut bed = Bed::new(1).await;
    let id = bed.created("pg-1").await.row.id;
    deleted(&mut bed, "pg-1").await;
    assert_eq!(delete(&bed, &by_uid(id), Disposal::Retain).await.expect_err("deleted").reason, Reason::StateForbids);
    bed.agents.fail(CommandKind::PurgeMember, Reason::Internal);
    let operation = delete(&bed, &by_uid(id), Disposal::Purge).await.expect("accepted");
    bed.fail(operation).await;
    assert_eq!(bed.get(&id.to_string()).await.row.lifecycle, Lifecycle::Deleted);
    assert_eq!(bed.reconcile().await, 0, "not at once");
    bed.test.execute("update instance set purge_time = now()").await;
    assert_eq!(bed.reconcile().await, 1);
}

#[tokio::test]
async fn a_dead_host_does_not_keep_an_instance_from_being_deleted() {
    for disposal in [Disposal::Retain, Disposal::Purge] {
        let mut bed = Bed::new(1).await;
        bed.created("pg-1").await;
        bed.set_host(0, HostState::Offline).await;
        let operation = delete(&bed, &name("pg-1"), disposal).await.expect("accepted");
        bed.succeed(operation).await;
        assert_eq!(bed.agents.live(), 1, "the host knows nothing of it yet");
        bed.set_host(0, HostState::Online).await;
        bed.round().await;
        assert_eq!(bed.agents.live(), 0, "{disposal:?}: taken off when it is back");
        bed.check().await;
    }
}

#[tokio::test]
async fn a_removal_that_fails_when_the_host_is_back_is_ordered_again() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    bed.set_host(0, HostState::Offline).await;
    let operation = delete(&bed, &name("pg-1"), Disposal::Purge).await.expect("accepted");
    bed.succeed(operation).await;
    bed.set_host(0, HostState::Online).await;
    bed.agents.fail(CommandKind::RemoveMember, Reason::StopFailed);
    bed.round().await;
    assert_eq!(bed.agents.count(), 1, "nobody waits for it any more");
    assert_eq!(bed.reconcile().await, 0, "not at once");
    bed.test.execute("update command set end_time = end_time - interval '1 minute' where end_time is not null").await;
    assert_eq!(bed.reconcile().await, 1);
    assert_eq!(bed.reconcile().await, 0, "ordered once");
    bed.round().await;
    assert_eq!(bed.agents.count(), 0);
    bed.check().await;
}
