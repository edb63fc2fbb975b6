//! Creating: what is refused, what is reserved, and that a failure leaves nothing.

use std::collections::BTreeMap;

use windlass_core::{
    Reason,
    command::CommandKind,
    error::FieldViolation,
    host::HostState,
    instance::{Health, Lifecycle, PlacementRules},
    member::Process,
    object::ObjectState,
    size::{GIB, Resources},
};
use windlass_db::{objects::objects_of_tx, projects::project_by_name_tx};

use crate::{
    app::instances::{self, CreateInstance},
    testbed::{Bed, PROJECT, add_host, add_project, ask},
};

#[tokio::test]
async fn a_created_instance_serves_and_everything_is_accounted_for() {
    let mut bed = Bed::new(2).await;
    let view = bed.created("pg-1").await;
    let (row, member) = (&view.row, &view.members[0]);
    assert_eq!((row.lifecycle, row.health), (Lifecycle::Running, Health::Healthy));
    assert_eq!((row.spec.version.as_str(), row.generation, row.observed_generation), ("15", 1, 1));
    assert_eq!((member.port, member.process, member.reserved), (Some(20000), Process::Running, Resources::DEFAULT));
    let mut tx = bed.tx().await;
    let objects = objects_of_tx(&mut tx, row.id).await.expect("objects");
    assert_eq!(objects.len(), 2, "the administrator and the default database");
    assert!(objects.iter().all(|object| object.state == ObjectState::Ready));
    let project = project_by_name_tx(&mut tx, PROJECT).await.expect("read").expect("there");
    assert_eq!((project.used.instances, project.used.resources), (1, Resources::DEFAULT));
    let goal = bed.agents.members[&member.id.to_string()].goal.clone().expect("live");
    assert_eq!(goal.title, "shop/pg-1");
    assert_eq!(goal.parameters["max_connections"], "64", "defaults for the size");
    assert!(goal.admin.expect("an administrator").verifier.starts_with("SCRAM-SHA-256$"), "never a password");
    assert_eq!(bed.count("select count(*) from event where kind = 'instance.created'").await, 1);
}

#[tokio::test]
async fn one_round_trip_to_the_host_is_enough() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    assert_eq!(bed.agents.done, [CommandKind::ApplyMember]);
}

#[tokio::test]
async fn bad_requests_are_refused_with_the_field_and_leave_nothing() {
    let bed = Bed::new(1).await;
    let parameters = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let good = || ask("pg-1");
    let cases: Vec<(CreateInstance, Reason, &str)> = vec![
        (ask("Pg"), Reason::InvalidField, "instance_id"),
        (CreateInstance { engine: String::new(), ..good() }, Reason::InvalidField, "instance.engine"),
        (CreateInstance { engine: "postgre".into(), ..good() }, Reason::InvalidField, "did you mean postgres?"),
        (CreateInstance { version: "99".into(), ..good() }, Reason::EngineUnavailable, "postgres 14, postgres 15"),
        (
            CreateInstance { resources: Resources { memory_bytes: 1, ..Resources::default() }, ..good() },
            Reason::InvalidField,
            "instance.resources.memory_bytes",
        ),
        (CreateInstance { labels: parameters("Bad", "x"), ..good() }, Reason::InvalidField, "instance.labels.Bad"),
        (
            CreateInstance { parameters: parameters("work_men", "1"), ..good() },
            Reason::ParameterInvalid,
            "instance.parameters.work_men: PostgreSQL has no such parameter; did you mean work_mem?",
        ),
        (
            CreateInstance { parameters: parameters("work_mem", "1kB"), ..good() },
            Reason::ParameterInvalid,
            "outside 64",
        ),
        (CreateInstance { parameters: parameters("port", "1"), ..good() }, Reason::ParameterInvalid, "set by Windlass"),
        (CreateInstance { project: "nowhere".into(), ..good() }, Reason::NotFound, "projects/nowhere"),
        (
            CreateInstance { version: "14".into(), parameters: parameters("work_mem", "1MB"), ..good() },
            Reason::Unavailable,
            "not known yet",
        ),
    ];
    for (ask, reason, says) in cases {
        let error = bed.try_create(ask).await.expect_err(says);
        assert_eq!(error.reason, reason, "{error}");
        assert!(error.message.contains(says), "{says}: {error}");
    }
    let all = ["instance", "member", "operation", "command", "database_object", "event"];
    for table in all {
        assert_eq!(bed.count(&format!("select count(*) from {table}")).await, 0, "{table}");
    }
    bed.check().await;
}

