//! An agent process that dies at each durable step of a command, and the one that comes after it: the same end state, one
//! effect, one result.
//!
//! The process is this test program itself, started again with a directory in its environment; its members are files
//! there, so that effects outlive it as databases do.

mod plane;

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use plane::{BOUND, Plane, apply, cadence, succeeded};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use windlass_agent::{
    commands::{CommandTarget, Executor, Order, Outbox},
    journal::{FileStorage, Journal},
    link::{
        Enrolment, HostIdentity, Link, LinkCertificates, LinkParts, LoadSource, NoReplication, ReplicationLink,
        TlsDialer, TokenSource, keep_connected,
    },
    members::{Disposal, InstalledEngine},
    sim::SimPlan,
};
use windlass_core::{
    Error, Reason,
    error::ErrorKind,
    id::{CommandId, MemberId},
};
use windlass_kit::failpoint::{self, Failpoints};
use windlass_proto::agent::v1 as pb;

const DIRECTORY: &str = "CRASH_TEST_DIRECTORY";
const ENDPOINT: &str = "CRASH_TEST_ENDPOINT";

/// Members as files: `member-<id>` holds the generation, `runs-<uid>` and `effects-<uid>` a byte for each.
struct FileTarget {
    directory: PathBuf,
    changed: watch::Sender<u64>,
    happenings: broadcast::Sender<pb::Happening>,
}

impl FileTarget {
    fn tick(&self, what: &str, uid: CommandId) {
        let path = self.directory.join(format!("{what}-{uid}"));
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("opens");
        file.write_all(b".").expect("writes");
    }
}

fn ticks(directory: &Path, what: &str, uid: &str) -> usize {
    fs::read(directory.join(format!("{what}-{uid}"))).map_or(0, |bytes| bytes.len())
}

#[async_trait]
impl CommandTarget for FileTarget {
    async fn apply(
        &self,
        order: &Order,
        goal: pb::MemberGoal,
        _cancel: &CancellationToken,
    ) -> Result<pb::MemberFacts, Error> {
        self.tick("runs", order.uid);
        let path = self.directory.join(format!("member-{}", order.member));
        let generation = goal.generation.to_string();
        if fs::read_to_string(&path).ok().as_ref() != Some(&generation) {
            self.tick("effects", order.uid);
            fs::write(path, generation).expect("writes");
        }
        Ok(pb::MemberFacts { generation: goal.generation, ..pb::MemberFacts::default() })
    }

    async fn remove(&self, _order: &Order, _disposal: Disposal) -> Result<pb::MemberFacts, Error> {
        Err(Error::new(ErrorKind::FailedPrecondition, Reason::NotSupported, "not in this test"))
    }

    async fn purge(&self, order: &Order) -> Result<pb::MemberFacts, Error> {
        self.remove(order, Disposal::Purge).await
    }

    async fn apply_object(&self, order: &Order, _object: pb::ApplyObject) -> Result<pb::MemberFacts, Error> {
        self.remove(order, Disposal::Purge).await
    }

    fn facts(&self) -> Vec<pb::MemberFacts> {
        Vec::new()
    }

    fn orphans(&self) -> Vec<String> {
        Vec::new()
    }

    fn engines(&self) -> Vec<InstalledEngine> {
        Vec::new()
    }

