//! The runtime on a demo saga: reserve (undoable), look (harmless), build by two commands (undoable by one), publish
//! (pivot), tidy up by a command (forward).

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use windlass_core::{
    Error, Reason,
    command::CommandState,
    id::{HostId, OperationId},
    operation::{OperationKind, OperationState},
};
use windlass_db::{
    Db,
    commands::{ClaimedCommand, CommandReport, Parked},
    testing::TestDb,
};
use windlass_kit::failpoint::Failpoints;
use windlass_proto::agent::v1 as pb;

use super::{
    advance::{Advance, Next},
    battery::{self, Subject},
    command::{CommandOutcome, NewCommand},
    context::StepContext,
    executor::{Executor, Tuning, Waker},
    registry::Registry,
    saga::{Outcome, Progress, Saga, Step, StepFuture},
    start::{Request, start},
    watch::{OperationWatch, Until},
};
use crate::{
    ha::{Ha, HaConfig},
    lease::{Keeper, LeaseConfig},
    queue::HostWaker,
    routes::Routes,
};

#[derive(Debug, Serialize, Deserialize)]
struct Demo {
    host: HostId,
    reserved: bool,
    trouble: Trouble,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Trouble {
    Nothing,
    /// The step after the pivot fails so often.
    Tidy(i32),
    /// A step before the pivot fails so often, in a way that may pass.
    Passing(i32),
    /// A step panics.
    Panic,
    /// A step waits for nothing.
    WaitsForNothing,
}

impl Saga for Demo {
    const KIND: OperationKind = OperationKind::InstanceCreate;
    const VERSION: i32 = 1;
    type Data = Self;

    fn steps() -> Vec<Step<Self>> {
        vec![
            Step::undoable("reserve", "Reserving", reserve, release),
            Step::harmless("look", "Looking around", "it only reads", look),
            Step::undoable("build", "Building", build, demolish),
            Step::pivot("publish", "Publishing", publish),
            Step::forward("tidy", "Tidying up", tidy),
        ]
    }

    fn finish<'a>(ctx: &'a mut StepContext, _: &'a Self, outcome: &'a Outcome) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let word = match outcome {
                Outcome::Succeeded => "succeeded",
                Outcome::Failed(_) => "failed",
                Outcome::Cancelled => "cancelled",
            };
            note(ctx, "finish", word).await
        })
    }
}

/// The demo's effects are events, so that they can be counted.
async fn note(ctx: &mut StepContext, what: &str, value: &str) -> Result<(), Error> {
    let event = windlass_db::events::NewEvent::info(&format!("demo.{what}"), "demo", value);
    ctx.event(event).await
}

fn reserve<'a>(ctx: &'a mut StepContext, data: &'a mut Demo) -> StepFuture<'a> {
    Box::pin(async move {
        note(ctx, "reserved", "+1").await?;
        data.reserved = true;
        Progress::done("one place")
    })
}

fn release<'a>(ctx: &'a mut StepContext, data: &'a mut Demo) -> StepFuture<'a> {
    Box::pin(async move {
        if data.reserved {
            note(ctx, "released", "-1").await?;
            data.reserved = false;
        }
        Progress::done("")
    })
}

fn look<'a>(ctx: &'a mut StepContext, data: &'a mut Demo) -> StepFuture<'a> {
    Box::pin(async move {
        match data.trouble {
            Trouble::Passing(times) if ctx.attempt() < times => Err(Error::unavailable("not now")),
            Trouble::Panic => panic!("on purpose"),
            Trouble::WaitsForNothing => Progress::wait("for nothing"),
            Trouble::Nothing | Trouble::Tidy(_) | Trouble::Passing(_) => Progress::done("nothing to see"),
        }
    })
}

fn order(host: HostId) -> NewCommand {
    NewCommand {
        host,
        member: None,
        instance: None,
        generation: 1,
        body: pb::command::Body::PurgeMember(pb::PurgeMember {}),
        timeout: jiff::SignedDuration::from_secs(10),
        expire: None,
    }
}

