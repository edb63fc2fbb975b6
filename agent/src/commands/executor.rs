//! Carries commands out: one lane for each member, lanes side by side.
//!
//! Invariants: what is in a lane is in the journal; a result is in the journal before it is in the outbox. A lane is a
//! task only while it has commands, so that an idle agent has none.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use windlass_core::{Error, Reason, command::MAX_ATTEMPTS, error::ErrorKind};
use windlass_kit::failpoint::Failpoints;
use windlass_proto::agent::v1::{self as pb, command_result::Outcome};

use super::{CommandTarget, Outbox, dispatch, outcome};
use crate::journal::{Acceptance, Journal};

/// Most commands that run at once; the others wait in their lanes.
const PARALLEL: usize = 32;

/// Starts of the agent that a command may live through; one that outlives more probably ends the agent each time.
const MOST_STARTS: u32 = MAX_ATTEMPTS as u32;

/// Whether a command may be begun (once more).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lives {
    Left,
    UsedUp,
}

/// Accepts, orders and carries out. Clones are the same executor.
#[derive(Clone)]
pub struct Executor(Arc<Inner>);

struct Inner {
    target: Arc<dyn CommandTarget>,
    journal: Journal,
    outbox: Outbox,
    failpoints: Failpoints,
    permits: Semaphore,
    lanes: TaskTracker,
    /// No further command is begun.
    stop: CancellationToken,
    /// Those that run are dropped.
    kill: CancellationToken,
    open: Mutex<Open>,
}

/// Commands that are accepted and not finished.
#[derive(Default)]
struct Open {
    /// By member. A member without commands has no lane.
    waiting: HashMap<String, VecDeque<(pb::Command, Lives)>>,
    /// By uid.
    cancels: HashMap<String, CancellationToken>,
}