#[tokio::test]
async fn every_fault_of_a_request_is_named_at_once() {
    let bed = Bed::new(1).await;
    let wrong = CreateInstance {
        engine: "db2".into(),
        resources: Resources { cpu_millis: 1, memory_bytes: 1, disk_bytes: 1 },
        ..ask("-")
    };
    let error = bed.try_create(wrong).await.expect_err("all wrong");
    let fields: Vec<_> = error.violations.iter().map(|FieldViolation { field, .. }| field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "instance_id",
            "instance.engine",
            "instance.resources.cpu_millis",
            "instance.resources.memory_bytes",
            "instance.resources.disk_bytes"
        ]
    );
}

#[tokio::test]
async fn a_name_is_held_once_and_is_free_after_the_deletion() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    let error = bed.try_create(ask("pg-1")).await.expect_err("taken");
    assert_eq!(
        (error.reason, error.metadata["resource_name"].as_str()),
        (Reason::NameInUse, "projects/shop/instances/pg-1")
    );
    let mut tx = bed.tx().await;
    let name = crate::testbed::name("pg-1");
    let retain = crate::sagas::instance_delete::Disposal::Retain;
    let operation = instances::delete(&bed.cx, &mut tx, &bed.caller, &name, "", retain).await.expect("accepted");
    tx.commit().await.expect("commit");
    bed.succeed(operation).await;
    bed.created("pg-1").await;
}

#[tokio::test]
async fn quotas_and_hosts_that_are_full_refuse_with_numbers() {
    let bed = Bed::new(2).await;
    add_project(&bed.cx.db, "tiny", 0).await;
    let error = bed.try_create(CreateInstance { project: "tiny".into(), ..ask("a") }).await.expect_err("no quota");
    assert_eq!(error.reason, Reason::QuotaExceeded);
    assert!(error.message.contains("instances: 1 asked, 0 of 0 left"), "{error}");

    let huge = Resources { memory_bytes: 64 * GIB, ..Resources::DEFAULT };
    let error = bed.try_create(CreateInstance { resources: huge, ..ask("a") }).await.expect_err("no room");
    assert_eq!(error.reason, Reason::NoHostFits);
    for host in ["h1", "h2"] {
        assert!(error.message.contains(&format!("{host}: it has 8 GiB of memory free out of 8 GiB")), "{error}");
    }
    let rules = PlacementRules { region: "us".into(), ..PlacementRules::default() };
    let error = bed.try_create(CreateInstance { placement: rules, ..ask("a") }).await.expect_err("elsewhere");
    assert!(error.message.contains("it is in region eu, not us"), "{error}");
    bed.check().await;
}

#[tokio::test]
async fn without_any_host_the_answer_says_what_to_do() {
    let bed = Bed::new(0).await;
    let error = bed.try_create(ask("a")).await.expect_err("no host");
    assert_eq!(error.reason, Reason::EngineUnavailable);
    assert!(error.message.contains("no engine at all"), "{error}");
}

#[tokio::test]
async fn a_dry_run_goes_all_the_way_and_leaves_nothing() {
    let bed = Bed::new(1).await;
    let mut tx = bed.tx().await;
    instances::create(&bed.cx, &mut tx, &bed.caller, ask("pg-1")).await.expect("it would work");
    tx.rollback().await.expect("rollback");
    assert_eq!(bed.count("select count(*) from instance").await, 0);
    bed.check().await;
}

