//! Errors over the wire: exit codes, what is printed, suggestions.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use windlass_proto::api::v1 as pb;

use crate::{
    bench::Bench,
    fake::refusal,
    samples::{host, instance},
};

fn refuse(bench: &Bench, status: Status) {
    bench.fake.on("get_instance", move |_: &pb::GetInstanceRequest| Err::<pb::Instance, _>(status.clone()));
}

#[tokio::test]
async fn each_class_of_refusal_has_its_exit_code() {
    let bench = Bench::new().await;
    let table = [
        (Code::InvalidArgument, "INVALID_FIELD", 2),
        (Code::NotFound, "NOT_FOUND", 3),
        (Code::Unauthenticated, "KEY_INVALID", 4),
        (Code::PermissionDenied, "PERMISSION_MISSING", 4),
        (Code::AlreadyExists, "NAME_IN_USE", 5),
        (Code::FailedPrecondition, "STATE_FORBIDS", 5),
        (Code::Aborted, "ETAG_MISMATCH", 5),
        (Code::ResourceExhausted, "QUOTA_EXCEEDED", 7),
        (Code::Internal, "INTERNAL", 1),
        (Code::Unimplemented, "", 1),
    ];
    for (code, reason, exit) in table {
        refuse(&bench, refusal(code, reason, "because", &[]));
        let run = bench.run(&["instance", "get", "pg-1"]).await;
        assert_eq!((run.code, run.stdout.as_str()), (exit, ""), "{code:?}: {}", run.stderr);
        assert!(run.stderr.starts_with("error: because\n"), "{}", run.stderr);
    }
}

#[tokio::test]
async fn a_wrong_command_line_is_2_and_help_is_0() {
    let bench = Bench::new().await;
    for wrong in [&["instance", "creat"][..], &["instance", "create", "x", "--memory", "lots"], &["-o", "xml"], &[]] {
        assert_eq!(bench.run(wrong).await.code, 2, "{wrong:?}");
    }
    let help = bench.run(&["instance", "create", "--help"]).await;
    assert!(help.code == 0 && help.stdout.contains("--deletion-protection") && help.stderr.is_empty());
    let slip = bench.run(&["instanse", "list"]).await;
    assert!(slip.stderr.contains("instance"), "{}", slip.stderr);
}

#[tokio::test]
async fn violations_are_listed_one_a_line() {
    let bench = Bench::new().await;
    let mut details = ErrorDetails::with_error_info("INVALID_FIELD", "windlass", std::collections::HashMap::new());
    details.add_bad_request_violation("instance.engine", "is not known");
    details.add_bad_request_violation("instance.resources.memory_bytes", "1 B is too small");
    refuse(&bench, Status::with_error_details(Code::InvalidArgument, "two things are wrong", details));
    let run = bench.run(&["instance", "get", "pg-1"]).await;
    insta::assert_snapshot!(run.stderr, @r#"
    error: the request breaks these rules:
      instance.engine: is not known
      instance.resources.memory_bytes: 1 B is too small
    reason: INVALID_FIELD
    "#);
    let json = bench.run(&["instance", "get", "pg-1", "-o", "json"]).await;
    let error: serde_json::Value = serde_json::from_str(&json.stderr).expect("JSON on stderr");
    assert_eq!(error["error"]["reason"], "INVALID_FIELD");
    assert_eq!(error["error"]["code"], "INVALID_ARGUMENT");
    assert_eq!(error["error"]["violations"][1]["field"], "instance.resources.memory_bytes");
}

#[tokio::test]
async fn a_busy_instance_says_what_to_wait_for() {
    let bench = Bench::new().await;
    let metadata = [("operation", "operations/op-7")];
    refuse(&bench, refusal(Code::FailedPrecondition, "INSTANCE_BUSY", "another operation is under way", &metadata));
    let run = bench.run(&["instance", "get", "pg-1"]).await;
    assert_eq!(
        run.stderr,
        "error: another operation is under way\nreason: INSTANCE_BUSY\nhint: windlass operation wait op-7\n"
    );
}

#[tokio::test]
async fn a_protected_instance_says_how_to_lift_the_protection() {
    let bench = Bench::new().await;
    refuse(&bench, refusal(Code::FailedPrecondition, "DELETION_PROTECTED", "pg-1 is protected", &[]));
    let run = bench.run(&["instance", "get", "pg-1"]).await;
    assert!(
        run.stderr.ends_with("hint: windlass instance update pg-1 --deletion-protection false\n"),
        "{}",
        run.stderr
    );
}

#[tokio::test]
async fn an_unknown_name_suggests_the_nearest_that_exists() {
    let bench = Bench::new().await;
    bench.fake.on("list_instances", |_: &pb::ListInstancesRequest| {
        Ok(pb::ListInstancesResponse { instances: vec![instance("shop-db"), instance("pg-1")], ..Default::default() })
    });
    bench.fake.on("list_hosts", |_: &pb::ListHostsRequest| {
        Ok(pb::ListHostsResponse { hosts: vec![host("host-1")], ..Default::default() })
    });
    let facts = [("resource_type", "instance"), ("resource_name", "projects/demo/instances/shp-db")];
    refuse(&bench, refusal(Code::NotFound, "NOT_FOUND", "instance shp-db does not exist", &facts));
    let run = bench.run(&["instance", "get", "shp-db"]).await;
    assert!(run.stderr.ends_with("hint: did you mean shop-db?\n"), "{}", run.stderr);
    bench.fake.on("get_host", |_: &pb::GetHostRequest| {
        let facts = [("resource_type", "host"), ("resource_name", "nowhere")];
        Err::<pb::Host, _>(refusal(Code::NotFound, "NOT_FOUND", "host nowhere does not exist", &facts))
    });
    let run = bench.run(&["host", "get", "nowhere"]).await;
    assert!(run.stderr.ends_with("hint: `windlass host list` shows what there is\n"), "{}", run.stderr);
}

#[tokio::test]
async fn an_endpoint_without_a_listener_is_named() {
    let bench = Bench::new().await;
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("bind").local_addr().expect("address");
    let endpoint = format!("http://{free}");
    let run = bench.run(&["instance", "list", "--endpoint", &endpoint]).await;
    assert_eq!(run.code, 1);
    let first = format!("error: cannot reach the control plane at {endpoint}: Connection refused");
    assert!(run.stderr.starts_with(&first) && run.stderr.contains("windlass doctor"), "{}", run.stderr);
    let doctor = bench.run(&["doctor", "--endpoint", &endpoint]).await;
    assert!(doctor.code == 1 && doctor.stdout.contains("Connection refused"), "{}", doctor.stdout);
}

#[tokio::test]
async fn without_a_key_nothing_is_called() {
    let bench = Bench::new().await;
    let run =
        crate::bench::finish(bench.bare(&["instance", "list", "--endpoint", &bench.endpoint]).spawn().expect("start"))
            .await;
    assert_eq!(run.code, 4);
    assert!(run.stderr.contains("WINDLASS_TOKEN"), "{}", run.stderr);
}
