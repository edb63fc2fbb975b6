//! An agent in a process of its own, so that it can be killed: this test binary, run again.

use std::process::{Command, Stdio};

use tokio_util::sync::CancellationToken;
use windlass_agent::members::Disposal;
use windlass_kit::failpoint::Failpoints;
use windlass_proto::agent::v1 as pb;

use crate::fixture::{Host, member};

const ORDER: &str = "WINDLASS_TEST_ORDER";

/// What the other agent is told to do before it dies.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) enum Order {
    Apply(pb::MemberGoal),
    Remove(pb::MemberGoal),
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Job {
    directory: std::path::PathBuf,
    failpoint: String,
    order: Order,
}

/// Runs another agent on this host's state that dies, as by kill -9, when it gets to the failpoint.
pub(crate) fn dies_at(host: &Host, failpoint: &str, order: Order) {
    let job = Job { directory: host.path().to_owned(), failpoint: failpoint.to_owned(), order };
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "agent_process::agent", "--nocapture"])
        .env(ORDER, serde_json::to_string(&job).expect("json"))
        .stdin(Stdio::null())
        .output()
        .expect("the other agent runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    assert_eq!(signal, Some(6), "{failpoint}: it did not die there: {said}");
}

/// The other agent. Without an order this is the check that a failpoint's text is understood.
#[tokio::test]
async fn agent() {
    let Ok(text) = std::env::var(ORDER) else {
        Failpoints::parse("members.after_start=abort").expect("legal");
        return;
    };
    let job: Job = serde_json::from_str(&text).expect("job");
    let mut host = Host::at(&job.directory);
    host.failpoints = Failpoints::parse(&format!("{}=abort", job.failpoint)).expect("failpoint");
    let members = host.open().await;
    let result = match job.order {
        Order::Apply(goal) => members.apply(goal, &CancellationToken::new()).await,
        Order::Remove(goal) => members.remove(member(&goal), Disposal::Retain).await,
    };
    panic!("it went past {}: {result:?}", job.failpoint);
}
