//! Reading: by name and uid, lists and filters, what other keys may not see, the reconciler's view of drift.

use std::collections::BTreeMap;

use windlass_core::{
    Reason,
    host::HostState,
    id::{ApiKeyId, ProjectId},
    instance::{Health, Lifecycle},
    member::{MemberRole, Process},
    role::{Role, Scope},
};
use windlass_db::{
    instances::InstanceFilter,
    members::{MemberObservation, members_missing_tx, members_observed_tx},
};

use crate::{
    app::{
        Caller,
        instances::{self, CreateInstance, Listed, Origin, Via, Wanted},
    },
    sagas::observe,
    testbed::{Bed, ask, name},
};

#[tokio::test]
async fn lists_are_paged_filtered_and_limited_to_what_a_key_may_see() {
    let mut bed = Bed::new(2).await;
    for (id, tier) in [("a", "gold"), ("b", "gold"), ("c", "tin")] {
        let labels = BTreeMap::from([("tier".to_owned(), tier.to_owned())]);
        let operation = bed.try_create(CreateInstance { labels, ..ask(id) }).await.expect("accepted");
        bed.succeed(operation).await;
    }
    let list = async |filter: InstanceFilter, after, limit| {
        let all = instances::list(&bed.cx, &bed.caller, Some("shop"), filter, after, limit).await.expect("listed");
        all.into_iter().map(|view| (view.row.name, view.row.id, view.members.len())).collect::<Vec<_>>()
    };
    let first = list(InstanceFilter::default(), None, 2).await;
    assert_eq!(
        first.iter().map(|(name, _, members)| (name.as_str(), *members)).collect::<Vec<_>>(),
        [("a", 1), ("b", 1)]
    );
    let rest = list(InstanceFilter::default(), Some(first[1].1), 2).await;
    assert_eq!(rest.len(), 1);
    let labels = BTreeMap::from([("tier".to_owned(), "gold".to_owned())]);
    assert_eq!(list(InstanceFilter { labels, ..InstanceFilter::default() }, None, 10).await.len(), 2);
    let stopped = InstanceFilter { lifecycle: Some(Lifecycle::Stopped), ..InstanceFilter::default() };
    assert!(list(stopped, None, 10).await.is_empty());

    let stranger = Caller { key: ApiKeyId::new(), role: Role::Admin, scope: Scope::Project(ProjectId::new()) };
    let error = instances::get(&bed.cx, &stranger, &name("a")).await.expect_err("foreign");
    assert_eq!(error.reason, Reason::PermissionMissing);
    let all = instances::list(&bed.cx, &stranger, None, InstanceFilter::default(), None, 10).await.expect("own only");
    assert!(all.is_empty());
    let viewer = Caller { role: Role::Viewer, ..bed.caller.clone() };
    instances::get(&bed.cx, &viewer, &name("a")).await.expect("may read");
    let wanted = Wanted { user: String::new(), database: String::new(), via: Via::Proxy, role: MemberRole::Primary };
    let error = instances::connection(&bed.cx, &viewer, &name("a"), &wanted).await.expect_err("may not read secrets");
    assert_eq!(error.reason, Reason::PermissionMissing);
}

#[tokio::test]
async fn parameters_tell_where_their_values_come_from() {
    let mut bed = Bed::new(1).await;
    let own = BTreeMap::from([("work_mem".to_owned(), "16MB".to_owned())]);
    let operation = bed.try_create(CreateInstance { parameters: own, ..ask("pg-1") }).await.expect("accepted");
    bed.succeed(operation).await;
    let list = async |listed| {
        let all = instances::parameters(&bed.cx, &bed.caller, &name("pg-1"), listed).await.expect("listed");
        all.into_iter().map(|p| (p.name, p.value, p.origin)).collect::<Vec<_>>()
    };
    assert_eq!(
        list(Listed::All).await,
        [
            ("shared_buffers".to_owned(), "128MB".to_owned(), Origin::Windlass),
            ("work_mem".to_owned(), "16MB".to_owned(), Origin::User)
        ]
    );
    assert_eq!(list(Listed::UserOnly).await.len(), 1);
}

#[tokio::test]
async fn engine_versions_are_those_of_the_hosts() {
    let bed = Bed::new(2).await;
    let versions = instances::engine_versions(&bed.cx).await.expect("listed");
    let shown: Vec<_> = versions.iter().map(|v| format!("{} {} {}", v.engine, v.version, v.hosts)).collect();
    assert_eq!(shown, ["mariadb 10.11 2", "postgres 14 2", "postgres 15 2"]);
}

