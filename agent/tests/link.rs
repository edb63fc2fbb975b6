//! The link against a control plane over real TLS: enrolment, renewal, refusal, drain, reconnects, and what they must
//! not do to commands.

mod plane;

use std::{path::Path, sync::Arc, time::Duration};

use plane::{Acknowledge, BOUND, Ca, Plane, Revoked, apply, cadence, command, failed, succeeded};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use windlass_agent::{
    commands::{CommandTarget as _, Executor, Outbox},
    journal::{Journal, MemoryStorage},
    link::{
        Enrolment, HostIdentity, Link, LinkCertificates, LinkParts, LinkStatus, LoadSource, NoReplication,
        ReplicationLink, TokenSource, host_identity,
    },
    sim::{FakeTarget, SimAgent, SimConnection, SimPlan, Times},
};
use windlass_core::{
    Error, Reason,
    command::CommandKind,
    engine::Engine,
    error::ErrorKind,
    id::{CommandId, MemberId},
    parameter::Catalogue,
};
use windlass_kit::failpoint::{Action, Failpoints};
use windlass_proto::agent::v1::{self as pb, command::Body, command_result::Outcome};

fn enrolment(directory: &Path, token: TokenSource) -> Enrolment {
    Enrolment { identity_path: directory.join("identity.json"), token, host_name: "host-1".to_owned() }
}

/// An agent that enrolled at the plane and is connected.
async fn agent_of(plane: &Plane, directory: &Path, plan: SimPlan) -> SimAgent {
    let agent = enrolled(plane, &[&plane.endpoint], directory, plan).await;
    connected(&agent).await;
    agent
}

async fn enrolled(plane: &Plane, endpoints: &[&str], directory: &Path, plan: SimPlan) -> SimAgent {
    let enrolment = enrolment(directory, TokenSource::Given(plane.token().into()));
    let identity = enrolment.attempt(&plane.endpoint).await.expect("enrols");
    let endpoints = endpoints.iter().map(ToString::to_string).collect();
    let mut agent = SimAgent::new(SimConnection::Enrolled { endpoints, identity }, plan);
    agent.start().expect("starts");
    agent
}

async fn connected(agent: &SimAgent) {
    timeout(BOUND, agent.connected()).await.expect("connects");
}

/// A link without a connection.
fn idle_link() -> Link {
    struct NoLoad;
    impl LoadSource for NoLoad {
        fn sample(&self) -> pb::HostFacts {
            pb::HostFacts::default()
        }
    }
    let (plan, outbox) = (SimPlan::default(), Outbox::default());
    let target = FakeTarget::new(plan.engines);
    let journal = Journal::open(MemoryStorage::default()).expect("opens");
    let executor = Executor::start(target.clone(), journal, outbox.clone(), Failpoints::none());
    Link::new(LinkParts {
        session_id: "session".to_owned(),
        replication: ReplicationLink::new("session".to_owned(), Arc::new(NoReplication::default())),
        host: plan.host,
        load: Arc::new(NoLoad),
        target,
        executor,
        outbox,
        certificates: LinkCertificates::new(),
        failpoints: Failpoints::none(),
        metadata: MetadataMap::new(),
    })
}

fn uid(command: &pb::Command) -> CommandId {
    command.uid.parse().expect("uid")
}

#[tokio::test]
async fn a_host_enrols_once_and_never_uses_its_token_again() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    let enrolment = enrolment(directory.path(), TokenSource::Given(plane.token().into()));
    assert!(enrolment.existing().expect("none yet").is_none());
    let identity = enrolment.attempt(&plane.endpoint).await.expect("enrols");
    assert_eq!(identity.host_name(), "host-1");
    let file = directory.path().join("identity.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).expect("file").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let again = enrolment.existing().expect("reads").expect("is there");
    assert_eq!(again.host_id(), identity.host_id());
    assert!(!directory.path().join("enrolling.json").exists(), "the pending key is gone");
    assert_eq!(plane.state().enrolments.len(), 1);
}

#[tokio::test]
async fn a_lost_answer_to_an_enrolment_is_made_good_with_the_same_key() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    plane.state().lose_answers = 1;
    let enrolment = enrolment(directory.path(), TokenSource::Given(plane.token().into()));
    let error = enrolment.attempt(&plane.endpoint).await.expect_err("the answer is lost");
    assert_eq!(error.kind, ErrorKind::Unavailable);
    enrolment.attempt(&plane.endpoint).await.expect("the second time");
    let state = plane.state();
    assert_eq!(state.enrolments[0].csr_der, state.enrolments[1].csr_der);
}

