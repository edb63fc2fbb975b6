//! What callers get for repeated, wrong and hostile requests, and that the state is clean afterwards.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;
use windlass_proto::api::v1::{
    ApiKey, CreateApiKeyRequest, CreateInstanceRequest, Instance, ListInstancesRequest, Placement, Project, Quota,
    Resources, RevokeApiKeyRequest, UpdateInstanceRequest, UpdateProjectRequest,
};
use windlass_tests::api::{create_request, instance_name, reason, request_id, windlass_proto_duration};
use windlass_tests::{Stack, leaks, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_creates_with_one_request_id_make_one_instance() -> Result<()> {
    let stack = Stack::plan().start().await?;
    stack.api.create_project("shop").await?;
    let ca = std::fs::read_to_string(stack.ca_file())?;
    let request = create_request("shop", "one", "postgres");
    let mut clients = Vec::new();
    for _ in 0..10 {
        let api = windlass_tests::Api::new(&stack.endpoint, &ca, &stack.key)?;
        let request = request.clone();
        clients.push(tokio::spawn(async move {
            let mut answers = Vec::new();
            for _ in 0..10 {
                answers.push(api.instances().create_instance(request.clone()).await.map(|answer| answer.into_inner()));
            }
            answers
        }));
    }
    let mut operations = BTreeSet::new();
    for client in clients {
        for answer in client.await? {
            let operation = answer.context("each of the hundred gets the one operation")?;
            operations.insert(operation.name.clone());
        }
    }
    ensure!(operations.len() == 1, "{operations:?}");
    let all = ListInstancesRequest { parent: "projects/shop".to_owned(), ..Default::default() };
    let instances = stack.api.instances().list_instances(all).await?.into_inner().instances;
    ensure!(instances.len() == 1, "{instances:?}");
    let operation = stack.api.operation(operations.first().context("one")?).await?;
    stack.api.succeeded(&operation).await?;

    let mut other = request.clone();
    other.instance_id = "two".to_owned();
    let refused = stack.api.instances().create_instance(other).await.expect_err("the same id with another body");
    ensure!(reason(&refused) == "REQUEST_ID_REUSED", "{refused:?}");
    stack.api.purge_instance(&instance_name("shop", "one")).await?;
    leaks::nothing_left(&stack).await?;
    leaks::consistent(&stack).await?;
    stack.finish().await
}

struct Bad {
    what: &'static str,
    request: CreateInstanceRequest,
    code: Code,
    reason: &'static str,
    says: &'static [&'static str],
}

fn bad(
    what: &'static str,
    change: impl FnOnce(&mut CreateInstanceRequest, &mut Instance),
    code: Code,
    reason: &'static str,
    says: &'static [&'static str],
) -> Bad {
    let mut request = create_request("shop", "fresh", "postgres");
    let mut instance = request.instance.take().expect("it has one");
    change(&mut request, &mut instance);
    request.instance = Some(instance);
    Bad { what, request, code, reason, says }
}