/// The agent says that the process is `process`, of generation `generation`.
async fn report(bed: &Bed, process: Process, generation: i64) {
    let view = bed.get("pg-1").await;
    let seen = MemberObservation { member_id: view.members[0].id, process, generation, facts: serde_json::json!({}) };
    let mut tx = bed.tx().await;
    members_observed_tx(&mut tx, bed.hosts[0], &[seen]).await.expect("stored");
    observe::refresh_tx(&mut tx, &[view.row.id]).await.expect("refreshed");
    tx.commit().await.expect("commit");
}

#[tokio::test]
async fn a_member_that_drifts_gets_its_goal_again_once() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    assert_eq!(bed.reconcile().await, 0, "all is well");
    for process in [Process::Stopped, Process::Failed] {
        report(&bed, process, 1).await;
        assert_eq!(bed.get("pg-1").await.row.health, Health::Unhealthy);
    }
    assert_eq!(bed.reconcile().await, 1);
    assert_eq!(bed.reconcile().await, 0, "the order is on its way");
    assert_eq!(bed.agents.work(&bed.cx.db).await, 1);
    assert_eq!(bed.count("select count(*) from event where kind = 'member.reconciled'").await, 1);
    report(&bed, Process::Running, 1).await;
    assert_eq!((bed.reconcile().await, bed.get("pg-1").await.row.health), (0, Health::Healthy));
}

#[tokio::test]
async fn a_host_that_lost_its_memory_is_told_again() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    let missing = async |bed: &Bed| {
        let mut tx = bed.tx().await;
        let lately = jiff::SignedDuration::from_secs(5);
        let instances = members_missing_tx(&mut tx, bed.hosts[0], &[], lately).await.expect("noted");
        tx.commit().await.expect("commit");
        instances.len()
    };
    assert_eq!(missing(&bed).await, 0, "heard of just now: the agent's list may be older");
    bed.test.execute("update member set observed_time = now() - interval '1 min'").await;
    assert_eq!(missing(&bed).await, 1);
    assert_eq!(bed.get("pg-1").await.members[0].process, Process::Absent);
    assert_eq!(bed.reconcile().await, 1);
}

#[tokio::test]
async fn a_silent_host_is_left_alone() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    report(&bed, Process::Stopped, 1).await;
    bed.set_host(0, HostState::Offline).await;
    assert_eq!(bed.reconcile().await, 0);
}

#[tokio::test]
async fn a_deleted_member_that_a_host_brings_back_is_put_aside() {
    let mut bed = Bed::new(1).await;
    let id = bed.created("pg-1").await.row.id;
    let old = bed.agents.members.clone();
    let mut tx = bed.tx().await;
    let retain = crate::sagas::instance_delete::Disposal::Retain;
    let operation =
        instances::delete(&bed.cx, &mut tx, &bed.caller, &name("pg-1"), "", retain).await.expect("accepted");
    tx.commit().await.expect("commit");
    bed.succeed(operation).await;
    // The host comes back from an old image.
    bed.agents.members = old;
    let member = bed.get(&id.to_string()).await.members[0].id;
    let seen =
        MemberObservation { member_id: member, process: Process::Running, generation: 1, facts: serde_json::json!({}) };
    let mut tx = bed.tx().await;
    members_observed_tx(&mut tx, bed.hosts[0], &[seen]).await.expect("stored");
    tx.commit().await.expect("commit");
    assert_eq!(bed.reconcile().await, 1);
    bed.agents.work(&bed.cx.db).await;
    assert_eq!((bed.agents.live(), bed.agents.count()), (0, 1), "its data is kept");
}

#[tokio::test]
async fn a_node_that_lost_the_lease_reconciles_nothing() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    report(&bed, Process::Stopped, 1).await;
    bed.test.expire_lease("orchestrator").await;
    let other = bed.cx.db.lease_acquire("orchestrator", "other", std::time::Duration::from_secs(60)).await;
    other.expect("lease").expect("taken over");
    let reconciler = crate::reconcile::Reconciler {
        db: bed.cx.db.clone(),
        hosts: bed.cx.hosts.clone(),
        sagas: bed.cx.sagas.clone(),
    };
    assert_eq!(reconciler.look(&bed.guard).await.expect_err("fenced").reason, Reason::Fenced);
    assert_eq!(bed.count("select count(*) from command where kind = 'member.apply' and saga_id is null").await, 0);
}
