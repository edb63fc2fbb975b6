//! Updating: sizes, parameters, labels.

use std::collections::BTreeMap;

use windlass_core::{
    Error, Reason,
    command::CommandKind,
    id::OperationId,
    instance::Lifecycle,
    size::{GIB, MIB, Resources},
};

use crate::{
    app::instances::{self, UpdateInstance},
    sagas::instance_update::RestartPolicy,
    testbed::{Bed, name},
};

async fn update(bed: &Bed, ask: UpdateInstance, restart: RestartPolicy) -> Result<OperationId, Error> {
    let mut tx = bed.tx().await;
    let operation = instances::update(&mut tx, &bed.caller, &name("pg-1"), "", ask, restart).await?;
    tx.commit().await?;
    Ok(operation)
}

fn memory(bytes: u64) -> UpdateInstance {
    UpdateInstance { memory_bytes: Some(bytes), ..UpdateInstance::default() }
}

fn parameter(key: &str, value: &str) -> UpdateInstance {
    let parameters = BTreeMap::from([(key.to_owned(), Some(value.to_owned()))]);
    UpdateInstance { parameters, ..UpdateInstance::default() }
}

#[tokio::test]
async fn a_resize_reserves_what_it_takes_and_reaches_the_member() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    for bytes in [2 * GIB, 256 * MIB] {
        let operation = update(&bed, memory(bytes), RestartPolicy::Wait).await.expect("accepted");
        bed.succeed(operation).await;
        let view = bed.get("pg-1").await;
        assert_eq!((view.row.lifecycle, view.members[0].reserved.memory_bytes), (Lifecycle::Running, bytes));
        let goal = bed.agents.members.values().next().and_then(|kept| kept.goal.clone()).expect("live");
        assert_eq!(goal.memory_bytes, bytes);
    }
}

#[tokio::test]
async fn a_size_that_does_not_fit_is_refused_with_the_reason_and_changes_nothing() {
    let mut bed = Bed::new(1).await;
    let before = bed.created("pg-1").await.row;
    let error = update(&bed, memory(9 * GIB), RestartPolicy::Wait).await.expect_err("no room");
    assert_eq!((error.reason, error.metadata["host"].as_str()), (Reason::NoHostFits, "h1"));
    assert!(error.message.contains("of memory free"), "{error}");
    bed.test.execute("update project set quota_memory = used_memory").await;
    let error = update(&bed, memory(GIB), RestartPolicy::Wait).await.expect_err("no quota");
    assert_eq!(error.reason, Reason::QuotaExceeded);
    let small = UpdateInstance { disk_bytes: Some(256 * MIB), ..UpdateInstance::default() };
    let error = update(&bed, small, RestartPolicy::Wait).await.expect_err("the data is larger");
    assert!(error.message.contains("less than the 512 MiB that are used"), "{error}");
    let after = bed.get("pg-1").await.row;
    assert_eq!((after.revision, after.spec), (before.revision, before.spec));
    bed.check().await;
}

#[tokio::test]
async fn shrinking_is_allowed_in_a_project_above_its_quota() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    bed.test.execute("update project set quota_memory = 1, quota_instances = 0").await;
    let operation = update(&bed, memory(256 * MIB), RestartPolicy::Wait).await.expect("accepted");
    bed.succeed(operation).await;
}

#[tokio::test]
async fn a_change_that_fails_is_taken_back_with_its_reservation() {
    let mut bed = Bed::new(1).await;
    let before = bed.created("pg-1").await.row;
    bed.agents.fail(CommandKind::ApplyMember, Reason::StartFailed);
    let labels = BTreeMap::from([("team".to_owned(), "core".to_owned())]);
    let ask = UpdateInstance { labels: Some(labels), ..memory(2 * GIB) };
    let operation = update(&bed, ask, RestartPolicy::Wait).await.expect("accepted");
    bed.fail(operation).await;
    let view = bed.get("pg-1").await;
    assert_eq!(
        (view.row.lifecycle, &view.row.spec, &view.row.labels),
        (Lifecycle::Running, &before.spec, &before.labels)
    );
    assert_eq!(view.members[0].reserved, Resources::DEFAULT);
    let goal = bed.agents.members.values().next().and_then(|kept| kept.goal.clone()).expect("live");
    assert_eq!(goal.memory_bytes, Resources::DEFAULT.memory_bytes);
}

