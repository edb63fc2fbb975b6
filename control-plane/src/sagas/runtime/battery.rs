//! The battery that every saga must pass: all the ways in which it can be interrupted, each from an empty database.
//!
//! No task runs in the background: the saga is advanced transition by transition, and a stand-in for the agents answers
//! the commands, so that each failure hits an exact place and every run is the same.

use std::sync::Arc;

use async_trait::async_trait;
use windlass_core::{
    Error, Reason,
    command::CommandState,
    id::{CommandId, HostId, OperationId},
    operation::{OperationState, StepState},
};
use windlass_db::{
    Db, Guard,
    commands::{ClaimedCommand, CommandReport, Parked},
    operations::OperationRow,
    testing::TestDb,
};
use windlass_kit::failpoint::{Action, Failpoints};
use windlass_proto::agent::v1 as pb;

use super::{
    advance::{Advance, Next},
    cancel::cancel,
    executor::Waker,
    registry::{Registry, unwindable},
    watch::OperationWatch,
};
use crate::{
    ha::{Ha, HaConfig},
    queue::HostWaker,
    routes::Routes,
};

const LEASE: &str = "orchestrator";
/// More transitions than any saga may take.
const MOST: usize = 400;

/// A saga under test.
#[async_trait]
pub trait Subject: Sync {
    /// The sagas that the binary knows.
    fn registry(&self) -> Registry;

    /// What steps hear of replicated instances.
    fn ha(&self, test: &TestDb) -> Ha {
        Ha::new(test.db.clone(), HaConfig::default(), Waker::new(), Routes::new().0)
    }

    /// What goes on beside commands, until nothing changes.
    async fn tick(&self, _test: &TestDb, _guard: &Guard) {}

    /// Makes what the saga needs in an empty database, and starts it.
    async fn begin(&self, test: &TestDb) -> OperationId;

    /// What a healthy agent answers to a command.
    fn answer(&self, command: &ClaimedCommand, body: pb::command::Body) -> pb::MemberFacts;

    /// Asserts what must hold after it succeeded.
    async fn succeeded(&self, db: &TestDb, operation: OperationId);

    /// Asserts what must hold after it was unwound: as if it had never begun.
    async fn unwound(&self, db: &TestDb, operation: OperationId);
}

/// Runs the whole battery.
///
/// # Panics
/// When the saga does not pass, saying at which place.
pub async fn run(subject: &impl Subject) {
    let test = &TestDb::create().await;
    let happy = happy_path(subject, test).await;
    every_transition_twice(subject, test, happy).await;
    for hit in 0..happy.steps {
        failure_at_step(subject, test, hit).await;
    }
    for nth in 0..happy.commands {
        failure_of_command(subject, test, nth).await;
    }
    for commit in 0..happy.commits {
        crash(subject, test, "saga.before_commit", commit, happy).await;
        crash(subject, test, "saga.after_commit", commit, happy).await;
        cancel_after(subject, test, commit).await;
    }
}

/// How long the undisturbed way is.
#[derive(Debug, Clone, Copy)]
struct Length {
    steps: u64,
    commits: u64,
    commands: u64,
}

async fn happy_path(subject: &impl Subject, test: &TestDb) -> Length {
    let mut bench = Bench::new(subject, test, "the happy path").await;
    bench.finish().await;
    bench.expect(Expectation::Success).await;
    let hits = |name| bench.failpoints.hits(name);
    Length {
        steps: hits("saga.step"),
        commits: hits("saga.before_commit"),
        commands: u64::try_from(bench.commands().await).expect("a count"),
    }
}

/// Every transition is thrown away once before it is kept.
async fn every_transition_twice(subject: &impl Subject, test: &TestDb, happy: Length) {
    let mut bench = Bench::new(subject, test, "every step twice").await;
    let mut thrown_away = 0;
    for _ in 0..MOST {
        bench.failpoints.set("saga.before_commit", Action::Error.once());
        thrown_away += u64::from(bench.turn().await.is_err());
        bench.failpoints.set("saga.before_commit", Action::Off.always());
        bench.turn().await.unwrap_or_else(|error| panic!("{}: {error}", bench.what));
        if bench.ended().await {
            break;
        }
    }
    assert!(thrown_away > 0, "{}: nothing was thrown away", bench.what);
    bench.expect(Expectation::Success).await;
    assert_eq!(bench.commands().await.unsigned_abs(), happy.commands, "each command is queued once");
}