async fn all(ctx: &mut StepContext, host: HostId, keys: &[&str]) -> Result<Progress, Error> {
    let mut waiting = 0;
    for key in keys {
        match ctx.command(key, order(host)).await? {
            CommandOutcome::Pending => waiting += 1,
            CommandOutcome::Succeeded(_) => {}
            CommandOutcome::Failed(error) => return Err(error),
        }
    }
    if waiting == 0 { Progress::done("all done") } else { Progress::wait(format!("for {waiting} commands")) }
}

fn build<'a>(ctx: &'a mut StepContext, data: &'a mut Demo) -> StepFuture<'a> {
    Box::pin(all(ctx, data.host, &["left", "right"]))
}

fn demolish<'a>(ctx: &'a mut StepContext, data: &'a mut Demo) -> StepFuture<'a> {
    Box::pin(all(ctx, data.host, &["demolish"]))
}

fn publish<'a>(ctx: &'a mut StepContext, _: &'a mut Demo) -> StepFuture<'a> {
    Box::pin(async move {
        note(ctx, "published", "").await?;
        Progress::done("")
    })
}

fn tidy<'a>(ctx: &'a mut StepContext, data: &'a mut Demo) -> StepFuture<'a> {
    Box::pin(async move {
        match data.trouble {
            Trouble::Tidy(times) if ctx.attempt() < times => return Err(Error::internal("not yet")),
            Trouble::Nothing | Trouble::Tidy(_) | Trouble::Passing(_) | Trouble::Panic | Trouble::WaitsForNothing => {}
        }
        all(ctx, data.host, &["tidy"]).await
    })
}

struct DemoSubject;

async fn begin(test: &TestDb, trouble: Trouble) -> OperationId {
    let host = HostId::new();
    test.execute(&format!("insert into host (id, name, state) values ('{host}', '{host}', 'ONLINE')")).await;
    let mut tx = test.db.begin().await.expect("begin");
    let data = Demo { host, reserved: false, trouble };
    let request = Request { project: None, instance: None, target: "demo".into(), actor: "test".into() };
    let id = start::<Demo>(&mut tx, request, &data).await.expect("start");
    tx.commit().await.expect("commit");
    id
}

async fn events(test: &TestDb, kind: &str) -> i64 {
    test.count(&format!("select count(*) from event where kind = '{kind}'")).await
}

#[async_trait::async_trait]
impl Subject for DemoSubject {
    fn registry(&self) -> Registry {
        Registry::new().with::<Demo>()
    }

    async fn begin(&self, test: &TestDb) -> OperationId {
        begin(test, Trouble::Nothing).await
    }

    fn answer(&self, _: &ClaimedCommand, _: pb::command::Body) -> pb::MemberFacts {
        pb::MemberFacts::default()
    }

    async fn succeeded(&self, test: &TestDb, _: OperationId) {
        for kind in ["demo.reserved", "demo.published", "demo.finish"] {
            assert_eq!(events(test, kind).await, 1, "{kind} once");
        }
        assert_eq!(events(test, "demo.released").await, 0);
    }

    async fn unwound(&self, test: &TestDb, _: OperationId) {
        assert_eq!(events(test, "demo.reserved").await, events(test, "demo.released").await, "given back");
        assert_eq!(events(test, "demo.published").await, 0);
        assert_eq!(events(test, "demo.finish").await, 1);
    }
}

#[tokio::test]
async fn the_demo_saga_passes_the_battery() {
    battery::run(&DemoSubject).await;
}

/// A node with one saga, advanced by hand.
struct Node {
    test: TestDb,
    advance: Advance,
    guard: windlass_db::Guard,
    operation: OperationId,
}

impl Node {
    async fn new(trouble: Trouble, registry: Registry) -> Self {
        let test = TestDb::create().await;
        let advance = advance(&test, registry);
        let ttl = Duration::from_secs(60);
        let guard = test.db.lease_acquire("orchestrator", "node", ttl).await.expect("lease").expect("free");
        let operation = begin(&test, trouble).await;
        Self { test, advance, guard, operation }
    }

