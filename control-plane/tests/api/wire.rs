//! The wire: garbage, oversized and unknown calls, deadlines, reflection, health, TLS only.

use std::{convert::Infallible, sync::Arc, time::Duration};

use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{
    Code, Request,
    body::Body,
    codegen::http::{Request as HttpRequest, Response},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tower::{Layer as _, Service as _};
use windlass_control_plane::{
    api::{auth::Authenticator, gate::GateLayer, limit::Limiter},
    config::LimitConfig,
};
use windlass_proto::api::v1 as pb;

use crate::harness::{Fixture, methods, reason, refused};

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_answered_with_an_error_and_never_with_a_dead_server() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    // No field of any message survives these: a truncated varint, a wrong wire type, invalid UTF-8.
    for garbage in [vec![0xff; 64], vec![0x0f, 0x0f], vec![0x0a, 0x02, 0xff, 0xfe]] {
        for method in methods() {
            if let Err(status) = admin.raw(&method, garbage.clone()).await {
                assert_ne!(status.code(), Code::Internal, "{method}: {status:?}");
                assert_ne!(status.code(), Code::Unknown, "{method}: {status:?}");
                reason(&status);
            }
        }
    }
    let status = refused(
        admin.raw("/windlass.api.v1.ProjectService/CreateProject", vec![0xff; 64]).await,
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
    assert!(status.message().contains("not one of this call's type"), "{status:?}");
    admin.project("alive").await;
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_message_is_refused_with_its_limit() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let request = pb::CreateProjectRequest { project_id: "x".repeat(5 << 20), ..Default::default() };
    let status = refused(admin.projects().create_project(request).await, Code::InvalidArgument, "INVALID_FIELD");
    assert!(status.message().contains("4 MiB"), "{status:?}");
    admin.project("alive").await;
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_call_is_named() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let status = refused(
        admin.raw("/windlass.api.v1.ProjectService/Nuke", Vec::new()).await,
        Code::Unimplemented,
        "NOT_SUPPORTED",
    );
    assert!(status.message().contains("ProjectService/Nuke"), "{status:?}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_answered_as_one() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    // A lock that somebody else holds keeps the call waiting until its deadline.
    let mut tx = fixture.plane.db().begin().await.expect("begin");
    let project = admin.project("shop").await;
    let id = project.uid.parse().expect("uid");
    windlass_db::projects::project_lock_tx(&mut tx, id).await.expect("lock");
    let mut request = Request::new(pb::DeleteProjectRequest { name: project.name, ..Default::default() });
    request.set_timeout(Duration::from_millis(300));
    let status = admin.projects().delete_project(request).await.expect_err("too late");
    // Our words and the client's own clock race; both say the same code.
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    drop(tx);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_open_and_reflection_needs_a_key() {
    let fixture = Fixture::start().await;
    let mut health = HealthClient::new(fixture.channel.clone());
    let answer = health.check(HealthCheckRequest::default()).await.expect("health").into_inner();
    assert_eq!(answer.status, tonic_health::pb::health_check_response::ServingStatus::Serving as i32);

    let ask = || {
        tokio_stream::once(ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        })
    };
    let mut stranger = ServerReflectionClient::new(fixture.channel.clone());
    let status = stranger.server_reflection_info(ask()).await.expect_err("no key");
    assert_eq!(status.code(), Code::Unauthenticated);

    let key = fixture.key(windlass_core::role::Role::Viewer, None, None).await;
    let mut request = Request::new(ask());
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("header"));
    let mut answers = stranger.server_reflection_info(request).await.expect("reflection").into_inner();
    let answer = answers.message().await.expect("stream").expect("an answer");
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    for expected in ["windlass.api.v1.InstanceService", "windlass.agent.v1.AgentService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|name| name == expected), "{expected} is not among {names:?}");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_a_request_id() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let mut request = Request::new(pb::WhoAmIRequest {});
    request.metadata_mut().insert("x-request-id", "mine-1".parse().expect("header"));
    let answer = admin.keys().who_am_i(request).await.expect("me");
    assert_eq!(answer.metadata().get("x-request-id").expect("id"), "mine-1");
    let answer = fixture.with_key("x").keys().who_am_i(pb::WhoAmIRequest {}).await.expect_err("refused");
    assert!(answer.metadata().contains_key("x-request-id"), "{answer:?}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_and_rubbish_on_the_port_hurt_nobody() {
    let fixture = Fixture::start().await;
    for rubbish in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), vec![0; 1024]] {
        let mut stream = tokio::net::TcpStream::connect(fixture.plane.address).await.expect("connect");
        stream.write_all(&rubbish).await.expect("write");
        let mut answer = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        assert!(end.is_ok(), "the server keeps a connection that cannot become one");
    }
    fixture.admin().await.project("alive").await;
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_unknown_fields_is_read() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    // A newer client: field 1000, a string.
    let mut body = pb::CreateProjectRequest { project_id: "shop".to_owned(), ..Default::default() }.encode_to_vec();
    body.extend([0xc2, 0x3e, 0x03, b'n', b'e', b'w']);
    admin.raw("/windlass.api.v1.ProjectService/CreateProject", body).await.expect("unknown fields are ignored");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_handler_costs_one_answer() {
    let fixture = Fixture::start().await;
    let authenticator = Arc::new(Authenticator::new(fixture.plane.db().clone()));
    let gate = GateLayer::new(authenticator, Limiter::new(&LimitConfig::default()));
    let mut service =
        gate.layer(tower::service_fn(async |_: HttpRequest<Body>| -> Result<Response<Body>, Infallible> {
            panic!("a bug");
        }));
    let request = HttpRequest::post("/grpc.health.v1.Health/Check").body(Body::empty()).expect("request");
    let answer = service.call(request).await.expect("an answer");
    let status = tonic::Status::from_header_map(answer.headers()).expect("status");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Internal, "INTERNAL"));
    assert!(!status.message().contains("a bug"), "the message shows what only the log may");
    fixture.stop().await;
}