async fn failure_at_step(subject: &impl Subject, test: &TestDb, hit: u64) {
    let mut bench = Bench::new(subject, test, &format!("failure at run {hit} of a step")).await;
    bench.failpoints.set("saga.step", Action::Error.after(hit));
    bench.finish().await;
    bench.expect(Expectation::Either).await;
}

async fn failure_of_command(subject: &impl Subject, test: &TestDb, nth: u64) {
    let mut bench = Bench::new(subject, test, &format!("failure of command {nth}")).await;
    bench.fail_command = Some(nth);
    bench.finish().await;
    bench.expect(Expectation::Either).await;
}

/// The owner dies at a commit; another takes over; the old one writes nothing any more.
async fn crash(subject: &impl Subject, test: &TestDb, point: &str, commit: u64, happy: Length) {
    let mut bench = Bench::new(subject, test, &format!("crash at {point} {commit}")).await;
    bench.failpoints.set(point, Action::Error.after(commit));
    let mut crashed = false;
    for _ in 0..MOST {
        match bench.turn().await {
            Ok(()) => {}
            Err(_) => {
                crashed = true;
                break;
            }
        }
        if bench.ended().await {
            break;
        }
    }
    assert!(crashed, "{}: the failpoint was not hit", bench.what);
    let stale = bench.take_over().await;
    if let Err(error) = bench.advance.once(&stale, bench.operation).await {
        assert_eq!(error.reason, Reason::Fenced, "{}: {error}", bench.what);
    } else {
        panic!("{}: the old owner was not refused", bench.what);
    }
    bench.finish().await;
    bench.expect(Expectation::Success).await;
    assert_eq!(bench.commands().await.unsigned_abs(), happy.commands, "{}: each command is queued once", bench.what);
}

async fn cancel_after(subject: &impl Subject, test: &TestDb, turns: u64) {
    let mut bench = Bench::new(subject, test, &format!("cancel after {turns} transitions")).await;
    for _ in 0..turns {
        bench.turn().await.unwrap_or_else(|error| panic!("{}: {error}", bench.what));
    }
    let saga = bench.row().await;
    let steps = bench.advance.registry.steps(&saga.kind, saga.saga_version).expect("known").to_vec();
    let mut tx = bench.test.db.begin().await.expect("begin");
    let accepted = cancel(&mut tx, &bench.advance.registry, bench.operation).await;
    tx.commit().await.expect("commit");
    assert_eq!(accepted.is_ok(), unwindable(&steps, saga.saga_cursor) && !saga.state.done(), "{}", bench.what);
    bench.finish().await;
    bench.expect(if accepted.is_ok() { Expectation::Cancelled } else { Expectation::Success }).await;
}

/// What an end must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expectation {
    Success,
    Cancelled,
    /// Failed and unwound before the pivot, succeeded after it.
    Either,
}

/// One run from an empty database.
struct Bench<'a, S: Subject> {
    subject: &'a S,
    what: String,
    test: &'a TestDb,
    failpoints: Failpoints,
    advance: Advance,
    guard: Guard,
    owner: u32,
    operation: OperationId,
    answered: u64,
    fail_command: Option<u64>,
}

impl<'a, S: Subject> Bench<'a, S> {
    async fn new(subject: &'a S, test: &'a TestDb, what: &str) -> Self {
        test.reset().await;
        let failpoints = Failpoints::armed();
        let (hosts, _) = HostWaker::new();
        let advance = Advance {
            db: test.db.clone(),
            registry: Arc::new(subject.registry()),
            hosts,
            watch: OperationWatch::new(),
            routes: Routes::new().0,
            ha: subject.ha(test),
            failpoints: failpoints.clone(),
        };
        let guard = take_lease(&test.db, 0).await;
        let operation = subject.begin(test).await;
        let what = format!("{what} of {operation}");
        Self { subject, what, test, failpoints, advance, guard, owner: 0, operation, answered: 0, fail_command: None }
    }

    /// Another node takes the lease over. Gives the old proof.
    async fn take_over(&mut self) -> Guard {
        self.test.expire_lease(LEASE).await;
        self.owner += 1;
        let fresh = take_lease(&self.test.db, self.owner).await;
        assert!(fresh.epoch > self.guard.epoch);
        std::mem::replace(&mut self.guard, fresh)
    }

