//! What commands that change something ask of the API.

use std::sync::atomic::{AtomicU32, Ordering};

use windlass_proto::api::v1 as pb;

use crate::{
    bench::Bench,
    fake::refusal,
    samples::{instance, operation},
};
use pb::operation::State;

fn begun<Req: 'static>(bench: &Bench, method: &'static str) {
    bench.fake.on(method, |_: &Req| Ok(operation(State::Running, 1, &[])));
}

#[tokio::test]
async fn every_flag_of_create_reaches_the_api() {
    let bench = Bench::new().await;
    begun::<pb::CreateInstanceRequest>(&bench, "create_instance");
    let run = bench
        .run(&[
            "instance",
            "create",
            "pg-1",
            "--engine",
            "postgres",
            "--version",
            "15",
            "--cpu",
            "500m",
            "--memory",
            "1GiB",
            "--set",
            "work_mem=8MB",
            "--set",
            "search_path=a,b=c",
            "--label",
            "team=shop",
            "--region",
            "north",
            "--host-label",
            "disk=nvme",
            "--deletion-protection",
            "--idempotency-key",
            "once",
        ])
        .await;
    assert_eq!((run.code, run.stdout.as_str()), (0, "operations/op-1\n"), "{}", run.stderr);
    assert_eq!(run.stderr, "begun; follow it with: windlass operation wait op-1\n");
    let asked: Vec<pb::CreateInstanceRequest> = bench.fake.requests("create_instance");
    let text = serde_json::to_string_pretty(&asked[0]).expect("JSON");
    insta::assert_snapshot!(text, @r#"
    {
      "parent": "projects/demo",
      "instance_id": "pg-1",
      "instance": {
        "engine": "postgres",
        "version": "15",
        "resources": {
          "cpu_millis": "500",
          "memory_bytes": "1073741824",
          "disk_bytes": "2147483648"
        },
        "parameters": {
          "search_path": "a,b=c",
          "work_mem": "8MB"
        },
        "labels": {
          "team": "shop"
        },
        "placement": {
          "region": "north",
          "host_labels": {
            "disk": "nvme"
          }
        },
        "deletion_protection": true
      },
      "request_id": "once"
    }
    "#);
}

#[tokio::test]
async fn a_create_without_a_size_leaves_the_size_to_the_server() {
    let bench = Bench::new().await;
    begun::<pb::CreateInstanceRequest>(&bench, "create_instance");
    bench.run(&["instance", "create", "pg-1", "--engine", "postgres"]).await;
    let asked: Vec<pb::CreateInstanceRequest> = bench.fake.requests("create_instance");
    let instance = asked[0].instance.clone().expect("instance");
    assert_eq!((instance.resources, instance.placement), (None, None));
}

#[tokio::test]
async fn a_dry_run_only_validates() {
    let bench = Bench::new().await;
    begun::<pb::CreateInstanceRequest>(&bench, "create_instance");
    let run = bench.run(&["instance", "create", "pg-1", "--engine", "postgres", "--dry-run", "--wait"]).await;
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "", "valid; nothing was changed\n"));
    let asked: Vec<pb::CreateInstanceRequest> = bench.fake.requests("create_instance");
    assert!(asked[0].validate_only);
}

#[tokio::test]
async fn one_request_id_is_kept_over_all_tries() {
    let bench = Bench::new().await;
    let tries = AtomicU32::new(0);
    bench.fake.on("create_instance", move |_: &pb::CreateInstanceRequest| match tries.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Err(refusal(tonic::Code::Unavailable, "UNAVAILABLE", "starting up", &[])),
        _ => Ok(operation(State::Running, 1, &[])),
    });
    let create = ["instance", "create", "pg-1", "--engine", "postgres"];
    assert_eq!(bench.run(&create).await.code, 0);
    assert_eq!(bench.run(&create).await.code, 0);
    let asked: Vec<pb::CreateInstanceRequest> = bench.fake.requests("create_instance");
    let ids: Vec<_> = asked.iter().map(|request| request.request_id.as_str()).collect();
    assert_eq!(ids.len(), 4);
    assert!(!ids[0].is_empty() && ids[0] == ids[1] && ids[1] == ids[2], "{ids:?}");
    assert_ne!(ids[2], ids[3], "another invocation is another intent");
}

#[tokio::test]
async fn only_unavailability_is_tried_again() {
    let bench = Bench::new().await;
    bench.fake.on("create_instance", |_: &pb::CreateInstanceRequest| -> Result<pb::Operation, _> {
        Err(refusal(tonic::Code::Aborted, "CONFLICT", "somebody was faster", &[]))
    });
    assert_eq!(bench.run(&["instance", "create", "pg-1", "--engine", "postgres"]).await.code, 5);
    assert_eq!(bench.fake.requests::<pb::CreateInstanceRequest>("create_instance").len(), 1);
}

