//! Keys: wrong, expired, revoked; what a key may see of itself.

use jiff::SignedDuration;
use tonic::Code;
use windlass_core::role::Role;
use windlass_proto::api::v1 as pb;

use crate::harness::{Fixture, labels, refused};

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_a_good_key_are_refused_with_a_reason() {
    let fixture = Fixture::start().await;
    for (key, why) in [
        ("", "no key was sent"),
        ("nonsense", "does not begin with wl_"),
        ("wl_00000000.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "unknown"),
    ] {
        let answer = fixture.with_key(key).keys().who_am_i(pb::WhoAmIRequest {}).await;
        let status = refused(answer, Code::Unauthenticated, "KEY_INVALID");
        assert!(status.message().contains(why), "{key}: {status:?}");
        assert!(!status.message().contains("AAAA"), "the message shows the key");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_key_is_refused() {
    let fixture = Fixture::start().await;
    let key = fixture.key(Role::Admin, None, Some(SignedDuration::from_mins(1))).await;
    fixture.test_db.execute("update api_key set expire_time = now() - interval '1 second'").await;
    let answer = fixture.with_key(&key).keys().who_am_i(pb::WhoAmIRequest {}).await;
    let status = refused(answer, Code::Unauthenticated, "KEY_INVALID");
    assert!(status.message().contains("expired at"), "{status:?}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_from_the_next_call_on() {
    let fixture = Fixture::start().await;
    let (admin, doomed) = (fixture.admin().await, fixture.client(Role::Viewer, None).await);
    let own = doomed.keys().who_am_i(pb::WhoAmIRequest {}).await.expect("valid").into_inner();
    assert_eq!((own.role.as_str(), own.project.as_str()), ("viewer", ""));
    let request = pb::RevokeApiKeyRequest { name: own.name.clone(), ..Default::default() };
    let revoked = admin.keys().revoke_api_key(request.clone()).await.expect("revoke").into_inner();
    assert!(revoked.revoke_time.is_some());
    let status = refused(doomed.keys().who_am_i(pb::WhoAmIRequest {}).await, Code::Unauthenticated, "KEY_INVALID");
    assert!(status.message().contains("revoked at"), "{status:?}");
    let again = admin.keys().revoke_api_key(request).await.expect("revoking twice is fine").into_inner();
    assert_eq!(again.revoke_time, revoked.revoke_time);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_shown_once_used_and_listed() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    admin.project("shop").await;
    let given = pb::ApiKey {
        title: "ci".to_owned(),
        role: "operator".to_owned(),
        project: "projects/shop".to_owned(),
        ..Default::default()
    };
    let ttl = Some(pbjson_types::Duration { seconds: 3600, nanos: 0 });
    let request = pb::CreateApiKeyRequest { api_key: Some(given.clone()), ttl, ..Default::default() };
    let made = admin.keys().create_api_key(request).await.expect("key").into_inner();
    let shown = made.api_key.expect("key");
    assert!(made.key.starts_with(&shown.prefix) && shown.expire_time.is_some());

    let own = fixture.with_key(&made.key).keys().who_am_i(pb::WhoAmIRequest {}).await.expect("valid").into_inner();
    assert_eq!((own.uid, own.project.as_str()), (shown.uid.clone(), "projects/shop"));
    assert!(own.last_use_time.is_some(), "the first use is written at once");

    let listed = admin.keys().list_api_keys(pb::ListApiKeysRequest::default()).await.expect("list").into_inner();
    assert!(listed.api_keys.iter().any(|key| key.uid == shown.uid));

    for (key, field) in [
        (pb::ApiKey { title: String::new(), ..given.clone() }, "api_key.title"),
        (pb::ApiKey { role: "boss".to_owned(), ..given.clone() }, "api_key.role"),
        (pb::ApiKey { project: "shop".to_owned(), ..given.clone() }, "api_key.project"),
    ] {
        let request = pb::CreateApiKeyRequest { api_key: Some(key), ..Default::default() };
        let status = refused(admin.keys().create_api_key(request).await, Code::InvalidArgument, "INVALID_FIELD");
        assert!(status.message().starts_with(field), "{status:?}");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_above_the_rate_are_told_when_to_come_again() {
    use tonic_types::StatusExt as _;
    let fixture = Fixture::start_with(|config| {
        config.limits.calls_per_second = 1;
        config.limits.burst = 3;
    })
    .await;
    let (client, other) = (fixture.admin().await, fixture.admin().await);
    for _ in 0..3 {
        client.keys().who_am_i(pb::WhoAmIRequest {}).await.expect("within the burst");
    }
    let status = refused(client.keys().who_am_i(pb::WhoAmIRequest {}).await, Code::ResourceExhausted, "RATE_LIMITED");
    let details = status.get_error_details();
    assert!(details.retry_info().is_some_and(|retry| retry.retry_delay.is_some()), "{details:?}");
    other.keys().who_am_i(pb::WhoAmIRequest {}).await.expect("another key has its own bucket");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_leaves_an_event_with_its_actor() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let me = admin.keys().who_am_i(pb::WhoAmIRequest {}).await.expect("me").into_inner();
    admin.project("shop").await;
    let project = pb::Project { name: "projects/shop".to_owned(), labels: labels(&[("a", "b")]), ..Default::default() };
    let request = pb::UpdateProjectRequest { project: Some(project), ..Default::default() };
    admin.projects().update_project(request).await.expect("update");
    let request = pb::ListEventsRequest { target: "projects/shop".to_owned(), ..Default::default() };
    let events = admin.events().list_events(request).await.expect("events").into_inner().events;
    let told: Vec<_> = events.iter().map(|event| (event.kind.as_str(), event.actor.as_str())).collect();
    assert_eq!(told, [("project.created", me.uid.as_str()), ("project.updated", me.uid.as_str())]);
    fixture.stop().await;
}