#[tokio::test]
async fn bad_tokens_are_refused_clearly_and_never_reach_a_stranger() {
    let (plane, other) = (Plane::start().await, Plane::start().await);
    let directory = tempfile::tempdir().expect("directory");
    let attempt = async |token: TokenSource, endpoint: &str| {
        enrolment(directory.path(), token).attempt(endpoint).await.map(drop).expect_err("refused")
    };
    let error = attempt(TokenSource::Given("rubbish".into()), &plane.endpoint).await;
    assert_eq!(error.violations[0].field, "token", "{error}");
    let error = attempt(TokenSource::Absent, &plane.endpoint).await;
    assert_eq!(error.violations[0].field, "join_token_file", "{error}");
    let expired = plane.token();
    plane.state().tokens.clear();
    let error = attempt(TokenSource::Given(expired.clone().into()), &plane.endpoint).await;
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    assert!(error.message.contains("expired"), "{error}");
    let error = attempt(TokenSource::Given(expired.into()), &other.endpoint).await;
    assert_eq!(error.reason, Reason::ServerCertificateInvalid, "{error}");
    assert!(other.state().enrolments.is_empty(), "the token was not sent to a server without the pinned CA");
}

#[tokio::test]
async fn a_damaged_or_readable_identity_is_named_with_the_remedy() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("identity.json");
    let write = |text: &str, access| windlass_kit::files::replace(&path, text.as_bytes(), access).expect("written");
    write("{\"host_id\": 3", windlass_kit::files::Access::Private);
    let error = HostIdentity::load(&path).map(drop).expect_err("damaged");
    assert!(error.message.contains("damaged") && error.message.contains("enrol this host again"), "{error}");
    write("{}", windlass_kit::files::Access::Public);
    let error = HostIdentity::load(&path).map(drop).expect_err("others may read it");
    assert!(error.message.contains("chmod 600"), "{error}");
}

#[tokio::test]
async fn a_certificate_is_renewed_at_half_life_while_a_command_runs() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    plane.state().certificate_life = 6;
    plane.state().cadence = cadence(200, 300);
    let agent = agent_of(&plane, directory.path(), SimPlan::default()).await;
    agent.target().pause();
    let order = apply(MemberId::new(), 1);
    plane.queue(order.clone());
    plane.state().certificate_life = 3600;
    let leaves = plane.wait("a hello with a new certificate", |s| (s.leaves.len() > 1).then(|| s.leaves.clone())).await;
    assert_ne!(leaves[0], leaves[1]);
    assert_eq!(plane.state().renewals, 1);
    let running = plane.wait("a poll after it", |s| s.polls.last().map(|poll| poll.running.clone())).await;
    assert_eq!(running, std::slice::from_ref(&order.uid), "the command was not disturbed");
    agent.target().resume();
    succeeded(&plane.result(&order.uid).await);
    assert_eq!(agent.target().runs(uid(&order)), 1);
    let stored = HostIdentity::load(&directory.path().join("identity.json")).expect("reads").expect("is there");
    assert_eq!(&*stored.store().current().chain()[0], &leaves[1][..], "the new one is on disk");
}