#[tokio::test]
async fn an_update_names_what_changes_and_keeps_other_labels() {
    let bench = Bench::new().await;
    begun::<pb::UpdateInstanceRequest>(&bench, "update_instance");
    bench.fake.on("get_instance", |_: &pb::GetInstanceRequest| Ok(instance("pg-1")));
    let run = bench
        .run(&[
            "instance",
            "update",
            "pg-1",
            "--memory",
            "1GiB",
            "--set",
            "work_mem=16MB",
            "--reset",
            "max_connections",
            "--label",
            "tier=gold",
            "--deletion-protection",
            "false",
            "--restart",
        ])
        .await;
    assert_eq!(run.code, 0, "{}", run.stderr);
    let asked: Vec<pb::UpdateInstanceRequest> = bench.fake.requests("update_instance");
    let wanted = asked[0].instance.clone().expect("instance");
    let mut paths = asked[0].update_mask.clone().expect("mask").paths;
    paths.sort();
    assert_eq!(
        paths,
        [
            "deletion_protection",
            "labels",
            "parameters.max_connections",
            "parameters.work_mem",
            "resources.memory_bytes"
        ]
    );
    assert_eq!(
        wanted.labels.into_iter().collect::<Vec<_>>(),
        [("team".to_owned(), "shop".to_owned()), ("tier".to_owned(), "gold".to_owned())]
    );
    assert_eq!((wanted.etag.as_str(), asked[0].restart_if_needed), ("e2", true));
    let nothing = bench.run(&["instance", "update", "pg-1"]).await;
    assert!(nothing.code == 2 && nothing.stderr.contains("nothing to change"), "{}", nothing.stderr);
}

#[tokio::test]
async fn parameters_are_set_and_reset_by_name() {
    let bench = Bench::new().await;
    begun::<pb::UpdateInstanceRequest>(&bench, "update_instance");
    bench.run(&["param", "set", "pg-1", "work_mem=8MB", "pg_stat_statements.max=500"]).await;
    bench.run(&["param", "reset", "pg-1", "work_mem"]).await;
    let asked: Vec<pb::UpdateInstanceRequest> = bench.fake.requests("update_instance");
    let paths = |n: usize| asked[n].update_mask.clone().expect("mask").paths;
    assert_eq!(paths(0), ["parameters.pg_stat_statements.max", "parameters.work_mem"]);
    assert_eq!(paths(1), ["parameters.work_mem"]);
    let value = |n: usize| asked[n].instance.clone().expect("instance").parameters.get("work_mem").cloned();
    assert_eq!((value(0).as_deref(), value(1)), (Some("8MB"), None));
}

#[tokio::test]
async fn deleting_needs_consent_and_may_accept_that_there_is_nothing() {
    let bench = Bench::new().await;
    let run = bench.run(&["instance", "delete", "pg-1"]).await;
    assert!(run.code == 2 && run.stderr.contains("--yes"), "{}", run.stderr);
    assert!(bench.fake.requests::<pb::DeleteInstanceRequest>("delete_instance").is_empty());
    bench.fake.on("delete_instance", |_: &pb::DeleteInstanceRequest| -> Result<pb::Operation, _> {
        Err(refusal(tonic::Code::NotFound, "NOT_FOUND", "instance pg-1 does not exist", &[]))
    });
    assert_eq!(bench.run(&["instance", "delete", "pg-1", "--yes"]).await.code, 3);
    assert_eq!(bench.run(&["instance", "delete", "pg-1", "--yes", "--if-exists"]).await.code, 0);
    begun::<pb::DeleteInstanceRequest>(&bench, "delete_instance");
    assert_eq!(bench.run(&["instance", "delete", "pg-1", "--yes", "--purge"]).await.code, 0);
    let asked: Vec<pb::DeleteInstanceRequest> = bench.fake.requests("delete_instance");
    assert_eq!(asked.iter().map(|request| request.purge).collect::<Vec<_>>(), [false, false, true]);
}

#[tokio::test]
async fn objects_are_made_and_dropped_under_their_instance() {
    let bench = Bench::new().await;
    begun::<pb::CreateObjectRequest>(&bench, "create_object");
    begun::<pb::DropObjectRequest>(&bench, "drop_object");
    bench.run(&["user", "create", "pg-1", "reader", "--database", "a", "--database", "b"]).await;
    bench.run(&["database", "create", "pg-1", "shop", "--owner", "reader"]).await;
    bench.run(&["extension", "drop", "pg-1", "hstore", "--database", "shop", "--yes"]).await;
    let made: Vec<pb::CreateObjectRequest> = bench.fake.requests("create_object");
    assert_eq!(made[0].parent, "projects/demo/instances/pg-1");
    assert_eq!(made[0].object.clone().expect("object").databases, "a,b");
    assert_eq!(made[1].object.clone().expect("object").owner, "reader");
    let dropped: Vec<pb::DropObjectRequest> = bench.fake.requests("drop_object");
    assert_eq!(dropped[0].name, "projects/demo/instances/pg-1/extensions/hstore");
    assert_eq!(dropped[0].database, "shop");
}

#[tokio::test]
async fn a_quota_is_shown_or_changed_in_the_parts_that_are_given() {
    let bench = Bench::new().await;
    bench.fake.on("get_project", |request: &pb::GetProjectRequest| {
        Ok(pb::Project { name: request.name.clone(), ..Default::default() })
    });
    bench
        .fake
        .on("update_project", |request: &pb::UpdateProjectRequest| Ok(request.project.clone().unwrap_or_default()));
    assert_eq!(bench.run(&["project", "quota"]).await.code, 0);
    assert_eq!(bench.run(&["project", "quota", "other", "--instances", "9", "--cpu", "4"]).await.code, 0);
    let asked: Vec<pb::UpdateProjectRequest> = bench.fake.requests("update_project");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].update_mask.clone().expect("mask").paths, ["quota.instances", "quota.resources.cpu_millis"]);
    assert_eq!(asked[0].project.clone().expect("project").name, "projects/other");
}