    async fn once(&self) -> Next {
        self.advance.once(&self.guard, self.operation).await.expect("a transition")
    }

    /// Goes on until nothing but an agent can help, without waiting for times.
    async fn go(&self) {
        for _ in 0..100 {
            match self.once().await {
                Next::Again => {}
                Next::After(_) => assert!(self.test.hurry(self.operation).await),
                Next::Parked => return,
            }
        }
        panic!("it does not come to rest");
    }

    async fn state(&self) -> OperationState {
        self.test.db.operation_by_id(self.operation).await.expect("operation").state
    }
}

fn advance(test: &TestDb, registry: Registry) -> Advance {
    let (hosts, _) = HostWaker::new();
    Advance {
        db: test.db.clone(),
        registry: Arc::new(registry),
        hosts,
        watch: OperationWatch::new(),
        routes: Routes::new().0,
        ha: Ha::new(test.db.clone(), HaConfig::default(), Waker::new(), Routes::new().0),
        failpoints: Failpoints::none(),
    }
}

/// The agents of all hosts carry out what is queued, in the given way.
async fn agents(db: &Db, state: CommandState, result: serde_json::Value) -> usize {
    let parked: Vec<_> =
        db.hosts_alive().await.expect("hosts").iter().map(|h| Parked { host: h.id, room: 8 }).collect();
    let claimed = db.commands_claim(&parked, Duration::from_secs(60)).await.expect("claim");
    let reports: Vec<_> = claimed
        .iter()
        .map(|c| CommandReport { uid: c.uid, host: c.host, attempt: c.attempt, state, result: result.clone() })
        .collect();
    db.commands_report(&reports).await.expect("report");
    reports.len()
}

fn facts() -> serde_json::Value {
    serde_json::to_value(pb::MemberFacts::default()).expect("json")
}

fn demo() -> Registry {
    Registry::new().with::<Demo>()
}

#[tokio::test]
async fn after_the_pivot_a_step_is_retried_until_it_succeeds_and_somebody_is_told() {
    let node = Node::new(Trouble::Tidy(7), demo()).await;
    node.go().await;
    assert_eq!(agents(&node.test.db, CommandState::Succeeded, facts()).await, 2);
    node.go().await;
    assert_eq!(events(&node.test, "operation.stalled").await, 1);
    assert_eq!(node.state().await, OperationState::Running);
    assert_eq!(agents(&node.test.db, CommandState::Succeeded, facts()).await, 1);
    node.go().await;
    assert_eq!(node.state().await, OperationState::Succeeded);
}

#[tokio::test]
async fn trouble_that_passes_is_waited_for_and_trouble_that_does_not_unwinds() {
    let node = Node::new(Trouble::Passing(3), demo()).await;
    node.go().await;
    assert_eq!(agents(&node.test.db, CommandState::Succeeded, facts()).await, 2, "it came to the next step");

    for trouble in [Trouble::Passing(100), Trouble::Panic, Trouble::WaitsForNothing] {
        let node = Node::new(trouble, demo()).await;
        node.go().await;
        let operation = node.test.db.operation_by_id(node.operation).await.expect("operation");
        assert_eq!(operation.state, OperationState::Failed, "{trouble:?}");
        assert_eq!(operation.error.expect("an error").metadata["step"], "look");
        assert_eq!(events(&node.test, "demo.released").await, 1, "{trouble:?}");
    }
}