#[tokio::test]
async fn a_revoked_host_keeps_its_databases_and_asks_again_slowly() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    let agent = agent_of(&plane, directory.path(), SimPlan::default()).await;
    let order = apply(MemberId::new(), 1);
    plane.queue(order.clone());
    succeeded(&plane.result(&order.uid).await);
    plane.state().revoked = Revoked::Yes;
    plane.queue(apply(MemberId::new(), 1));
    let refused = async {
        while !matches!(agent.status(), Some(LinkStatus::Refused { .. })) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(BOUND, refused).await.expect("is told");
    assert_eq!(agent.target().facts()[0].process(), pb::member_facts::Process::Running);
    let begun = std::time::Instant::now();
    plane.state().revoked = Revoked::No;
    connected(&agent).await;
    assert!(begun.elapsed() >= Duration::from_millis(300), "it waited as told for refusals: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_draining_node_is_left_for_another_without_disturbing_commands() {
    let ca = Ca::new();
    let (first, second) = (Plane::start_with(ca.clone()).await, Plane::start_with(ca).await);
    let directory = tempfile::tempdir().expect("directory");
    let agent = enrolled(&first, &[&first.endpoint, &second.endpoint], directory.path(), SimPlan::default()).await;
    connected(&agent).await;
    let (here, there) = if first.state().hellos.is_empty() { (&second, &first) } else { (&first, &second) };
    agent.target().pause();
    let order = apply(MemberId::new(), 1);
    here.queue(order.clone());
    here.wait("the command is running", |s| s.polls.last().filter(|poll| !poll.running.is_empty()).map(drop)).await;
    here.state().cadence.drain = true;
    here.cancel("wakes the poll");
    let poll = there.wait("a poll at the other node", |s| s.polls.first().cloned()).await;
    assert_eq!(poll.running, std::slice::from_ref(&order.uid));
    agent.target().resume();
    succeeded(&there.result(&order.uid).await);
    assert_eq!(agent.target().runs(uid(&order)), 1);
}

#[tokio::test]
async fn an_agent_outlives_its_control_plane_and_reports_what_it_did_meanwhile() {
    let (mut plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    let agent = agent_of(&plane, directory.path(), SimPlan::default()).await;
    agent.target().pause();
    let order = apply(MemberId::new(), 1);
    plane.queue(order.clone());
    plane.wait("the command is running", |s| s.polls.last().filter(|poll| !poll.running.is_empty()).map(drop)).await;
    plane.down();
    agent.target().resume();
    agent.target().happen("member.crashed", "m", "while nobody listened");
    let (beats, session) = {
        let state = plane.state();
        (state.heartbeats.len(), state.hellos[0].session_id.clone())
    };
    plane.up().await;
    succeeded(&plane.result(&order.uid).await);
    let beat = plane.wait("a heartbeat after it", |s| s.heartbeats.get(beats).cloned()).await;
    assert_eq!(beat.session_id, session, "a reconnect is no new session");
    assert_eq!(beat.happenings[0].kind, "member.crashed");
    assert_eq!(agent.target().runs(uid(&order)), 1);
}

#[tokio::test]
async fn happenings_are_sent_again_until_they_are_stored() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    plane.state().happenings_stored = Some(0);
    let agent = agent_of(&plane, directory.path(), SimPlan::default()).await;
    agent.target().happen("config.repaired", "m", "put right");
    let sent = |s: &mut plane::State| {
        let with: Vec<_> = s.heartbeats.iter().filter(|beat| !beat.happenings.is_empty()).cloned().collect();
        (with.len() >= 2).then_some(with)
    };
    let twice = plane.wait("the same happening twice", sent).await;
    assert_eq!(twice[0].happenings, twice[1].happenings);
    assert!(twice[0].sequence < twice[1].sequence, "each heartbeat has a number of its own");
    plane.state().happenings_stored = Some(1);
    plane
        .wait("a heartbeat without it", |s| s.heartbeats.last().filter(|beat| beat.happenings.is_empty()).map(drop))
        .await;
}

#[tokio::test]
async fn facts_that_change_are_told_before_the_next_heartbeat_is_due() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    plane.state().cadence = cadence(600_000, 1000);
    let _agent = agent_of(&plane, directory.path(), SimPlan::default()).await;
    plane.wait("the heartbeat of a fresh connection", |s| s.heartbeats.first().map(drop)).await;
    let order = apply(MemberId::new(), 1);
    plane.queue(order.clone());
    let told = |s: &mut plane::State| s.heartbeats.iter().flat_map(|beat| &beat.members).next().cloned();
    assert_eq!(plane.wait("a heartbeat with the member", told).await.member_id, order.member_id);
}

#[tokio::test]
async fn a_command_delivered_many_times_has_one_effect_and_the_same_result() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    plane.state().acknowledge = Acknowledge::Attempt(9);
    let mut agent = agent_of(&plane, directory.path(), SimPlan::default()).await;
    let order = apply(MemberId::new(), 1);
    for attempt in [1, 1, 2] {
        plane.queue(pb::Command { attempt, ..order.clone() });
    }
    plane.wait("a result of attempt 2", |s| s.results.iter().find(|r| r.attempt == 2).map(drop)).await;
    plane
        .wait("a refused result is not said to run", |s| s.polls.last().filter(|p| p.running.is_empty()).map(drop))
        .await;
    agent.restart().await.expect("restarts");
    connected(&agent).await;
    let polls = plane.state().polls.len();
    plane.wait("a poll of the new session", |s| (s.polls.len() > polls).then_some(())).await;
    plane.queue(pb::Command { attempt: 9, ..order.clone() });
    let last = plane.wait("a result of attempt 9", |s| s.results.iter().find(|r| r.attempt == 9).cloned()).await;
    assert_eq!(last.outcome, plane.state().results[0].outcome, "the stored result, word for word");
    assert_eq!((agent.target().runs(uid(&order)), agent.target().effects(uid(&order))), (1, 1));
}

