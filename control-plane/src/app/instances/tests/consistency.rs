//! The metadata's own check finds what it promises to find.

use windlass_core::instance::Lifecycle;

use crate::{
    app::instances,
    sagas::instance_delete::Disposal,
    testbed::{Bed, ask, name},
};

#[tokio::test]
async fn each_rule_is_found_broken_when_it_is() {
    let mut bed = Bed::new(1).await;
    bed.created("kept").await;
    bed.created("gone").await;
    let mut tx = bed.tx().await;
    let operation =
        instances::delete(&bed.cx, &mut tx, &bed.caller, &name("gone"), "", Disposal::Retain).await.expect("accepted");
    tx.commit().await.expect("commit");
    bed.succeed(operation).await;
    let waiting = bed.try_create(ask("waiting")).await.expect("accepted");
    bed.check().await;
    let kept = format!("(select id from instance where name = 'kept' and lifecycle = '{}')", Lifecycle::Running);
    let gone = "(select id from instance where name = 'gone')";
    for (breakage, rule) in [
        ("update project set used_instances = used_instances + 1".to_owned(), "a project's counters"),
        ("update project set used_disk = used_disk - 1".to_owned(), "a project's counters"),
        ("update host set reserved_memory = reserved_memory + 1".to_owned(), "a host's counters"),
        (format!("update member set port = 1 where instance_id = {kept}"), "an instance in service has"),
        (format!("delete from member where instance_id = {kept}"), "an instance in service has"),
        (format!("update member set port = 20049 where instance_id = {gone}"), "a deleted instance holds no port"),
        (format!("update instance set lifecycle = 'MODIFYING' where id = {kept}"), "an instance is in transit"),
        (format!("update saga set done = true where id = '{waiting}'"), "an operation has ended exactly"),
        (format!("update saga set wake_at = null where id = '{waiting}'"), "a saga that is parked"),
        ("update command set end_time = null".to_owned(), "a command has an end exactly"),
        (
            format!("update database_object set state = 'DROPPING' where instance_id = {kept}"),
            "an object is in transit",
        ),
    ] {
        // One connection for all of it, so that the breakage is undone.
        let found = bed.broken_by(&breakage).await;
        assert!(found.iter().any(|found| found.rule.starts_with(rule)), "{breakage}: {found:?}");
    }
    bed.check().await;
}
