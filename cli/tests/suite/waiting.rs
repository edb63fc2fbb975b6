//! Waiting for operations: progress, ends, time-outs, Ctrl-C.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use windlass_proto::api::v1::{self as pb, operation::State, operation::step::State as StepState};

use crate::{
    bench::{Bench, finish},
    fake::refusal,
    samples::{instance, operation},
};

const CREATE: [&str; 6] = ["instance", "create", "pg-1", "--engine", "postgres", "--wait"];

async fn creating() -> Bench {
    let bench = Bench::new().await;
    bench.fake.on("create_instance", |_: &pb::CreateInstanceRequest| {
        Ok(operation(State::Running, 1, &[("Choosing a host", StepState::Running)]))
    });
    bench.fake.on("get_instance", |_: &pb::GetInstanceRequest| Ok(instance("pg-1")));
    bench
}

#[tokio::test]
async fn steps_are_told_as_they_end_and_the_instance_is_printed() {
    let bench = creating().await;
    bench.fake.on("wait_operation", |request: &pb::WaitOperationRequest| {
        Ok(match request.seen_revision {
            1 => {
                operation(State::Running, 5, &[("Choosing a host", StepState::Done), ("Starting", StepState::Waiting)])
            }
            5 => operation(State::Succeeded, 9, &[("Choosing a host", StepState::Done), ("Starting", StepState::Done)]),
            other => panic!("revision {other} was never given"),
        })
    });
    let run = finish(bench.command(&CREATE).args(["-o", "name"]).spawn().expect("start")).await;
    assert_eq!((run.code, run.stdout.as_str()), (0, "projects/demo/instances/pg-1\n"));
    assert_eq!(run.stderr, "✓ Choosing a host\n✓ Starting\n");
}

#[tokio::test]
async fn a_failed_operation_has_its_own_exit_code_and_says_why() {
    let bench = creating().await;
    bench.fake.on("wait_operation", |_: &pb::WaitOperationRequest| {
        let mut failed =
            operation(State::Failed, 9, &[("Choosing a host", StepState::Undone), ("Starting", StepState::Failed)]);
        failed.error = Some(pb::Status {
            code: "FAILED_PRECONDITION".to_owned(),
            reason: "START_FAILED".to_owned(),
            message: "the server did not come up: bad config".to_owned(),
            ..Default::default()
        });
        Ok(failed)
    });
    let run = finish(bench.command(&CREATE).spawn().expect("start")).await;
    assert_eq!((run.code, run.stdout.as_str()), (6, ""));
    insta::assert_snapshot!(run.stderr, @r#"
    ↶ undone: Choosing a host
    ✗ Starting
    error: operations/op-1 failed: the server did not come up: bad config
    reason: START_FAILED
    hint: windlass instance events pg-1
    "#);
}

#[tokio::test]
async fn a_timeout_leaves_the_operation_and_says_how_to_come_back() {
    let bench = creating().await;
    bench.fake.on("wait_operation", |_: &pb::WaitOperationRequest| Ok(operation(State::Running, 2, &[])));
    let run = finish(bench.command(&CREATE).args(["--timeout", "1s"]).spawn().expect("start")).await;
    assert_eq!(run.code, 124);
    assert_eq!(
        run.stderr,
        "error: operations/op-1 is not done after 1s; it goes on\nhint: windlass operation wait op-1\n"
    );
}

#[tokio::test]
async fn ctrl_c_detaches_and_says_how_to_come_back() {
    let bench = creating().await;
    let (asked, mut waiting) = tokio::sync::mpsc::unbounded_channel();
    bench.fake.on("wait_operation", move |_: &pb::WaitOperationRequest| {
        let _ = asked.send(());
        std::thread::sleep(Duration::from_millis(20));
        Ok(operation(State::Running, 2, &[]))
    });
    let child = bench.command(&CREATE).spawn().expect("start");
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("pid");
    waiting.recv().await.expect("it waits");
    kill_process(pid, Signal::INT).expect("interrupt");
    let run = finish(child).await;
    assert_eq!(run.code, 130);
    assert_eq!(run.stderr, "error: detached; operations/op-1 goes on\nhint: windlass operation wait op-1\n");
}

#[tokio::test]
async fn a_control_plane_that_restarts_meanwhile_is_waited_for() {
    let bench = creating().await;
    let tries = AtomicU32::new(0);
    bench.fake.on("wait_operation", move |_: &pb::WaitOperationRequest| {
        match tries.fetch_add(1, Ordering::SeqCst) {
            // More than the tries of one call.
            0..6 => Err(refusal(tonic::Code::Unavailable, "UNAVAILABLE", "restarting", &[])),
            _ => Ok(operation(State::Succeeded, 9, &[])),
        }
    });
    let run = finish(bench.command(&CREATE).args(["-o", "name"]).spawn().expect("start")).await;
    assert_eq!((run.code, run.stdout.as_str()), (0, "projects/demo/instances/pg-1\n"), "{}", run.stderr);
}

/// The connection breaks while the control plane holds the wait; the next one goes through.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_in_the_middle_is_made_again() {
    let bench = creating().await;
    let (cut, mut cuts) = tokio::sync::mpsc::unbounded_channel();
    let (done, is_done) = std::sync::mpsc::channel();
    let tries = AtomicU32::new(0);
    bench.fake.on("wait_operation", move |_: &pb::WaitOperationRequest| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => {
            cut.send(()).expect("the cutter listens");
            let cut = || is_done.recv_timeout(Duration::from_secs(10));
            tokio::task::block_in_place(cut).expect("the connection is cut");
            Ok(operation(State::Running, 2, &[]))
        }
        _ => Ok(operation(State::Succeeded, 9, &[])),
    });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("address"));
    let behind = bench.endpoint.trim_start_matches("http://").to_owned();
    let connections = tokio::spawn(async move {
        let mut connections = 0;
        while let Ok((mut client, _)) = listener.accept().await {
            connections += 1;
            let mut server = tokio::net::TcpStream::connect(&behind).await.expect("the fake");
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut server) => break,
                _ = cuts.recv() => {}
            }
            drop((client, server));
            done.send(()).expect("the fake waits");
        }
        connections
    });
    let run =
        finish(bench.command(&CREATE).args(["-o", "name", "--endpoint", &endpoint]).spawn().expect("start")).await;
    assert_eq!((run.code, run.stdout.as_str()), (0, "projects/demo/instances/pg-1\n"), "{}", run.stderr);
    assert_eq!(connections.await.expect("the cutter"), 2);
}

#[tokio::test]
async fn operation_wait_waits_for_each() {
    let bench = Bench::new().await;
    bench.fake.on("get_operation", |_: &pb::GetOperationRequest| Ok(operation(State::Running, 1, &[])));
    bench.fake.on("wait_operation", |_: &pb::WaitOperationRequest| Ok(operation(State::Succeeded, 2, &[])));
    let run = bench.run(&["operation", "wait", "op-1", "operations/op-1", "-o", "name"]).await;
    assert_eq!((run.code, run.stdout.as_str()), (0, "operations/op-1\noperations/op-1\n"));
    let asked: Vec<pb::GetOperationRequest> = bench.fake.requests("get_operation");
    assert!(asked.iter().all(|request| request.name == "operations/op-1"));
}
