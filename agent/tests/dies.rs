//! The real `windlass-agent` with a real database, killed at each durable step of a create and of a removal, and started
//! again: the same end state, one database, one result.

mod plane;
mod program;

use std::net::TcpListener;

use plane::{Plane, command, succeeded};
use program::Home;
use windlass_core::{engine::Engine, id::MemberId, size::Resources};
use windlass_proto::agent::v1::{
    self as pb,
    command::Body,
    member_facts::Process,
    member_goal::{DataSource, Power},
};

const FAILPOINTS: [&str; 7] = [
    "journal.before_accept",
    "journal.after_accept",
    "command.before_effect",
    "command.after_effect",
    "journal.after_finish",
    "report.before",
    "report.after_ack",
];

/// Creates a PostgreSQL of the version that the host has.
fn create(member: MemberId, version: &str) -> pb::Command {
    let size = Resources::DEFAULT;
    let port = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port();
    let mut order = plane::apply(member, 1);
    if let Some(Body::ApplyMember(pb::ApplyMember { goal: Some(goal) })) = &mut order.body {
        *goal = pb::MemberGoal {
            version: version.to_owned(),
            port: port.into(),
            cpu_millis: size.cpu_millis,
            memory_bytes: size.memory_bytes,
            disk_bytes: size.disk_bytes,
            parameters: (Engine::Postgres.descriptor().defaults)(&size),
            power: Power::On.into(),
            data: DataSource::Initialise.into(),
            admin: Some(pb::ApplyObject {
                kind: pb::apply_object::Kind::User.into(),
                name: "app".to_owned(),
                verifier: VERIFIER.to_owned(),
                administrator: true,
                ..pb::ApplyObject::default()
            }),
            ..goal.clone()
        };
    }
    order
}

/// Of a password that nobody needs here.
const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
    wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

/// Queues a command for an agent that dies at the failpoint, starts the next agent, and gives the result that counts.
async fn through_death(plane: &Plane, home: &Home, order: &pb::Command, failpoint: &str) -> pb::CommandResult {
    let polls = plane.state().polls.len();
    let mut agent = home.start_with("", &format!("{failpoint}=abort"));
    plane.wait("a poll", |s| s.polls.get(polls).map(drop)).await;
    plane.queue(order.clone());
    agent.died().await;
    // Results of earlier commands may come once more: the agent forgets an acknowledged one with its next record.
    let of_this = |s: &plane::State| s.results.iter().filter(|r| r.uid == order.uid).cloned().collect::<Vec<_>>();
    let (polls, results) = {
        let state = plane.state();
        (state.polls.len(), of_this(&state).len())
    };
    let mut next = home.start("");
    let poll = plane.wait("a poll of the next one", |s| s.polls.get(polls).cloned()).await;
    if !poll.running.contains(&order.uid) && of_this(&plane.state()).len() == results {
        plane.queue(pb::Command { attempt: 2, ..order.clone() });
    }
    let result = plane.wait("a result after it", |s| of_this(s).get(results).cloned()).await;
    let (_, in_order) = next.terminate();
    assert!(in_order, "{failpoint}");
    result
}

#[tokio::test]
async fn a_database_is_made_and_removed_once_wherever_the_agent_dies() {
    let plane = Plane::start().await;
    plane.state().cadence = plane::cadence(200, 200);
    let home = Home::new(&plane, "");
    let mut scout = home.start(&plane.token());
    let hello = plane.wait("a hello", |s| s.hellos.first().cloned()).await;
    scout.terminate();
    let installed = hello.engines.iter().find(|known| known.engine == "postgres").expect("PostgreSQL");
    for failpoint in FAILPOINTS {
        let member = MemberId::new();
        let result = through_death(&plane, &home, &create(member, &installed.version), failpoint).await;
        let facts = succeeded(&result);
        assert_eq!(facts.process(), Process::Running, "{failpoint}");
        let names: Vec<_> = std::fs::read_dir(home.state().join("members")).expect("members").flatten().collect();
        assert_eq!(names.len(), 1, "{failpoint}: {names:?}");
        let pid = i32::try_from(facts.pid).expect("pid");
        assert!(home.processes().contains(&pid), "{failpoint}: the database outlives the agents");
        for earlier in plane.state().results.iter().filter(|earlier| earlier.uid == result.uid) {
            assert_eq!(succeeded(earlier).engine_identity, facts.engine_identity, "{failpoint}: one database");
        }

        let removal = command(member, Body::RemoveMember(pb::RemoveMember { purge: true }));
        let result = through_death(&plane, &home, &removal, failpoint).await;
        assert_eq!(succeeded(&result).process(), Process::Absent, "{failpoint}");
        assert_eq!(std::fs::read_dir(home.state().join("members")).expect("members").count(), 0, "{failpoint}");
        assert_eq!(home.processes(), [0; 0], "{failpoint}: nothing is left");
    }
}