impl Executor {
    /// An executor that takes up at once what the journal says is unfinished, and puts the results that it holds into
    /// the outbox. Needs a runtime.
    pub fn start(target: Arc<dyn CommandTarget>, journal: Journal, outbox: Outbox, failpoints: Failpoints) -> Self {
        let (unfinished, results) = (journal.unfinished(), journal.results());
        let executor = Self(Arc::new(Inner {
            target,
            journal,
            outbox: outbox.clone(),
            failpoints,
            permits: Semaphore::new(PARALLEL),
            lanes: TaskTracker::new(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            open: Mutex::default(),
        }));
        results.into_iter().for_each(|result| outbox.add(result));
        for (command, starts) in unfinished {
            tracing::info!(command = command.uid, member = command.member_id, starts, "taking up after a restart");
            let lives = if starts > MOST_STARTS { Lives::UsedUp } else { Lives::Left };
            executor.enqueue(command, lives);
        }
        executor
    }

    /// Takes a delivery. When it returns, every command is in the journal or has a result in the outbox; a caller that
    /// is dropped before (its connection broke) does not cut that short.
    pub async fn deliver(&self, commands: Vec<pb::Command>) {
        let (executor, kill) = (self.clone(), self.0.kill.clone());
        let taken = self.0.lanes.spawn(async move { kill.run_until_cancelled(executor.take(commands)).await });
        if let Err(error) = taken.await {
            tracing::error!(%error, "a delivery was not taken");
        }
    }

    async fn take(&self, commands: Vec<pb::Command>) {
        let accepted = join_all(commands.iter().map(|command| self.accept(command))).await;
        for (command, accepted) in commands.into_iter().zip(accepted) {
            match accepted {
                Ok(Acceptance::New) => self.enqueue(command, Lives::Left),
                Ok(Acceptance::Running) => tracing::debug!(command = command.uid, "delivered again while it runs"),
                Ok(Acceptance::Finished(result)) => self.0.outbox.add(*result),
                Ok(Acceptance::Fenced { seen }) => {
                    let text = format!("epoch {} is over: this host has seen {seen} for the instance", command.epoch);
                    self.refuse(command, Error::new(ErrorKind::Aborted, Reason::Fenced, text));
                }
                Err(error) => self.refuse(command, error),
            }
        }
    }

    /// Cancels commands. Those that wait in a lane never begin; one that runs is asked to stop.
    pub fn cancel(&self, uids: &[String]) {
        let open = self.open();
        for token in uids.iter().filter_map(|uid| open.cancels.get(uid)) {
            token.cancel();
        }
    }

    /// Uids of commands that this agent has and whose result the control plane lacks.
    pub fn running(&self) -> Vec<String> {
        let mut uids: Vec<_> = self.open().cancels.keys().cloned().collect();
        uids.extend(self.0.outbox.waiting());
        uids
    }

    /// How many further commands it takes now.
    pub fn room(&self) -> usize {
        (2 * PARALLEL).saturating_sub(self.open().cancels.len()).max(1)
    }

    /// Takes in that the control plane has these results.
    pub fn acknowledged(&self, uids: &[String]) {
        self.0.journal.forget(uids);
    }

    /// Begins no further command, waits for those that run, and drops them after `grace`. What is not finished then is
    /// carried out again by the next start.
    pub async fn stop(&self, grace: Duration) {
        self.0.stop.cancel();
        self.0.lanes.close();
        if timeout(grace, self.0.lanes.wait()).await.is_err() {
            tracing::warn!(commands = self.open().cancels.len(), "left running commands to the next start");
        }
        self.0.kill.cancel();
        self.0.lanes.wait().await;
    }

    /// Writes down which results are acknowledged, so that the next start does not report them again.
    pub async fn settle(&self) {
        self.0.journal.flush().await;
    }

    async fn accept(&self, command: &pb::Command) -> Result<Acceptance, Error> {
        self.0.failpoints.hit("journal.before_accept").await?;
        let acceptance = self.0.journal.accept(command).await?;
        if acceptance == Acceptance::New {
            self.pass("journal.after_accept").await;
        }
        Ok(acceptance)
    }

    fn refuse(&self, command: pb::Command, error: Error) {
        tracing::warn!(command = command.uid, error = error.chain(), "refused a command");
        let outcome = Some(outcome::of(Err(error)));
        self.0.outbox.add(pb::CommandResult { uid: command.uid, attempt: command.attempt, outcome });
    }

    fn enqueue(&self, command: pb::Command, lives: Lives) {
        let mut open = self.open();
        open.cancels.insert(command.uid.clone(), CancellationToken::new());
        let member = command.member_id.clone();
        if let Some(lane) = open.waiting.get_mut(&member) {
            lane.push_back((command, lives));
            return;
        }
        open.waiting.insert(member.clone(), VecDeque::from([(command, lives)]));
        let executor = self.clone();
        self.0.lanes.spawn(async move {
            let kill = executor.0.kill.clone();
            kill.run_until_cancelled(executor.lane(member)).await;
        });
    }

    async fn lane(self, member: String) {
        while let Some((command, lives, cancel)) = self.next(&member) {
            let permit = tokio::select! {
                permit = self.0.permits.acquire() => permit,
                () = self.0.stop.cancelled() => return,
            };
            if self.0.stop.is_cancelled() {
                return;
            }
            self.carry_out(command, lives, &cancel).await;
            drop(permit);
        }
    }

    /// The next command of a lane; ends the lane if there is none.
    fn next(&self, member: &str) -> Option<(pb::Command, Lives, CancellationToken)> {
        let mut open = self.open();
        match open.waiting.get_mut(member).and_then(VecDeque::pop_front) {
            Some((command, lives)) => {
                let cancel = open.cancels.get(&command.uid).cloned().unwrap_or_default();
                Some((command, lives, cancel))
            }
            None => {
                open.waiting.remove(member);
                None
            }
        }
    }

    async fn carry_out(&self, command: pb::Command, lives: Lives, cancel: &CancellationToken) {
        let uid = command.uid.clone();
        let member = command.member_id.clone();
        tracing::info!(command = uid, member, "begins");
        let outcome = match lives {
            Lives::UsedUp => outcome::of(Err(poisoned())),
            Lives::Left if cancel.is_cancelled() => Outcome::Cancelled(true),
            Lives::Left => outcome::of(self.effect(command, cancel).await),
        };
        match &outcome {
            Outcome::Succeeded(_) => tracing::info!(command = uid, member, "succeeded"),
            Outcome::Failed(failure) => {
                tracing::warn!(command = uid, member, reason = failure.reason, message = failure.message, "failed");
            }
            Outcome::Cancelled(_) => tracing::info!(command = uid, member, "cancelled"),
        }
        let result = self.0.journal.finish(&uid, outcome).await;
        self.pass("journal.after_finish").await;
        // First into the outbox, then out of the books: a poll in between would tell that the agent does not have it.
        self.0.outbox.add(result);
        self.open().cancels.remove(&uid);
    }

    async fn effect(&self, command: pb::Command, cancel: &CancellationToken) -> Result<pb::MemberFacts, Error> {
        self.0.failpoints.hit("command.before_effect").await?;
        let done = dispatch::run(&*self.0.target, command, cancel).await;
        self.pass("command.after_effect").await;
        done
    }

    /// A failpoint where there is nothing to fail: an error there is only logged.
    async fn pass(&self, failpoint: &str) {
        if let Err(error) = self.0.failpoints.hit(failpoint).await {
            tracing::warn!(error = error.chain(), "a failpoint failed where nothing can");
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn poisoned() -> Error {
    let text = format!("the agent ended {MOST_STARTS} times before it had carried this out; its log may say why");
    Error::new(ErrorKind::Internal, Reason::CommandPoisoned, text)
}
