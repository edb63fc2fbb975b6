//! Starting, stopping, restarting, and what is true after each failure.

use windlass_core::{
    Error, Reason,
    command::CommandKind,
    host::HostState,
    id::OperationId,
    instance::{Health, Lifecycle, Power},
};

use crate::{
    app::instances,
    sagas::instance_delete::Disposal,
    testbed::{Bed, ask, name},
};

#[derive(Debug, Clone, Copy)]
enum Verb {
    Start,
    Stop,
    Restart,
}

async fn ask_for(bed: &Bed, verb: Verb, etag: &str) -> Result<OperationId, Error> {
    let mut tx = bed.tx().await;
    let name = name("pg-1");
    let operation = match verb {
        Verb::Start => instances::start(&mut tx, &bed.caller, &name, etag).await,
        Verb::Stop => instances::stop(&mut tx, &bed.caller, &name, etag).await,
        Verb::Restart => instances::restart(&mut tx, &bed.caller, &name, etag).await,
    }?;
    tx.commit().await?;
    Ok(operation)
}

async fn done(bed: &mut Bed, verb: Verb) {
    let operation = ask_for(bed, verb, "").await.expect("accepted");
    bed.succeed(operation).await;
}

#[tokio::test]
async fn stop_start_and_restart_are_carried_out_and_told() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    done(&mut bed, Verb::Stop).await;
    let stopped = bed.get("pg-1").await.row;
    assert_eq!(
        (stopped.lifecycle, stopped.health, stopped.spec.power),
        (Lifecycle::Stopped, Health::Healthy, Power::Off)
    );
    done(&mut bed, Verb::Start).await;
    done(&mut bed, Verb::Restart).await;
    let row = bed.get("pg-1").await.row;
    assert_eq!((row.lifecycle, row.spec.restarts, row.generation), (Lifecycle::Running, 1, 4));
    let kinds =
        "select count(*) from event where kind in ('instance.stopped', 'instance.started', 'instance.restarted')";
    assert_eq!(bed.count(kinds).await, 3);
}

#[tokio::test]
async fn a_verb_that_the_state_forbids_is_refused_in_words() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    let error = ask_for(&bed, Verb::Start, "").await.expect_err("it runs");
    assert_eq!(error.reason, Reason::StateForbids);
    done(&mut bed, Verb::Stop).await;
    for verb in [Verb::Stop, Verb::Restart] {
        let error = ask_for(&bed, verb, "").await.expect_err("it is stopped");
        assert_eq!((error.reason, error.metadata["state"].as_str()), (Reason::StateForbids, "STOPPED"));
    }
}

#[tokio::test]
async fn a_second_verb_meets_a_busy_instance_and_is_told_with_which_operation() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    let first = ask_for(&bed, Verb::Stop, "").await.expect("accepted");
    for verb in [Verb::Stop, Verb::Restart] {
        let error = ask_for(&bed, verb, "").await.expect_err("busy");
        assert_eq!((error.reason, &error.metadata["operation"]), (Reason::InstanceBusy, &first.to_string()));
    }
    bed.succeed(first).await;
}

#[tokio::test]
async fn an_outdated_etag_is_refused() {
    let mut bed = Bed::new(1).await;
    let old = bed.created("pg-1").await.row.revision.to_string();
    let operation = ask_for(&bed, Verb::Stop, &old).await.expect("current");
    bed.succeed(operation).await;
    assert_eq!(ask_for(&bed, Verb::Start, &old).await.expect_err("old").reason, Reason::EtagMismatch);
}

#[tokio::test]
async fn a_start_that_fails_leaves_it_stopped() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    done(&mut bed, Verb::Stop).await;
    bed.agents.fail(CommandKind::ApplyMember, Reason::StartFailed);
    let operation = ask_for(&bed, Verb::Start, "").await.expect("accepted");
    assert_eq!(bed.fail(operation).await.reason, Reason::StartFailed);
    let row = bed.get("pg-1").await.row;
    assert_eq!((row.lifecycle, row.spec.power), (Lifecycle::Stopped, Power::Off));
    done(&mut bed, Verb::Start).await;
}