    /// One transition, or what it takes to make one possible.
    async fn turn(&mut self) -> Result<(), Error> {
        match self.advance.once(&self.guard, self.operation).await? {
            Next::Again => Ok(()),
            Next::After(_) => {
                // Waiting may be for a time or for an agent, whichever comes first.
                self.work().await;
                self.subject.tick(self.test, &self.guard).await;
                // Or it was woken by what it waits for.
                let due = self.test.hurry(self.operation).await || self.due().await;
                assert!(due, "{}: it is due later but not stored as such", self.what);
                Ok(())
            }
            Next::Parked if self.ended().await => Ok(()),
            Next::Parked => {
                // A crash right after the commit forgets that it is due later.
                let worked = self.work().await > 0;
                self.subject.tick(self.test, &self.guard).await;
                let due = worked || self.test.hurry(self.operation).await;
                assert!(due, "{}: parked, and no command to carry out", self.what);
                Ok(())
            }
        }
    }

    async fn finish(&mut self) {
        for _ in 0..MOST {
            if self.ended().await {
                return;
            }
            // A failpoint at a commit is the crash of a transition: the next turn finds what is stored.
            let _ = self.turn().await;
        }
        panic!("{}: it does not end: {:?}", self.what, self.row().await);
    }

    /// The agents fetch and carry out what is queued. Gives how many commands.
    async fn work(&mut self) -> usize {
        let db = &self.test.db;
        let hosts = db.hosts_alive().await.expect("hosts");
        let parked: Vec<_> = hosts.iter().map(|host| Parked { host: host.id, room: 8 }).collect();
        let claimed = db.commands_claim(&parked, std::time::Duration::from_secs(60)).await.expect("claim");
        let reports: Vec<_> = claimed.iter().map(|command| self.report(command)).collect();
        self.test.db.commands_report(&reports).await.expect("report");
        reports.len()
    }

    fn report(&mut self, command: &ClaimedCommand) -> CommandReport {
        let nth = self.answered;
        self.answered += 1;
        let (state, result) = if self.fail_command == Some(nth) {
            let failure = pb::Failure {
                reason: Reason::StartFailed.as_str().to_owned(),
                message: "it failed on purpose".to_owned(),
                retryable: false,
            };
            (CommandState::Failed, serde_json::to_value(failure))
        } else {
            let stored: pb::Command = serde_json::from_value(command.args.clone()).expect("a stored command");
            let facts = self.subject.answer(command, stored.body.expect("a body"));
            (CommandState::Succeeded, serde_json::to_value(facts))
        };
        let (uid, host, attempt): (CommandId, HostId, i32) = (command.uid, command.host, command.attempt);
        CommandReport { uid, host, attempt, state, result: result.expect("json") }
    }

    async fn row(&self) -> OperationRow {
        self.test.db.operation_by_id(self.operation).await.expect("the operation")
    }

    async fn due(&self) -> bool {
        self.test.db.sagas_due(&[], 100).await.expect("due").contains(&self.operation)
    }

    async fn ended(&self) -> bool {
        self.row().await.state.done()
    }

    async fn commands(&self) -> i64 {
        self.test.count(&format!("select count(*) from command where saga_id = '{}'", self.operation)).await
    }

    async fn expect(&mut self, expectation: Expectation) {
        let operation = self.row().await;
        let (what, state, error) = (&self.what, operation.state, &operation.error);
        let expected = match expectation {
            Expectation::Success => state == OperationState::Succeeded,
            Expectation::Cancelled => state == OperationState::Cancelled,
            Expectation::Either => matches!(state, OperationState::Succeeded | OperationState::Failed),
        };
        assert!(expected, "{what}: expected {expectation:?}, it is {state}, error {error:?}");
        assert_eq!(error.is_some(), state != OperationState::Succeeded, "{what}: the error tells of the end");
        assert!(operation.end_time.is_some(), "{what}: it has an end time");
        for step in self.test.db.operation_steps(&[self.operation]).await.expect("steps") {
            let ended = match step.state {
                StepState::Done | StepState::Failed | StepState::Undone => true,
                StepState::Running | StepState::Waiting | StepState::Undoing => false,
            };
            assert!(ended, "{what}: step {} is still {}", step.name, step.state);
        }
        // What was cancelled while an agent had it ends as well.
        while self.work().await > 0 {}
        let open = "select count(*) from command where end_time is null";
        assert_eq!(self.test.count(open).await, 0, "{}: no command is left", self.what);
        if state == OperationState::Succeeded {
            self.subject.succeeded(self.test, self.operation).await;
        } else {
            self.subject.unwound(self.test, self.operation).await;
        }
    }
}

async fn take_lease(db: &Db, owner: u32) -> Guard {
    let ttl = std::time::Duration::from_secs(60);
    db.lease_acquire(LEASE, &format!("node-{owner}"), ttl).await.expect("lease").expect("the lease is free")
}
