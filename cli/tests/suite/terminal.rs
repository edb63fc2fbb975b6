//! What is different when a person looks on: a pseudo-terminal made by `script` (package bsdutils, on every Debian).

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use windlass_proto::api::v1::{self as pb, operation::State, operation::step::State as StepState};

use crate::{
    bench::{Bench, Run, finish},
    samples::{instance, operation},
};

/// Runs the command on a terminal, with this typed in.
async fn on_terminal(bench: &Bench, arguments: &str, typed: &str) -> Run {
    let line = format!("{} {arguments}", env!("CARGO_BIN_EXE_windlass"));
    let environment = bench.command(&[]);
    let mut command = tokio::process::Command::new("script");
    command.args(["-q", "-e", "-c", &line, "/dev/null"]).env_clear().env("TERM", "xterm").kill_on_drop(true);
    command.envs(environment.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("script");
    let mut input = child.stdin.take().expect("stdin");
    input.write_all(typed.as_bytes()).await.expect("type");
    let run = finish(child).await;
    drop(input);
    run
}

#[tokio::test]
async fn commands_wait_by_default_and_show_the_steps() {
    let bench = Bench::new().await;
    bench.fake.on("stop_instance", |_: &pb::InstanceVerbRequest| {
        Ok(operation(State::Running, 1, &[("Stopping", StepState::Running)]))
    });
    bench.fake.on("wait_operation", |_: &pb::WaitOperationRequest| {
        Ok(operation(State::Succeeded, 2, &[("Stopping", StepState::Done)]))
    });
    bench.fake.on("get_instance", |_: &pb::GetInstanceRequest| Ok(instance("pg-1")));
    let run = on_terminal(&bench, "instance stop pg-1", "").await;
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert!(run.stdout.contains("✓ Stopping") && run.stdout.contains("Endpoint:"), "{}", run.stdout);
    let run = on_terminal(&bench, "instance stop pg-1 --no-wait -q", "").await;
    assert_eq!(run.stdout.trim(), "operations/op-1");
}

#[tokio::test]
async fn deleting_asks_for_the_name() {
    let bench = Bench::new().await;
    bench.fake.on("delete_instance", |_: &pb::DeleteInstanceRequest| Ok(operation(State::Succeeded, 2, &[])));
    let wrong = on_terminal(&bench, "instance delete pg-1", "pg-2\n").await;
    assert!(wrong.code == 1 && wrong.stdout.contains("nothing was changed"), "{}", wrong.stdout);
    assert!(bench.fake.requests::<pb::DeleteInstanceRequest>("delete_instance").is_empty());
    let right = on_terminal(&bench, "instance delete pg-1", "pg-1\n").await;
    assert!(right.code == 0 && right.stdout.contains("windlass instance undelete pg-1"), "{}", right.stdout);
    assert_eq!(bench.fake.requests::<pb::DeleteInstanceRequest>("delete_instance").len(), 1);
}