#[tokio::test]
async fn a_stop_that_fails_leaves_it_running() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    bed.agents.fail(CommandKind::ApplyMember, Reason::StopFailed);
    let operation = ask_for(&bed, Verb::Stop, "").await.expect("accepted");
    assert_eq!(bed.fail(operation).await.reason, Reason::StopFailed);
    let row = bed.get("pg-1").await.row;
    assert_eq!((row.lifecycle, row.health, row.spec.power), (Lifecycle::Running, Health::Healthy, Power::On));
}

#[tokio::test]
async fn a_restart_that_never_comes_up_is_an_error_with_its_reason_from_which_a_start_leads_out() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    bed.agents.fail(CommandKind::ApplyMember, Reason::StartFailed);
    bed.agents.fail(CommandKind::ApplyMember, Reason::StartFailed);
    let operation = ask_for(&bed, Verb::Restart, "").await.expect("accepted");
    bed.fail(operation).await;
    let row = bed.get("pg-1").await.row;
    assert_eq!(row.lifecycle, Lifecycle::Error);
    assert_eq!(row.error.expect("a reason").reason, Reason::StartFailed);
    assert_eq!(bed.reconcile().await, 0, "an instance in ERROR waits for its user");
    done(&mut bed, Verb::Start).await;
    let row = bed.get("pg-1").await.row;
    assert_eq!((row.lifecycle, row.error), (Lifecycle::Running, None));
}

#[tokio::test]
async fn a_host_that_is_known_to_be_away_is_said_at_once() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    bed.set_host(0, HostState::Offline).await;
    let error = ask_for(&bed, Verb::Stop, "").await.expect_err("away");
    assert_eq!((error.reason, error.metadata["host"].as_str()), (Reason::Unavailable, "h1"));
    assert_eq!(bed.get("pg-1").await.row.lifecycle, Lifecycle::Running);
    bed.check().await;
}

#[tokio::test]
async fn an_order_that_a_silent_host_never_fetches_expires_and_nothing_has_changed() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    bed.agents.silent.insert(bed.hosts[0]);
    let operation = ask_for(&bed, Verb::Stop, "").await.expect("not known to be away yet");
    // Each step is a round: replicas first, then the order.
    bed.round().await;
    bed.round().await;
    bed.test.execute("update command set expire_time = now() where state = 'QUEUED'").await;
    bed.cx.db.commands_expire(10).await.expect("sweep");
    bed.set_host(0, HostState::Offline).await;
    let error = bed.fail(operation).await;
    assert_eq!(error.reason, Reason::CommandExpired);
    assert!(error.message.contains("host h1"), "{error}");
    let row = bed.get("pg-1").await.row;
    assert_eq!((row.lifecycle, row.spec.power), (Lifecycle::Running, Power::On));
    assert_eq!(row.health, Health::Unknown, "nobody knows while the host is away");

    // The order to restore is still queued or comes from the reconciler: the host gets what is wanted.
    bed.set_host(0, HostState::Online).await;
    bed.reconcile().await;
    bed.round().await;
    let goal = bed.agents.members.values().next().and_then(|kept| kept.goal.clone()).expect("live");
    assert_eq!(i64::try_from(goal.generation).expect("small"), row.generation);
}

#[tokio::test]
async fn an_instance_in_error_can_be_deleted() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    bed.agents.fail(CommandKind::RemoveMember, Reason::StopFailed);
    let delete = async |bed: &Bed| {
        let mut tx = bed.tx().await;
        let accepted = instances::delete(&bed.cx, &mut tx, &bed.caller, &name("pg-1"), "", Disposal::Purge).await;
        tx.commit().await.expect("commit");
        accepted.expect("accepted")
    };
    let operation = delete(&bed).await;
    assert_eq!(bed.fail(operation).await.reason, Reason::StopFailed);
    assert_eq!(bed.get("pg-1").await.row.lifecycle, Lifecycle::Error);
    let operation = delete(&bed).await;
    bed.succeed(operation).await;
    assert_eq!(bed.agents.count(), 0);
    bed.try_create(ask("pg-1")).await.expect("the name is free");
}
