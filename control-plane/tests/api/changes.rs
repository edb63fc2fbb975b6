//! Mutations: repeats by request id, dry runs, etags, masks.

use pbjson_types::FieldMask;
use tonic::Code;
use windlass_core::role::Role;
use windlass_proto::api::v1 as pb;

use crate::harness::{Client, Fixture, labels, refused};

fn create(name: &str, request_id: &str) -> pb::CreateProjectRequest {
    pb::CreateProjectRequest {
        project_id: name.to_owned(),
        request_id: request_id.to_owned(),
        project: Some(pb::Project { labels: labels(&[("team", "a")]), ..Default::default() }),
        ..Default::default()
    }
}

fn update(project: pb::Project, paths: &[&str]) -> pb::UpdateProjectRequest {
    let update_mask = FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() };
    pb::UpdateProjectRequest { project: Some(project), update_mask: Some(update_mask), ..Default::default() }
}

async fn get(client: &Client, name: &str) -> pb::Project {
    let request = pb::GetProjectRequest { name: format!("projects/{name}") };
    client.projects().get_project(request).await.expect("get").into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gets_the_stored_answer_and_a_changed_request_is_refused() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let first = admin.projects().create_project(create("shop", "id-1")).await.expect("create").into_inner();
    let again = admin.projects().create_project(create("shop", "id-1")).await.expect("repeat").into_inner();
    assert_eq!(first, again);
    let other = admin.projects().create_project(create("other", "id-1")).await;
    let status = refused(other, Code::InvalidArgument, "REQUEST_ID_REUSED");
    assert!(status.message().contains("id-1"), "{status:?}");
    // Another method with the same id is another request, too.
    let delete = pb::DeleteProjectRequest {
        name: "projects/shop".to_owned(),
        request_id: "id-1".to_owned(),
        ..Default::default()
    };
    refused(admin.projects().delete_project(delete).await, Code::InvalidArgument, "REQUEST_ID_REUSED");
    // Ids belong to a key: another key may use the same.
    let stranger = fixture.admin().await;
    stranger.projects().create_project(create("other", "id-1")).await.expect("another key's own id");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_not_stored() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    admin.project("shop").await;
    let refusal = admin.projects().create_project(create("shop", "id-2")).await;
    refused(refusal, Code::AlreadyExists, "NAME_IN_USE");
    let delete = pb::DeleteProjectRequest { name: "projects/shop".to_owned(), ..Default::default() };
    admin.projects().delete_project(delete).await.expect("delete");
    admin.projects().create_project(create("shop", "id-2")).await.expect("the same id succeeds now");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_of_the_same_at_once_have_one_effect() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let calls = (0..100).map(|_| {
        let client = admin.clone();
        async move { client.projects().create_project(create("shop", "id-3")).await.expect("create").into_inner() }
    });
    let answers = futures::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| *answer == answers[0]), "answers differ");
    assert_eq!(fixture.test_db.count("select count(*) from project").await, 1);
    assert_eq!(fixture.test_db.count("select count(*) from event where kind = 'project.created'").await, 1);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_key_creation_shows_the_same_key_and_no_clear_text_is_stored() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let key = pb::ApiKey { title: "ci".to_owned(), role: "viewer".to_owned(), ..Default::default() };
    let request = pb::CreateApiKeyRequest { api_key: Some(key), request_id: "k".to_owned(), ..Default::default() };
    let first = admin.keys().create_api_key(request.clone()).await.expect("key").into_inner();
    let again = admin.keys().create_api_key(request).await.expect("repeat").into_inner();
    assert_eq!(first.key, again.key);
    let secret = first.key.split_once('.').expect("secret").1;
    let found = format!("select count(*) from idempotency where position('{secret}'::bytea in answer) > 0");
    assert_eq!(fixture.test_db.count(&found).await, 0);
    assert_eq!(fixture.test_db.count("select count(*) from idempotency where length(answer) > 0").await, 1);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_id_is_refused() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for bad in ["x".repeat(65), "a b".to_owned(), "ü".to_owned()] {
        let status = refused(
            admin.projects().create_project(create("shop", &bad)).await,
            Code::InvalidArgument,
            "INVALID_FIELD",
        );
        assert!(status.message().starts_with("request_id: "), "{status:?}");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_checks_everything_and_changes_nothing() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let dry = pb::CreateProjectRequest { validate_only: true, ..create("shop", "id-4") };
    let shown = admin.projects().create_project(dry.clone()).await.expect("legal").into_inner();
    assert_eq!(shown.name, "projects/shop");
    let nothing = ["project", "idempotency", "event where kind like 'project.%'"];
    for table in nothing {
        assert_eq!(fixture.test_db.count(&format!("select count(*) from {table}")).await, 0, "{table}");
    }
    let bad = pb::CreateProjectRequest { project_id: "No Name".to_owned(), ..dry };
    refused(admin.projects().create_project(bad).await, Code::InvalidArgument, "INVALID_FIELD");
    // The id of a dry run is free for the real one.
    admin.projects().create_project(create("shop", "id-4")).await.expect("create");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn masks_and_etags_guard_updates() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let made = admin.project("shop").await;
    let quota = pb::Quota { instances: 7, resources: Some(pb::Resources { cpu_millis: 1, ..Default::default() }) };
    let wanted = pb::Project {
        name: made.name.clone(),
        labels: labels(&[("a", "b")]),
        quota: Some(quota),
        ..Default::default()
    };

    let only_count = update(wanted.clone(), &["quota.instances"]);
    let changed = admin.projects().update_project(only_count).await.expect("update").into_inner();
    assert_eq!(changed.quota.as_ref().expect("quota").instances, 7);
    assert_eq!(changed.quota.as_ref().expect("quota").resources, made.quota.expect("quota").resources);
    assert!(changed.labels.is_empty() && changed.etag != made.etag);

    let unknown = admin.projects().update_project(update(wanted.clone(), &["lables"])).await;
    let status = refused(unknown, Code::InvalidArgument, "INVALID_FIELD");
    assert!(status.message().contains("known: labels") && status.message().contains("did you mean labels?"));

    let stale = pb::Project { etag: made.etag.clone(), ..wanted.clone() };
    refused(admin.projects().update_project(update(stale, &["labels"])).await, Code::Aborted, "ETAG_MISMATCH");
    let fresh = pb::Project { etag: changed.etag, ..wanted.clone() };
    admin.projects().update_project(update(fresh, &["labels"])).await.expect("current etag");

    let dry = pb::UpdateProjectRequest { validate_only: true, ..update(wanted, &["quota"]) };
    let shown = admin.projects().update_project(dry).await.expect("legal").into_inner();
    assert_eq!(shown.quota.expect("quota").resources.expect("size").cpu_millis, 1);
    let kept = get(&admin, "shop").await;
    assert_ne!(kept.quota.expect("quota").resources.expect("size").cpu_millis, 1);
    assert_eq!(kept.labels, labels(&[("a", "b")]));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_with_instances_is_not_deleted() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let project = admin.project("shop").await;
    let uid = &project.uid;
    fixture
        .test_db
        .execute(&format!(
            "insert into instance (id, project_id, name, engine, version, spec, lifecycle, shard)
             values (gen_random_uuid(), '{uid}', 'db', 'postgres', '15', '{{}}', 'STOPPED', 0)"
        ))
        .await;
    let delete = pb::DeleteProjectRequest { name: project.name.clone(), ..Default::default() };
    let status = refused(admin.projects().delete_project(delete.clone()).await, Code::FailedPrecondition, "NOT_EMPTY");
    assert!(status.message().contains("1 instances"), "{status:?}");
    let viewer = fixture.client(Role::Viewer, None).await;
    refused(viewer.projects().delete_project(delete.clone()).await, Code::PermissionDenied, "PERMISSION_MISSING");
    fixture.test_db.execute("delete from instance").await;
    admin.projects().delete_project(delete).await.expect("empty now");
    let request = pb::GetProjectRequest { name: project.name };
    refused(admin.projects().get_project(request).await, Code::NotFound, "NOT_FOUND");
    fixture.stop().await;
}