fn table() -> Vec<Bad> {
    let resources = Resources { cpu_millis: 100, memory_bytes: 256 << 20, disk_bytes: 512 << 20 };
    vec![
        bad(
            "unknown engine",
            |_, i| i.engine = "postgre".to_owned(),
            Code::InvalidArgument,
            "INVALID_FIELD",
            &["engine", "postgres"],
        ),
        bad(
            "version that no host has",
            |_, i| i.version = "7".to_owned(),
            Code::FailedPrecondition,
            "ENGINE_UNAVAILABLE",
            &["7"],
        ),
        bad("name in use", |r, _| r.instance_id = "taken".to_owned(), Code::AlreadyExists, "NAME_IN_USE", &["taken"]),
        bad(
            "malformed name",
            |r, _| r.instance_id = "Not A Name".to_owned(),
            Code::InvalidArgument,
            "INVALID_FIELD",
            &["instance_id"],
        ),
        bad(
            "impossible size",
            |_, i| i.resources = Some(Resources { memory_bytes: 1, ..resources }),
            Code::InvalidArgument,
            "INVALID_FIELD",
            &["memory_bytes", "128"],
        ),
        bad(
            "more than the quota",
            |_, i| i.resources = Some(Resources { disk_bytes: 1 << 40, ..resources }),
            Code::ResourceExhausted,
            "QUOTA_EXCEEDED",
            &["disk"],
        ),
        bad(
            "no host fits",
            |_, i| i.placement = Some(Placement { region: "nowhere".to_owned(), ..Default::default() }),
            Code::ResourceExhausted,
            "NO_HOST_FITS",
            &["host-1", "nowhere"],
        ),
        bad(
            "unknown parameter",
            |_, i| drop(i.parameters.insert("shared_bufers".to_owned(), "1GB".to_owned())),
            Code::InvalidArgument,
            "PARAMETER_INVALID",
            &["shared_bufers", "shared_buffers"],
        ),
        bad(
            "parameter out of range",
            |_, i| drop(i.parameters.insert("max_connections".to_owned(), "-5".to_owned())),
            Code::InvalidArgument,
            "PARAMETER_INVALID",
            &["max_connections"],
        ),
        bad(
            "parameter that Windlass sets",
            |_, i| drop(i.parameters.insert("port".to_owned(), "1".to_owned())),
            Code::InvalidArgument,
            "PARAMETER_INVALID",
            &["port"],
        ),
        bad("unknown project", |r, _| r.parent = "projects/none".to_owned(), Code::NotFound, "NOT_FOUND", &["none"]),
        bad(
            "malformed parent",
            |r, _| r.parent = "shop".to_owned(),
            Code::InvalidArgument,
            "INVALID_FIELD",
            &["parent"],
        ),
        bad(
            "malformed request id",
            |r, _| r.request_id = "x".repeat(2000),
            Code::InvalidArgument,
            "INVALID_FIELD",
            &["request_id"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_refused_with_reason_and_remedy_and_change_nothing() -> Result<()> {
    let stack = Stack::plan().start().await?;
    let api = &stack.api;
    api.create_project("shop").await?;
    let quota = Quota {
        instances: 3,
        resources: Some(Resources { cpu_millis: 4000, memory_bytes: 2 << 30, disk_bytes: 4 << 30 }),
    };
    let limit = UpdateProjectRequest {
        project: Some(Project { name: "projects/shop".to_owned(), quota: Some(quota), ..Default::default() }),
        update_mask: Some(pbjson_types::FieldMask { paths: vec!["quota".to_owned()] }),
        request_id: request_id(),
        ..Default::default()
    };
    api.projects().update_project(limit).await?;
    api.make_instance("shop", "taken", "postgres").await?;
    // Parameters are checked against the engine's own catalogue, which the agent sends once it has it.
    wait_until("the catalogue", std::time::Duration::from_secs(60), async || {
        let mut request = create_request("shop", "probe", "postgres");
        request.validate_only = true;
        if let Some(instance) = &mut request.instance {
            instance.parameters.insert("work_mem".to_owned(), "16MB".to_owned());
        }
        Ok(api.instances().create_instance(request).await?)
    })
    .await?;
    for bad in table() {
        let refused = api.instances().create_instance(bad.request).await;
        let status = refused.err().with_context(|| format!("{} was accepted", bad.what))?;
        ensure!(status.code() == bad.code, "{}: {status:?}", bad.what);
        ensure!(reason(&status) == bad.reason, "{}: {status:?}", bad.what);
        for word in bad.says {
            ensure!(status.message().contains(word), "{} does not say {word}: {}", bad.what, status.message());
        }
    }
    let unknown_field = UpdateInstanceRequest {
        instance: Some(Instance { name: instance_name("shop", "taken"), ..Default::default() }),
        update_mask: Some(pbjson_types::FieldMask { paths: vec!["engine".to_owned()] }),
        request_id: request_id(),
        ..Default::default()
    };
    let refused = api.instances().update_instance(unknown_field).await.expect_err("the engine cannot be changed");
    ensure!(refused.code() == Code::InvalidArgument && refused.message().contains("engine"), "{refused:?}");

    let all = ListInstancesRequest { parent: "projects/shop".to_owned(), show_deleted: true, ..Default::default() };
    let instances = api.instances().list_instances(all).await?.into_inner().instances;
    ensure!(instances.len() == 1, "nothing came of the refused ones: {instances:?}");
    api.purge_instance(&instance_name("shop", "taken")).await?;
    leaks::nothing_left(&stack).await?;
    leaks::consistent(&stack).await?;
    stack.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_wrong_expired_revoked_or_too_weak_are_refused() -> Result<()> {
    let stack = Stack::plan().hosts(0).start().await?;
    let api = &stack.api;
    api.create_project("shop").await?;
    api.create_project("other").await?;
    for (what, key) in
        [("none", ""), ("garbage", "garbage"), ("unknown", "wl_00000000.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]
    {
        let refused = api.with_key(key)?.all_hosts().await.expect_err(what);
        let status = refused.downcast_ref::<tonic::Status>().context("a status")?;
        ensure!(status.code() == Code::Unauthenticated && reason(status) == "KEY_INVALID", "{what}: {status:?}");
    }
    let make = async |role: &str, project: &str| -> Result<(ApiKey, String)> {
        let request = CreateApiKeyRequest {
            api_key: Some(ApiKey {
                title: format!("{role} of {project}"),
                role: role.to_owned(),
                project: project.to_owned(),
                ..Default::default()
            }),
            ttl: Some(windlass_proto_duration(3600)),
            request_id: request_id(),
        };
        let made = api.keys().create_api_key(request).await?.into_inner();
        Ok((made.api_key.context("the key's description")?, made.key))
    };
    let (viewer, secret) = make("viewer", "projects/shop").await?;
    let weak = api.with_key(&secret)?;
    let refused = weak.create_instance("shop", "x", "postgres").await.expect_err("viewers change nothing");
    ensure!(refused.code() == Code::PermissionDenied && reason(&refused) == "PERMISSION_MISSING", "{refused:?}");
    let foreign = ListInstancesRequest { parent: "projects/other".to_owned(), ..Default::default() };
    let refused = weak.instances().list_instances(foreign).await.expect_err("another project");
    ensure!(matches!(refused.code(), Code::PermissionDenied | Code::NotFound), "{refused:?}");
    let revoke = RevokeApiKeyRequest { name: viewer.name, request_id: request_id() };
    api.keys().revoke_api_key(revoke).await?;
    let own = ListInstancesRequest { parent: "projects/shop".to_owned(), ..Default::default() };
    let refused = weak.instances().list_instances(own).await.expect_err("revoked");
    ensure!(refused.code() == Code::Unauthenticated && reason(&refused) == "KEY_INVALID", "{refused:?}");
    stack.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_oversized_messages_do_no_harm() -> Result<()> {
    let mut stack = Stack::plan().hosts(0).start().await?;
    stack.api.create_project("shop").await?;
    let port: u16 = stack.endpoint.rsplit(':').next().context("port")?.parse()?;
    let noises: [&[u8]; 4] = [b"GET / HTTP/1.1\r\n\r\n", &[0; 4096], &[0xff; 4096], &[0x16, 3, 1, 255, 255, 1]];
    for noise in noises {
        let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        socket.write_all(noise).await?;
        // The server closes it, at the latest at the end of the handshake's time.
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(std::time::Duration::from_secs(20), socket.read_to_end(&mut answer)).await;
        ensure!(closed.is_ok(), "the server holds on to {noise:?}");
    }
    let mut huge = create_request("shop", "huge", "postgres");
    if let Some(instance) = &mut huge.instance {
        instance.labels.insert("huge".to_owned(), "x".repeat(64 << 20));
    }
    let refused = stack.api.instances().create_instance(huge).await.expect_err("64 MiB are too much");
    ensure!(
        matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted | Code::InvalidArgument),
        "{:?}",
        refused.code()
    );
    stack.control_plane.check()?;
    stack.api.create_project("after").await?;
    stack.finish().await
}
