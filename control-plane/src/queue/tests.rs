//! The queue with parked polls on a real server. Unless a test is about it, the safety poll is far away, so that what
//! arrives has arrived by a wake-up.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use windlass_core::{
    command::{CommandKind, CommandState},
    id::{CommandId, HostId, MemberId, OperationId},
};
use windlass_db::{
    commands::{ClaimedCommand, CommandReport, NewCommand, command_enqueue_tx, commands_cancel_tx},
    testing::TestDb,
};

use super::*;
use crate::{
    lease::{Keeper, LeaseConfig, Ownership},
    sagas::Waker,
};

/// Bound of everything that must come soon.
const SOON: Duration = Duration::from_secs(10);
const FAR: Duration = Duration::from_secs(3600);

/// A node of the control plane: its queue, running.
struct Node {
    queue: Queue,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Node {
    fn start(test: &TestDb, safety_poll: Duration) -> Self {
        let config = QueueConfig { hold: Duration::from_secs(60), safety_poll, ..QueueConfig::default() };
        let (waker, wakeups) = HostWaker::new();
        let (queue, engine) = Queue::new(test.db.clone(), config, waker, wakeups, Waker::new());
        let shutdown = CancellationToken::new();
        let (running, stop, ownership) = (queue.clone(), shutdown.clone(), nobody(test));
        let task = tokio::spawn(async move { running.run(engine, ownership, stop).await.expect("runs") });
        Self { queue, shutdown, task }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(SOON, self.task).await.expect("ends").expect("no panic");
    }

    /// An agent's poll, in a task of its own.
    fn poll(&self, host: HostId, running: &[CommandId]) -> tokio::task::JoinHandle<Answer> {
        let poll = Poll { host, session: "s".to_owned(), running: running.to_vec(), room: 8 };
        let (queue, drain) = (self.queue.clone(), self.shutdown.clone());
        tokio::spawn(async move { queue.poll(poll, &drain).await.expect("poll") })
    }

    async fn parked(&self, host: HostId) {
        let looking = async {
            while self.queue.shared.hosts.parked().iter().all(|parked| *parked != host) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(SOON, looking).await.expect("it parks");
    }
}

/// The view of a node that never holds the lease: the sweep rests.
fn nobody(test: &TestDb) -> Ownership {
    Keeper::new(test.db.clone(), LeaseConfig::orchestrator("nobody")).ownership()
}

async fn soon(poll: tokio::task::JoinHandle<Answer>) -> Answer {
    tokio::time::timeout(SOON, poll).await.expect("answered soon").expect("no panic")
}

async fn host(test: &TestDb) -> HostId {
    let host = HostId::new();
    test.execute(&format!("insert into host (id, name, state) values ('{host}', 'h-{host}', 'ONLINE')")).await;
    host
}

fn order(host: HostId, member: MemberId, saga: Option<OperationId>) -> NewCommand {
    NewCommand {
        uid: CommandId::new(),
        shard: 0,
        host,
        instance: None,
        member: Some(member),
        saga,
        epoch: 1,
        generation: 1,
        kind: CommandKind::PurgeMember,
        args: json!({"purge_member": {}}),
        timeout: SignedDuration::from_secs(10),
        expire: None,
    }
}

async fn enqueue(test: &TestDb, order: &NewCommand) {
    let mut tx = test.db.begin().await.expect("begin");
    command_enqueue_tx(&mut tx, order).await.expect("enqueue");
    tx.commit().await.expect("commit");
}

fn success(command: &ClaimedCommand) -> CommandReport {
    let ClaimedCommand { uid, host, attempt, .. } = *command;
    CommandReport { uid, host, attempt, state: CommandState::Succeeded, result: json!({}) }
}

#[tokio::test]
async fn hundreds_of_parked_hosts_each_get_their_own() {
    let test = TestDb::create().await;
    let node = Node::start(&test, FAR);
    let mut polls = Vec::new();
    for _ in 0..300 {
        let host = host(&test).await;
        polls.push((host, node.poll(host, &[])));
        node.parked(host).await;
    }
    let hosts: Vec<_> = polls.iter().map(|(host, _)| *host).collect();
    for host in &hosts {
        enqueue(&test, &order(*host, MemberId::new(), None)).await;
    }
    node.queue.wake(&hosts);
    for (host, poll) in polls {
        let answer = soon(poll).await;
        assert_eq!(answer.commands.iter().map(|c| c.host).collect::<Vec<_>>(), [host]);
    }
    node.stop().await;
}

#[tokio::test]
async fn what_is_queued_before_the_poll_comes_is_there_at_once() {
    let test = TestDb::create().await;
    let node = Node::start(&test, FAR);
    let host = host(&test).await;
    enqueue(&test, &order(host, MemberId::new(), None)).await;
    assert_eq!(soon(node.poll(host, &[])).await.commands.len(), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_lost_wake_up_costs_one_safety_poll() {
    let test = TestDb::create().await;
    let node = Node::start(&test, Duration::from_millis(50));
    let host = host(&test).await;
    let poll = node.poll(host, &[]);
    node.parked(host).await;
    enqueue(&test, &order(host, MemberId::new(), None)).await;
    assert_eq!(soon(poll).await.commands.len(), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_command_queued_by_one_node_reaches_a_host_that_polls_at_another() {
    let test = TestDb::create().await;
    let (here, there) = (Node::start(&test, FAR), Node::start(&test, FAR));
    let host = host(&test).await;
    let poll = there.poll(host, &[]);
    there.parked(host).await;
    enqueue(&test, &order(host, MemberId::new(), None)).await;
    // The other node may only just be beginning to listen: the hint is sent until it is heard.
    let telling = async {
        loop {
            here.queue.wake(&[host]);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        answer = soon(poll) => assert_eq!(answer.commands.len(), 1),
        () = telling => unreachable!("it goes on for ever"),
    }
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn the_next_command_of_a_member_follows_the_result_of_the_one_before() {
    let test = TestDb::create().await;
    let node = Node::start(&test, FAR);
    let (host, member) = (host(&test).await, MemberId::new());
    let (first, second) = (order(host, member, None), order(host, member, None));
    enqueue(&test, &first).await;
    enqueue(&test, &second).await;
    let got = soon(node.poll(host, &[])).await.commands;
    assert_eq!(got.iter().map(|c| c.uid).collect::<Vec<_>>(), [first.uid], "one at a time");
    let poll = node.poll(host, &[first.uid]);
    node.parked(host).await;
    let stale = CommandReport { attempt: 9, ..success(&got[0]) };
    assert!(node.queue.report(vec![stale]).await.expect("report").is_empty(), "not acknowledged");
    assert_eq!(node.queue.report(vec![success(&got[0])]).await.expect("report"), [first.uid]);
    assert_eq!(soon(poll).await.commands[0].uid, second.uid);
    node.stop().await;
}

#[tokio::test]
async fn many_results_at_once_are_all_stored() {
    let test = TestDb::create().await;
    let node = Node::start(&test, FAR);
    let mut reporting = Vec::new();
    for _ in 0..50 {
        let host = host(&test).await;
        enqueue(&test, &order(host, MemberId::new(), None)).await;
        let got = soon(node.poll(host, &[])).await.commands;
        let queue = node.queue.clone();
        reporting.push(async move { queue.report(vec![success(&got[0])]).await.expect("report").len() });
    }
    assert_eq!(futures::future::join_all(reporting).await.into_iter().sum::<usize>(), 50);
    assert_eq!(test.count("select count(*) from command where state = 'SUCCEEDED'").await, 50);
    node.stop().await;
}

#[tokio::test]
async fn a_result_that_cannot_be_stored_does_not_hold_up_the_others() {
    let test = TestDb::create().await;
    let node = Node::start(&test, FAR);
    let mut reports = Vec::new();
    for result in [json!({}), json!({"text": "\u{0}"})] {
        let host = host(&test).await;
        enqueue(&test, &order(host, MemberId::new(), None)).await;
        let got = soon(node.poll(host, &[])).await.commands;
        reports.push(CommandReport { result, ..success(&got[0]) });
    }
    let (good, bad) = (reports[0].clone(), reports[1].clone());
    let both = async { tokio::join!(node.queue.report(vec![good]), node.queue.report(vec![bad])) };
    let (good, bad) = both.await;
    assert_eq!(good.expect("stored").len(), 1);
    bad.expect_err("JSON columns refuse NUL");
    node.stop().await;
}

#[tokio::test]
async fn a_cancel_reaches_the_agent_that_has_the_command() {
    let test = TestDb::create().await;
    let node = Node::start(&test, FAR);
    let (host, saga) = (host(&test).await, OperationId::new());
    let new = order(host, MemberId::new(), Some(saga));
    enqueue(&test, &new).await;
    assert_eq!(soon(node.poll(host, &[])).await.commands.len(), 1);
    let poll = node.poll(host, &[new.uid]);
    node.parked(host).await;
    let mut tx = test.db.begin().await.expect("begin");
    let hosts = commands_cancel_tx(&mut tx, saga).await.expect("cancel");
    tx.commit().await.expect("commit");
    node.queue.wake(&hosts);
    assert_eq!(soon(poll).await.cancels, [new.uid]);
    node.stop().await;
}

#[tokio::test]
async fn an_answer_that_never_arrived_is_given_again() {
    let test = TestDb::create().await;
    let node = Node::start(&test, Duration::from_millis(100));
    let host = host(&test).await;
    let new = order(host, MemberId::new(), None);
    enqueue(&test, &new).await;
    let lost = soon(node.poll(host, &[])).await.commands;
    assert_eq!((lost[0].uid, lost[0].attempt), (new.uid, 1));
    let again = soon(node.poll(host, &[])).await.commands;
    assert_eq!((again[0].uid, again[0].attempt), (new.uid, 2));
    node.stop().await;
}

#[tokio::test]
async fn a_poll_that_goes_away_takes_nothing_with_it() {
    let test = TestDb::create().await;
    let node = Node::start(&test, FAR);
    let host = host(&test).await;
    let poll = node.poll(host, &[]);
    node.parked(host).await;
    poll.abort();
    poll.await.expect_err("aborted");
    assert!(node.queue.shared.hosts.parked().is_empty());
    enqueue(&test, &order(host, MemberId::new(), None)).await;
    node.queue.wake(&[host]);
    assert_eq!(soon(node.poll(host, &[])).await.commands[0].attempt, 1);
    node.stop().await;
}

#[tokio::test]
async fn parked_polls_end_when_the_node_goes_away() {
    let test = TestDb::create().await;
    let node = Node::start(&test, FAR);
    let host = host(&test).await;
    let poll = node.poll(host, &[]);
    node.parked(host).await;
    node.shutdown.cancel();
    assert!(soon(poll).await.commands.is_empty());
    node.stop().await;
}