#[tokio::test]
async fn an_old_epoch_is_fenced_off() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    let agent = agent_of(&plane, directory.path(), SimPlan::default()).await;
    let member = MemberId::new();
    let (new, old) = (pb::Command { epoch: 7, ..apply(member, 2) }, pb::Command { epoch: 6, ..apply(member, 3) });
    plane.queue(new.clone());
    succeeded(&plane.result(&new.uid).await);
    plane.queue(old.clone());
    assert_eq!(failed(&plane.result(&old.uid).await).reason, "FENCED");
    assert_eq!(agent.target().facts()[0].generation, 2);
}

#[tokio::test]
async fn commands_of_one_member_keep_their_order_and_cancels_reach_both_waiting_and_running_ones() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    let agent = agent_of(&plane, directory.path(), SimPlan::default()).await;
    agent.target().pause();
    let (member, other) = (MemberId::new(), MemberId::new());
    let (running, waiting, last) = (apply(member, 1), apply(member, 2), apply(member, 3));
    let elsewhere = apply(other, 1);
    for order in [&running, &waiting, &last, &elsewhere] {
        plane.queue(order.clone());
    }
    plane.wait("all four are there", |s| s.polls.last().filter(|poll| poll.running.len() == 4).map(drop)).await;
    assert_eq!(agent.target().runs(uid(&waiting)), 0, "it waits for the one before");
    plane.cancel(&waiting.uid);
    plane.cancel(&running.uid);
    for order in [&running, &waiting] {
        assert_eq!(plane.result(&order.uid).await.outcome, Some(Outcome::Cancelled(true)));
    }
    assert_eq!(agent.target().runs(uid(&waiting)), 0, "it never began");
    agent.target().resume();
    assert_eq!(succeeded(&plane.result(&last.uid).await).generation, 3);
    succeeded(&plane.result(&elsewhere.uid).await);
    assert_eq!(agent.target().count(), (2, 0));
}

#[tokio::test]
async fn a_command_out_of_time_fails_and_frees_its_member() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    let agent = agent_of(&plane, directory.path(), SimPlan::default()).await;
    agent.target().pause();
    let member = MemberId::new();
    let timeout = Some(pbjson_types::Duration { seconds: 0, nanos: 100_000_000 });
    let late = pb::Command { timeout, ..apply(member, 1) };
    plane.queue(late.clone());
    assert_eq!(failed(&plane.result(&late.uid).await).reason, "DEADLINE_EXCEEDED");
    agent.target().resume();
    let next = apply(member, 2);
    plane.queue(next.clone());
    succeeded(&plane.result(&next.uid).await);
}

#[tokio::test]
async fn garbage_is_answered_with_a_reason_and_harms_nothing() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    let agent = agent_of(&plane, directory.path(), SimPlan::default()).await;
    let member = MemberId::new();
    let good = apply(member, 1);
    let foreign_goal = pb::Command { member_id: MemberId::new().to_string(), ..apply(member, 1) };
    let object = command(member, Body::ApplyObject(pb::ApplyObject { kind: 77, ..Default::default() }));
    for (bad, reason) in [
        (pb::Command { body: None, ..apply(member, 1) }, "NOT_SUPPORTED"),
        (pb::Command { member_id: "../../etc/passwd".to_owned(), ..apply(member, 1) }, "INVALID_FIELD"),
        (pb::Command { instance_id: String::new(), ..apply(member, 1) }, "INVALID_FIELD"),
        (foreign_goal, "INVALID_FIELD"),
        (command(member, Body::ApplyMember(pb::ApplyMember { goal: None })), "INVALID_FIELD"),
        (object, "INVALID_FIELD"),
    ] {
        plane.queue(bad.clone());
        assert_eq!(failed(&plane.result(&bad.uid).await).reason, reason, "{bad:?}");
    }
    plane.queue(pb::Command { uid: "\u{0}not a uuid".repeat(1000), ..apply(member, 1) });
    plane.queue(pb::Command { uid: String::new(), ..apply(member, 1) });
    plane.cancel("nobody knows this one");
    plane.queue(good.clone());
    succeeded(&plane.result(&good.uid).await);
    assert_eq!(agent.target().count(), (1, 0));
}

