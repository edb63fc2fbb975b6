//! The real `windlass-agent` against a control plane over TLS: command line, status, signals, one for each directory.

mod plane;
mod program;

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use plane::{BOUND, Plane, command, succeeded};
use program::{Agent, Home, agent_program};
use windlass_core::id::MemberId;
use windlass_proto::agent::v1::{self as pb, command::Body};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn purge() -> pb::Command {
    command(MemberId::new(), Body::PurgeMember(pb::PurgeMember {}))
}

async fn polled(plane: &Plane) {
    plane.wait("a poll", |s| s.polls.first().map(drop)).await;
}

#[tokio::test]
async fn it_enrols_obeys_tells_its_status_and_ends_in_order() {
    let plane = Plane::start().await;
    let home = Home::new(&plane, "[capacity]\ncpu_millis = 1500\nmemory = \"1GiB\"\n");
    let status = text(&home.run(&["status"]).stdout);
    assert!(status.contains("has not enrolled") && status.contains("not running"), "{status}");
    let mut agent = home.start(&plane.token());
    polled(&plane).await;
    let hello = plane.state().hellos[0].clone();
    let capacity = hello.capacity.expect("capacity");
    assert_eq!((capacity.cpu_millis, capacity.memory_bytes), (1500, 1 << 30));
    assert!(capacity.disk_bytes > 0 && !hello.boot_id.is_empty());
    assert_eq!((hello.address.as_str(), hello.port_low, hello.port_high), ("127.0.0.1", 20_000, 29_999));
    let order = purge();
    plane.queue(order.clone());
    succeeded(&plane.result(&order.uid).await);
    let connected = format!("connected to {}", plane.endpoint);
    let begun = Instant::now();
    while !text(&home.run(&["status"]).stdout).contains(&connected) {
        assert!(begun.elapsed() < BOUND, "{}", text(&home.run(&["status"]).stdout));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let second = home.run(&["run"]);
    assert!(!second.status.success());
    assert!(text(&second.stderr).contains("another process runs on"), "{}", text(&second.stderr));
    let (took, in_order) = agent.terminate();
    assert!(in_order && took < Duration::from_secs(5), "{took:?}");
    let status = text(&home.run(&["status"]).stdout);
    assert!(status.contains("host-1") && status.contains("not running"), "{status}");

    // The token is of no more use, and not needed.
    plane.state().tokens.clear();
    let polls = plane.state().polls.len();
    let _again = home.start("");
    plane.wait("a poll after the restart", |s| s.polls.get(polls).map(drop)).await;
    assert_eq!(plane.state().enrolments.len(), 1);
}

#[tokio::test]
async fn a_parked_poll_does_not_hold_the_end_up_and_neither_does_an_absent_control_plane() {
    let mut plane = Plane::start().await;
    plane.state().cadence = plane::cadence(60_000, 60_000);
    let home = Home::new(&plane, "");
    let mut agent = home.start(&plane.token());
    polled(&plane).await;
    let (took, in_order) = agent.terminate();
    assert!(in_order && took < Duration::from_secs(2), "{took:?}");
    let mut agent = home.start("");
    plane.wait("a second poll", |s| s.polls.get(1).map(drop)).await;
    plane.down();
    let (took, in_order) = agent.terminate();
    assert!(in_order && took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_wrong_configuration_is_explained_and_nothing_is_started() {
    let plane = Plane::start().await;
    let home = Home::new(&plane, "");
    let good = home.run(&["check-config"]);
    assert!(good.status.success() && text(&good.stdout).contains("ok: host host-1"), "{good:?}");
    let bad = Home::new(&plane, "port_low = 99\n");
    for arguments in [&["check-config"][..], &["run"]] {
        let refused = bad.run(arguments);
        assert!(!refused.status.success());
        assert!(text(&refused.stderr).contains("port_low: 99 to 29999"), "{}", text(&refused.stderr));
    }
    assert!(!bad.state().exists());
    let version = text(&home.run(&["--version"]).stdout);
    assert!(version.starts_with("windlass-agent "), "{version}");
}

#[tokio::test]
async fn a_journal_that_cannot_grow_refuses_commands_and_the_agent_goes_on() {
    let plane = Plane::start().await;
    let home = Home::new(&plane, "");
    let mut agent = home.start(&plane.token());
    polled(&plane).await;
    agent.terminate();
    // A limit on the size of files stands for the full disk: writes beyond it fail.
    let blocks = journal_size(&home.state()) / 1024 + 1;
    let polls = plane.state().polls.len();
    let agent = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"", "sh", &blocks.to_string()])
        .arg(agent_program())
        .arg("--config")
        .arg(&home.config)
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let _agent = Agent(agent);
    plane.wait("a poll", |s| s.polls.get(polls).map(drop)).await;
    let reason = async |order: pb::Command| {
        plane.queue(order.clone());
        match plane.result(&order.uid).await.outcome {
            Some(pb::command_result::Outcome::Failed(failure)) => Some(failure.reason),
            Some(_) | None => None,
        }
    };
    let mut refused = false;
    for _ in 0..50 {
        refused = reason(purge()).await.as_deref() == Some("DISK_FULL");
        if refused {
            break;
        }
    }
    assert!(refused, "the journal has {} bytes", journal_size(&home.state()));
    // Where compacting helps, there is room again; where it does not, it is refused again.
    let order = purge();
    plane.queue(order.clone());
    plane.result(&order.uid).await;
}

#[tokio::test]
async fn an_idle_agent_is_small_and_quiet() {
    let plane = Plane::start().await;
    plane.state().cadence = plane::cadence(500, 60_000);
    let home = Home::new(&plane, "");
    let agent = home.start(&plane.token());
    // Engines may still be asked for their catalogues meanwhile, by processes of their own.
    plane.wait("it has settled", |s| (s.heartbeats.len() > 10).then_some(())).await;
    let (begun, ticks) = (Instant::now(), cpu_ticks(agent.0.id()));
    plane.wait("it was idle for a while", |s| (s.heartbeats.len() > 20).then_some(())).await;
    let cpu = (cpu_ticks(agent.0.id()) - ticks) as f64 / begun.elapsed().as_secs_f64();
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", agent.0.id())).expect("smaps_rollup");
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).expect("Pss").trim();
    let kilobytes: u64 = pss.trim_end_matches(" kB").parse().expect("number");
    println!("PSS {kilobytes} kB, CPU {cpu:.2} % with two heartbeats a second");
    // Without optimisation it is some megabytes more than the 12 MB it may have with it.
    assert!(kilobytes < 48 << 10, "{rollup}");
    assert!(cpu < 10.0, "{cpu} % of a processor");
}

/// Processor time of a process in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let fields = stat.rsplit(')').next().expect("name").split_whitespace();
    fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("number")).sum()
}

fn journal_size(state: &Path) -> u64 {
    std::fs::metadata(state.join("journal")).map_or(0, |metadata| metadata.len())
}