#[tokio::test]
async fn a_create_that_fails_on_the_host_leaves_no_instance_no_data_and_a_free_name() {
    for reason in [Reason::InitFailed, Reason::DiskFull, Reason::StartFailed] {
        let mut bed = Bed::new(1).await;
        bed.agents.fail(CommandKind::ApplyMember, reason);
        let operation = bed.try_create(ask("pg-1")).await.expect("accepted");
        let error = bed.fail(operation).await;
        assert_eq!(error.reason, reason, "{error}");
        assert_eq!(bed.find("pg-1").await.expect_err("gone").reason, Reason::NotFound);
        assert_eq!(bed.agents.count(), 0, "the half-made data is gone");
        assert_eq!(bed.count("select used_instances + used_memory + used_disk from project").await, 0);
        assert_eq!(bed.count("select reserved_cpu_millis + reserved_memory + reserved_disk from host").await, 0);
        assert_eq!(bed.count("select count(*) from event where kind = 'instance.create_failed'").await, 1);
        bed.created("pg-1").await;
    }
}

#[tokio::test]
async fn a_port_that_something_else_holds_is_set_aside_and_another_is_taken() {
    let mut bed = Bed::new(1).await;
    bed.agents.taken_ports = [20000, 20001].into();
    let view = bed.created("pg-1").await;
    assert_eq!(view.members[0].port, Some(20002));
    assert_eq!(bed.count("select count(*) from blocked_port where until > now() + interval '9 min'").await, 2);
    assert_eq!(bed.created("pg-2").await.members[0].port, Some(20003), "blocked ports are not given out");
}

#[tokio::test]
async fn after_three_taken_ports_the_create_fails_and_is_taken_back() {
    let mut bed = Bed::new(1).await;
    bed.agents.taken_ports = (20000..20050).collect();
    let operation = bed.try_create(ask("pg-1")).await.expect("accepted");
    let error = bed.fail(operation).await;
    assert_eq!(error.reason, Reason::PortTaken);
    assert!(error.message.contains("3 ports were tried"), "{error}");
    assert_eq!(bed.agents.count(), 0);
}

#[tokio::test]
async fn a_host_that_dies_during_the_create_does_not_hold_the_unwinding_up() {
    let mut bed = Bed::new(1).await;
    let operation = bed.try_create(ask("pg-1")).await.expect("accepted");
    bed.round().await;
    bed.round().await;
    assert_eq!(bed.agents.count(), 1, "the host has made it");
    // The answer of the host was lost, the user cancels, the host is gone.
    bed.set_host(0, HostState::Offline).await;
    bed.test.execute("update command set state = 'LEASED', result = null, end_time = null, lease_until = now()").await;
    let mut tx = bed.tx().await;
    crate::sagas::runtime::cancel::cancel(&mut tx, &bed.cx.registry, operation).await.expect("accepted");
    tx.commit().await.expect("commit");
    let row = bed.end(operation).await;
    assert_eq!(row.state, windlass_core::operation::OperationState::Cancelled);
    assert_eq!(bed.find("pg-1").await.expect_err("gone").reason, Reason::NotFound);
    let queued = "select count(*) from command where kind = 'member.remove' and state = 'QUEUED'";
    assert_eq!(bed.count(queued).await, 1, "the order waits for the host");

    bed.test
        .execute("update command set state = 'CANCELLED', end_time = now(), lease_until = null where state = 'LEASED'")
        .await;
    bed.set_host(0, HostState::Online).await;
    bed.round().await;
    assert_eq!(bed.agents.count(), 0, "and is carried out when it is back");
    bed.check().await;
}

#[tokio::test]
async fn the_best_host_is_chosen_and_the_verdicts_are_kept() {
    let mut bed = Bed::new(1).await;
    add_host(&bed.cx.db, "small", Resources { memory_bytes: GIB / 4, ..crate::testbed::ROOM }).await;
    bed.created("pg-1").await;
    let explained = instances::explain(&bed.cx, &bed.caller, &crate::testbed::name("pg-1")).await.expect("explained");
    let chosen: Vec<_> = explained.verdicts.iter().filter(|v| v.chosen).map(|v| v.name.as_str()).collect();
    assert_eq!(chosen, ["h1"]);
    let small = explained.verdicts.iter().find(|v| v.name == "small").expect("a verdict");
    assert!(small.rejections[0].message.contains("256 MiB of memory free"), "{small:?}");
    assert!(explained.summary[0].contains("is RUNNING, health HEALTHY"), "{:?}", explained.summary);
}