#[tokio::test]
async fn failures_and_full_disks_are_reported_with_their_reason() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    let agent = agent_of(&plane, directory.path(), SimPlan::default()).await;
    let error = Error::new(ErrorKind::ResourceExhausted, Reason::DiskFull, "no room on this host");
    agent.target().fail(CommandKind::ApplyMember, Times::Nth(2), error);
    let orders: Vec<_> = (0..3).map(|_| apply(MemberId::new(), 1)).collect();
    for order in &orders {
        plane.queue(order.clone());
        plane.result(&order.uid).await;
    }
    let failure = failed(&plane.result(&orders[1].uid).await);
    assert_eq!((failure.reason.as_str(), failure.message.as_str()), ("DISK_FULL", "no room on this host"));
    succeeded(&plane.result(&orders[2].uid).await);

    agent.disk().limit(Some(10));
    let refused = apply(MemberId::new(), 1);
    plane.queue(refused.clone());
    let failure = failed(&plane.result(&refused.uid).await);
    assert_eq!(failure.reason, "DISK_FULL");
    assert!(failure.message.contains("journal") && failure.message.contains("free room"), "{}", failure.message);
    agent.disk().limit(None);
    let accepted = apply(MemberId::new(), 1);
    plane.queue(accepted.clone());
    succeeded(&plane.result(&accepted.uid).await);
}

#[tokio::test]
async fn a_report_whose_answer_was_lost_is_sent_again() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    let failpoints = Failpoints::armed();
    failpoints.set("report.after_ack", Action::Error.once());
    let agent =
        agent_of(&plane, directory.path(), SimPlan { failpoints: failpoints.clone(), ..SimPlan::default() }).await;
    let order = apply(MemberId::new(), 1);
    plane.queue(order.clone());
    let results = plane.wait("the result twice", |s| (s.results.len() >= 2).then(|| s.results.clone())).await;
    assert_eq!(results[0], results[1]);
    assert_eq!(agent.target().effects(uid(&order)), 1);
}

#[tokio::test]
async fn a_killed_agent_carries_out_again_what_it_had_accepted() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    let mut agent = agent_of(&plane, directory.path(), SimPlan::default()).await;
    agent.target().pause();
    let order = apply(MemberId::new(), 1);
    plane.queue(order.clone());
    plane.wait("the command is running", |s| s.polls.last().filter(|poll| !poll.running.is_empty()).map(drop)).await;
    agent.restart().await.expect("restarts");
    agent.target().resume();
    succeeded(&plane.result(&order.uid).await);
    assert_eq!((agent.target().runs(uid(&order)), agent.target().effects(uid(&order))), (2, 1));
    let sessions: Vec<_> = plane.state().hellos.iter().map(|hello| hello.session_id.clone()).collect();
    assert_ne!(sessions.first(), sessions.last(), "each start is a session of its own");
}

#[tokio::test]
async fn a_delivery_is_taken_to_its_end_although_its_connection_breaks() {
    let (mut plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    let failpoints = Failpoints::armed();
    failpoints.set("journal.after_accept", Action::Pause.always());
    let agent =
        agent_of(&plane, directory.path(), SimPlan { failpoints: failpoints.clone(), ..SimPlan::default() }).await;
    let order = apply(MemberId::new(), 1);
    plane.queue(order.clone());
    timeout(BOUND, failpoints.paused("journal.after_accept")).await.expect("is accepted");
    plane.down();
    let lost = async {
        while matches!(agent.status(), Some(LinkStatus::Connected { .. })) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(BOUND, lost).await.expect("notices");
    failpoints.set("journal.after_accept", Action::Off.always());
    plane.up().await;
    succeeded(&plane.result(&order.uid).await);
    assert_eq!(agent.target().runs(uid(&order)), 1);
}

#[tokio::test]
async fn a_command_that_outlives_too_many_agents_is_given_up() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    let mut agent = agent_of(&plane, directory.path(), SimPlan::default()).await;
    agent.target().pause();
    let order = apply(MemberId::new(), 1);
    plane.queue(order.clone());
    plane.wait("the command is running", |s| s.polls.last().filter(|poll| !poll.running.is_empty()).map(drop)).await;
    for _ in 0..windlass_core::command::MAX_ATTEMPTS {
        agent.restart().await.expect("restarts");
    }
    agent.restart().await.expect("restarts");
    assert_eq!(failed(&plane.result(&order.uid).await).reason, "COMMAND_POISONED");
    let next = apply(MemberId::new(), 1);
    agent.target().resume();
    plane.queue(next.clone());
    succeeded(&plane.result(&next.uid).await);
}

#[tokio::test]
async fn an_agent_that_is_stopped_lets_commands_end_and_reports_them() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    let mut agent = agent_of(&plane, directory.path(), SimPlan::default()).await;
    agent.target().set_latency(Duration::from_millis(300));
    let order = apply(MemberId::new(), 1);
    plane.queue(order.clone());
    plane.wait("the command is running", |s| s.polls.last().filter(|poll| !poll.running.is_empty()).map(drop)).await;
    timeout(Duration::from_secs(5), agent.stop()).await.expect("stops in time");
    assert_eq!(plane.state().results.len(), 1);
    assert_eq!(agent.status(), None);
}