#[tokio::test]
async fn a_parameter_that_needs_a_restart_waits_for_one_unless_asked() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    bed.agents.needs_restart = vec!["shared_buffers".into()];
    let ask = parameter("shared_buffers", "64MB");
    let operation = update(&bed, ask, RestartPolicy::Wait).await.expect("accepted");
    bed.succeed(operation).await;
    let row = bed.get("pg-1").await.row;
    assert_eq!((row.pending_restart, row.spec.restarts), (vec!["shared_buffers".to_owned()], 0));

    let ask = parameter("shared_buffers", "96MB");
    let operation = update(&bed, ask, RestartPolicy::IfNeeded).await.expect("accepted");
    bed.succeed(operation).await;
    let row = bed.get("pg-1").await.row;
    assert_eq!((row.pending_restart, row.spec.restarts), (vec![], 1));
    let goal = bed.agents.members.values().next().and_then(|kept| kept.goal.clone()).expect("live");
    assert_eq!(goal.parameters["shared_buffers"], "96MB", "over the default");
}

#[tokio::test]
async fn a_parameter_with_which_it_does_not_come_up_is_taken_back_by_another_restart() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    bed.agents.needs_restart = vec!["shared_buffers".into()];
    let operation = update(&bed, parameter("shared_buffers", "7GB"), RestartPolicy::IfNeeded).await.expect("accepted");
    // The apply passes, the restart does not.
    while bed.agents.done.len() < 2 {
        bed.round().await;
    }
    bed.agents.fail(CommandKind::ApplyMember, Reason::StartFailed);
    assert_eq!(bed.fail(operation).await.reason, Reason::StartFailed);
    let row = bed.get("pg-1").await.row;
    assert_eq!((row.lifecycle, row.spec.parameters.len(), row.spec.restarts), (Lifecycle::Running, 0, 2));
}

#[tokio::test]
async fn labels_and_protection_need_no_host() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    bed.set_host(0, windlass_core::host::HostState::Offline).await;
    let labels = BTreeMap::from([("team".to_owned(), "core".to_owned())]);
    let ask =
        UpdateInstance { labels: Some(labels.clone()), deletion_protection: Some(true), ..UpdateInstance::default() };
    let operation = update(&bed, ask, RestartPolicy::Wait).await.expect("accepted");
    bed.succeed(operation).await;
    let row = bed.get("pg-1").await.row;
    assert_eq!((row.labels, row.spec.deletion_protection), (labels, true));
    assert_eq!(bed.agents.done.len(), 1, "only the create");
}

#[tokio::test]
async fn a_stopped_instance_is_changed_and_stays_stopped() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    let mut tx = bed.tx().await;
    let operation = instances::stop(&mut tx, &bed.caller, &name("pg-1"), "").await.expect("accepted");
    tx.commit().await.expect("commit");
    bed.succeed(operation).await;
    let operation = update(&bed, memory(GIB), RestartPolicy::IfNeeded).await.expect("accepted");
    bed.succeed(operation).await;
    let row = bed.get("pg-1").await.row;
    assert_eq!((row.lifecycle, row.spec.resources.memory_bytes), (Lifecycle::Stopped, GIB));
}

#[tokio::test]
async fn a_bad_parameter_is_refused_before_anything_is_stored() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    let error = update(&bed, parameter("work_mem", "lots"), RestartPolicy::Wait).await.expect_err("bad");
    assert_eq!(error.reason, Reason::ParameterInvalid);
    assert_eq!(error.violations[0].field, "instance.parameters.work_mem");
}