    fn happenings(&self) -> broadcast::Receiver<pb::Happening> {
        self.happenings.subscribe()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

struct NoLoad;

impl LoadSource for NoLoad {
    fn sample(&self) -> pb::HostFacts {
        pb::HostFacts::default()
    }
}

/// The agent process. Never returns in order; the test kills it, or a failpoint does.
async fn agent_process(directory: PathBuf, endpoint: String) {
    let failpoints = Failpoints::from_env().expect("failpoints");
    let identity = HostIdentity::load(&directory.join("identity.json")).expect("reads").expect("is there");
    let journal = Journal::open(FileStorage::new(directory.join("journal"))).expect("opens");
    let target =
        Arc::new(FileTarget { directory, changed: watch::Sender::new(0), happenings: broadcast::Sender::new(1) });
    let outbox = Outbox::default();
    let executor = Executor::start(target.clone(), journal, outbox.clone(), failpoints.clone());
    let plan = SimPlan::default();
    let link = Link::new(LinkParts {
        session_id: CommandId::new().to_string(),
        replication: ReplicationLink::new(CommandId::new().to_string(), Arc::new(NoReplication::default())),
        host: plan.host,
        load: Arc::new(NoLoad),
        target,
        executor,
        outbox,
        certificates: LinkCertificates::new(),
        failpoints,
        metadata: MetadataMap::new(),
    });
    let stop = CancellationToken::new();
    keep_connected(&link, &TlsDialer(identity.clone()), &[endpoint], Some(&identity), &plan.pace, &stop).await;
}

/// A child that does not outlive the test.
struct Process(Child);

impl Process {
    fn start(test: &str, directory: &Path, endpoint: &str, failpoints: &str) -> Self {
        let child = Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", test, "--nocapture"])
            .env(DIRECTORY, directory)
            .env(ENDPOINT, endpoint)
            .env(failpoint::ENV, failpoints)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        Self(child)
    }

    async fn died(&mut self) {
        let begun = Instant::now();
        while self.0.try_wait().expect("waits").is_none() {
            assert!(begun.elapsed() < BOUND, "it does not die at its failpoint");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn kill(&mut self) {
        self.0.kill().expect("kills");
        self.0.wait().expect("waits");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_command_has_one_effect_wherever_the_agent_dies() {
    if let (Some(directory), Ok(endpoint)) = (std::env::var_os(DIRECTORY), std::env::var(ENDPOINT)) {
        return Box::pin(agent_process(directory.into(), endpoint)).await;
    }
    let test = "a_command_has_one_effect_wherever_the_agent_dies";
    // How often the command is begun: twice only if the agent dies after it began and before the journal has the result.
    for (failpoint, runs) in [
        ("journal.before_accept", 1),
        ("journal.after_accept", 1),
        ("command.before_effect", 1),
        ("command.after_effect", 2),
        ("journal.after_finish", 1),
        ("report.before", 1),
        ("report.after_ack", 1),
    ] {
        let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
        plane.state().cadence = cadence(200, 100);
        let enrolment = Enrolment {
            identity_path: directory.path().join("identity.json"),
            token: TokenSource::Given(plane.token().into()),
            host_name: "host-1".to_owned(),
        };
        enrolment.attempt(&plane.endpoint).await.expect("enrols");
        let order = apply(MemberId::new(), 7);
        let mut first = Process::start(test, directory.path(), &plane.endpoint, &format!("{failpoint}=abort"));
        plane.wait("the first poll", |s| s.polls.first().map(drop)).await;
        plane.queue(order.clone());
        first.died().await;

        let (polls, results) = {
            let state = plane.state();
            (state.polls.len(), state.results.len())
        };
        let mut second = Process::start(test, directory.path(), &plane.endpoint, "");
        let poll = plane.wait("a poll of the next one", |s| s.polls.get(polls).cloned()).await;
        if !poll.running.contains(&order.uid) && plane.state().results.len() == results {
            plane.queue(pb::Command { attempt: 2, ..order.clone() });
        }
        let result = plane.wait("a result after it", |s| s.results.get(results).cloned()).await;
        assert_eq!(succeeded(&result).generation, 7, "{failpoint}");
        plane.wait("it is acknowledged", |s| s.polls.last().filter(|p| p.running.is_empty()).map(drop)).await;
        second.kill();
        assert_eq!(ticks(directory.path(), "runs", &order.uid), runs, "{failpoint}");
        assert_eq!(ticks(directory.path(), "effects", &order.uid), 1, "{failpoint}");
        let outcomes: Vec<_> = plane.state().results.iter().map(|result| result.outcome.clone()).collect();
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{failpoint}: one result, however often sent");
        let member =
            fs::read_to_string(directory.path().join(format!("member-{}", order.member_id))).expect("is there");
        assert_eq!(member, "7", "{failpoint}");
    }
}
