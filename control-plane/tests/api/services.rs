//! Hosts and join tokens without an agent: what is stored, shown and refused.

use tonic::Code;
use windlass_core::{id::HostId, role::Role};
use windlass_proto::api::v1 as pb;

use crate::harness::{Fixture, labels, refused};

async fn host(fixture: &Fixture, name: &str) -> HostId {
    let id = HostId::new();
    fixture
        .test_db
        .execute(&format!("insert into host (id, name, state, region) values ('{id}', '{name}', 'OFFLINE', 'north')"))
        .await;
    id
}

fn verb(name: &str) -> pb::HostVerbRequest {
    pb::HostVerbRequest { name: format!("hosts/{name}"), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_listed_changed_and_cordoned() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    host(&fixture, "a").await;
    let uid = host(&fixture, "b").await;
    let list = |filter: &str| {
        let request = pb::ListHostsRequest { filter: filter.to_owned(), ..Default::default() };
        let client = admin.clone();
        async move { client.hosts().list_hosts(request).await.map(|answer| answer.into_inner().hosts.len()) }
    };
    assert_eq!(list("").await.expect("all"), 2);
    assert_eq!(list("region=north AND state=OFFLINE").await.expect("both"), 2);
    assert_eq!(list("state=ONLINE").await.expect("none"), 0);
    refused(list("state=ASLEEP").await, Code::InvalidArgument, "INVALID_FIELD");

    let given = pb::Host {
        name: format!("hosts/{uid}"),
        labels: labels(&[("disk", "nvme")]),
        cpu_overcommit: 2.0,
        ..Default::default()
    };
    let request = pb::UpdateHostRequest { host: Some(given.clone()), ..Default::default() };
    let changed = admin.hosts().update_host(request).await.expect("update").into_inner();
    assert_eq!((changed.name.as_str(), changed.cpu_overcommit, changed.memory_overcommit), ("hosts/b", 2.0, 1.0));
    assert_eq!(list("label.disk=nvme").await.expect("one"), 1);
    let wild = pb::Host { cpu_overcommit: 1000.0, ..given };
    let request = pb::UpdateHostRequest { host: Some(wild), ..Default::default() };
    let status = refused(admin.hosts().update_host(request).await, Code::InvalidArgument, "INVALID_FIELD");
    assert!(status.message().contains("host.cpu_overcommit: 1000 is outside 0.1 to 100"), "{status:?}");

    let operator = fixture.client(Role::Operator, None).await;
    assert!(operator.hosts().cordon_host(verb("b")).await.expect("cordon").into_inner().cordoned);
    assert!(operator.hosts().cordon_host(verb("b")).await.expect("again").into_inner().cordoned);
    assert!(!operator.hosts().uncordon_host(verb("b")).await.expect("uncordon").into_inner().cordoned);
    refused(operator.hosts().drain_host(verb("b")).await, Code::FailedPrecondition, "NOT_SUPPORTED");
    refused(operator.hosts().revoke_host(verb("b")).await, Code::PermissionDenied, "PERMISSION_MISSING");

    let revoked = admin.hosts().revoke_host(verb("b")).await.expect("revoke").into_inner();
    assert_eq!(revoked.state(), pb::host::State::Revoked);
    refused(admin.hosts().uncordon_host(verb("b")).await, Code::FailedPrecondition, "HOST_REVOKED");
    refused(admin.hosts().cordon_host(verb("c")).await, Code::NotFound, "NOT_FOUND");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn join_tokens_are_shown_once_and_revoked() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    host(&fixture, "taken").await;
    let given = pb::JoinToken { host_name: "new".to_owned(), zone: "z1".to_owned(), ..Default::default() };
    let request = pb::CreateJoinTokenRequest { join_token: Some(given.clone()), ..Default::default() };
    let made = admin.hosts().create_join_token(request).await.expect("token").into_inner();
    assert!(made.token.starts_with("wlj_"), "{made:?}");
    let pin = made.token.rsplit('.').next().expect("pin");
    assert_eq!(pin, fixture.plane.context.authority.pin().to_string());

    let request = pb::ListJoinTokensRequest::default();
    let listed = admin.hosts().list_join_tokens(request).await.expect("list").into_inner().join_tokens;
    assert_eq!((listed.len(), listed[0].token.as_str(), listed[0].zone.as_str()), (1, "", "z1"));

    let request = pb::RevokeJoinTokenRequest { name: made.name, ..Default::default() };
    assert!(admin.hosts().revoke_join_token(request).await.expect("revoke").into_inner().revoked);

    let taken = pb::JoinToken { host_name: "taken".to_owned(), ..given.clone() };
    let request = pb::CreateJoinTokenRequest { join_token: Some(taken), ..Default::default() };
    refused(admin.hosts().create_join_token(request).await, Code::AlreadyExists, "NAME_IN_USE");
    let ttl = Some(pbjson_types::Duration { seconds: 1, nanos: 0 });
    let request = pb::CreateJoinTokenRequest { join_token: Some(given), ttl, ..Default::default() };
    let status = refused(admin.hosts().create_join_token(request).await, Code::InvalidArgument, "INVALID_FIELD");
    assert!(status.message().starts_with("ttl: "), "{status:?}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_past_its_retention_is_forgotten_and_the_rest_kept() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for (name, id) in [("old", "one"), ("new", "two")] {
        let request =
            pb::CreateProjectRequest { project_id: name.to_owned(), request_id: id.to_owned(), ..Default::default() };
        admin.projects().create_project(request).await.expect("project");
    }
    let db = &fixture.test_db;
    db.execute("update idempotency set expire_time = now() where request_id = 'one'").await;
    db.execute("update event set time = now() - interval '91 days' where target = 'projects/old'").await;
    db.execute(
        "insert into operation (id, kind, target, state, actor, end_time) select gen_random_uuid(), 'instance.stop', 'x', 'SUCCEEDED', 'system', now() - age
           from (values (interval '181 days'), (interval '1 day')) as ages (age)",
    )
    .await;
    let retention = fixture.plane.context.config.retention.clone();
    let collector = windlass_control_plane::gc::Collector::new(fixture.plane.db().clone(), retention);
    let done = collector.round().await.expect("round");
    assert_eq!((done.answers, done.events, done.operations), (1, 1, 1));
    assert_eq!(db.count("select count(*) from operation").await, 1);
    assert_eq!(db.count("select count(*) from idempotency where request_id = 'two'").await, 1);
    assert_eq!(db.count("select count(*) from event where target = 'projects/new'").await, 1);
    assert_eq!(collector.round().await.expect("nothing left"), Default::default());
    fixture.stop().await;
}