#[tokio::test]
async fn a_command_that_failed_in_passing_is_queued_again_and_one_that_succeeded_is_not() {
    let node = Node::new(Trouble::Nothing, demo()).await;
    node.go().await;
    let failure = pb::Failure { reason: "UNAVAILABLE".into(), message: "not now".into(), retryable: true };
    let parked: Vec<_> =
        node.test.db.hosts_alive().await.expect("hosts").iter().map(|h| Parked { host: h.id, room: 1 }).collect();
    let first = node.test.db.commands_claim(&parked, Duration::from_secs(60)).await.expect("claim");
    let report = CommandReport {
        uid: first[0].uid,
        host: first[0].host,
        attempt: 1,
        state: CommandState::Failed,
        result: serde_json::to_value(failure).expect("json"),
    };
    node.test.db.commands_report(&[report]).await.expect("report");
    node.go().await;
    assert_eq!(agents(&node.test.db, CommandState::Succeeded, facts()).await, 2, "the other one and the repeat");
    node.go().await;
    assert_eq!(agents(&node.test.db, CommandState::Succeeded, facts()).await, 1, "tidy");
    node.go().await;
    assert_eq!(node.state().await, OperationState::Succeeded);
}

#[tokio::test]
async fn a_saga_that_is_not_known_is_left_for_a_node_that_knows_it() {
    let mut node = Node::new(Trouble::Nothing, Registry::new()).await;
    assert_eq!(node.once().await, Next::After(jiff::SignedDuration::from_secs(30)));
    assert_eq!(node.state().await, OperationState::Stuck);
    assert!(node.test.hurry(node.operation).await);
    assert_eq!(node.once().await, Next::Parked);
    assert_eq!(events(&node.test, "operation.stuck").await, 1, "said once");
    node.advance = advance(&node.test, demo());
    assert!(node.test.hurry(node.operation).await);
    node.go().await;
    assert_eq!(node.state().await, OperationState::Running);
}

#[tokio::test]
async fn the_executor_carries_many_sagas_to_their_end_and_wakes_who_waits() {
    let test = TestDb::create().await;
    let shutdown = CancellationToken::new();
    let keeper = Keeper::new(test.db.clone(), LeaseConfig::orchestrator("node"));
    let (ownership, waker, advance) = (keeper.ownership(), Waker::new(), advance(&test, demo()));
    let (watch, db) = (advance.watch.clone(), test.db.clone());
    let executor = Executor::new(advance, ownership, waker.clone(), Tuning::default());
    let tasks = tokio::spawn({
        let (shutdown, stop) = (shutdown.clone(), shutdown.clone());
        async move { tokio::join!(keeper.run(shutdown), executor.run(stop)) }
    });
    let working = tokio::spawn({
        let (db, waker, shutdown) = (db.clone(), waker.clone(), shutdown.clone());
        async move {
            while !shutdown.is_cancelled() {
                if agents(&db, CommandState::Succeeded, facts()).await > 0 {
                    waker.wake();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    let mut operations = Vec::new();
    for _ in 0..20 {
        operations.push(begin(&test, Trouble::Nothing).await);
        waker.wake();
    }
    for id in operations {
        let seen = watch.wait(&db, id, Until::Done, Duration::from_secs(20)).await.expect("wait");
        assert_eq!(seen.state, OperationState::Succeeded);
    }
    shutdown.cancel();
    let (kept, ran) = tasks.await.expect("no panic");
    kept.expect("keeper");
    ran.expect("executor");
    working.await.expect("agents");
    let lease = test.db.lease_by_name("orchestrator").await.expect("read").expect("row");
    assert!(lease.expires_at < jiff::Timestamp::now(), "given up at the end");
}

#[tokio::test]
async fn one_operation_at_a_time_works_on_an_instance() {
    let test = TestDb::create().await;
    let instance = windlass_core::id::InstanceId::new();
    let request = Request {
        project: None,
        instance: Some(instance),
        target: "projects/p/instances/i".into(),
        actor: "test".into(),
    };
    let data = Demo { host: HostId::new(), reserved: false, trouble: Trouble::Nothing };
    let mut tx = test.db.begin().await.expect("begin");
    let first = start::<Demo>(&mut tx, request.clone(), &data).await.expect("the first");
    let error = start::<Demo>(&mut tx, request, &data).await.expect_err("busy");
    assert_eq!(
        (error.reason, error.metadata["operation"].as_str()),
        (Reason::InstanceBusy, first.to_string().as_str())
    );
}