#[tokio::test]
async fn catalogues_are_handed_over_when_they_are_wanted() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    let mut plan = SimPlan::default();
    let catalogue = Catalogue::default();
    let json = serde_json::to_string(&catalogue).expect("JSON");
    plan.engines[0].catalogue = Some(catalogue);
    let digest = hex::encode(windlass_kit::token::digest(json.as_bytes()));
    plane.state().wanted_catalogues = vec![digest.clone(), "unknown".to_owned()];
    let _agent = agent_of(&plane, directory.path(), plan).await;
    let state = plane.state();
    assert_eq!(state.hellos[0].engines[0].engine, Engine::Postgres.as_str());
    assert_eq!(
        (&state.hellos[0].engines[0].catalogue_digest, &*state.hellos[0].engines[1].catalogue_digest),
        (&digest, "")
    );
    assert_eq!(state.catalogues.len(), 1);
    assert_eq!((&state.catalogues[0].catalogue_json, &state.catalogues[0].digest), (&json, &digest));
}

#[tokio::test]
async fn engines_that_become_known_later_are_told_by_another_hello() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    plane.state().cadence = cadence(600_000, 600_000);
    let agent = agent_of(&plane, directory.path(), SimPlan::default()).await;
    for expected in 2..5 {
        plane.wait("a heartbeat", |s| (s.heartbeats.len() + 1 >= expected).then_some(())).await;
        let mut engines = SimPlan::default().engines;
        engines[0].catalogue = (expected != 3).then(Catalogue::default);
        agent.target().set_engines(engines);
        plane.wait("another hello", |s| (s.hellos.len() == expected).then_some(())).await;
    }
    let hellos = plane.state().hellos.clone();
    assert!(hellos.iter().all(|hello| hello.session_id == hellos[0].session_id), "in the same session");
}

#[tokio::test]
async fn nobody_answers_at_the_first_address_and_the_next_one_is_taken() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    let agent = enrolled(&plane, &["https://127.0.0.1:1", &plane.endpoint], directory.path(), SimPlan::default()).await;
    connected(&agent).await;
    assert_eq!(agent.status(), Some(LinkStatus::Connected { endpoint: plane.endpoint.clone() }));
}

#[tokio::test]
async fn enrolling_goes_on_until_there_is_a_good_token() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    let token_file = directory.path().join("token");
    std::fs::write(&token_file, "rubbish").expect("written");
    let enrolment = enrolment(directory.path(), TokenSource::File(token_file.clone()));
    let link = idle_link();
    let mut status = link.status();
    let (stop, pace, endpoints) = (CancellationToken::new(), SimPlan::default().pace, [plane.endpoint.clone()]);
    let enrolled = host_identity(&link, &enrolment, &endpoints, &pace, &stop);
    let helped = async {
        let told = status.wait_for(|s| matches!(s, LinkStatus::Enrolling { problem } if problem.contains("wlj_")));
        told.await.expect("is told");
        std::fs::write(&token_file, plane.token()).expect("written");
    };
    let (identity, ()) = timeout(BOUND, Box::pin(async { tokio::join!(enrolled, helped) })).await.expect("in time");
    assert_eq!(identity.expect("enrolled").host_name(), "host-1");
}
