//! The queue as its users see it: polls that park, results that are stored.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use windlass_core::{
    Error,
    id::{CommandId, HostId},
};
use windlass_db::{
    Db,
    commands::{ClaimedCommand, CommandReport},
};

use super::{
    hints::Hints,
    hosts::{Hosts, Parcel},
    report::{Batch, Job},
    waker::{HostWaker, Wakeups},
};
use crate::{lease::Ownership, sagas::Waker};

/// Most commands in one answer.
const MOST_COMMANDS: u32 = 64;

/// Timing of the queue.
#[derive(Debug, Clone, Copy)]
pub struct QueueConfig {
    /// How long a poll is held when there is nothing.
    pub hold: Duration,
    /// How often queued commands are looked for without a wake-up, and lost ones taken back.
    pub safety_poll: Duration,
    /// How long ended commands are kept.
    pub keep: jiff::SignedDuration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(20),
            safety_poll: Duration::from_millis(1500),
            keep: jiff::SignedDuration::from_hours(24 * 7),
        }
    }
}

impl QueueConfig {
    /// How long a delivered command stays with its host without a sign of life: two polls and some.
    pub(crate) fn lease(&self) -> Duration {
        self.hold * 2 + Duration::from_secs(20)
    }
}

/// A poll of an agent.
#[derive(Debug, Clone)]
pub struct Poll {
    /// Who polls.
    pub host: HostId,
    /// Which run of its agent.
    pub session: String,
    /// What it has and has not yet had a result acknowledged for.
    pub running: Vec<CommandId>,
    /// The most commands it takes.
    pub room: u32,
}

/// What a poll is answered with.
#[derive(Debug, Default)]
pub struct Answer {
    /// Commands that are leased to the host now.
    pub commands: Vec<ClaimedCommand>,
    /// Commands to cancel.
    pub cancels: Vec<CommandId>,
}

/// The queue of a node. Clones are the same queue.
#[derive(Debug, Clone)]
pub struct Queue {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) db: Db,
    pub(super) config: QueueConfig,
    pub(super) hosts: Hosts,
    pub(super) hints: Hints,
    pub(super) waker: HostWaker,
    pub(super) sagas: Waker,
    reports: mpsc::Sender<Job>,
}

/// The receiving ends of a queue that is not running yet.
#[derive(Debug)]
pub struct Engine {
    pub(super) wakeups: Wakeups,
    pub(super) reports: mpsc::Receiver<Job>,
}

impl Queue {
    /// A queue, and what [`Queue::run`] needs. `waker` and `wakeups` are the two ends that [`HostWaker::new`] gave.
    pub fn new(db: Db, config: QueueConfig, waker: HostWaker, wakeups: Wakeups, sagas: Waker) -> (Self, Engine) {
        let (reports, jobs) = mpsc::channel(1024);
        let shared = Shared { db, config, hosts: Hosts::default(), hints: Hints::default(), waker, sagas, reports };
        (Self { shared: Arc::new(shared) }, Engine { wakeups, reports: jobs })
    }

    /// Dispatches, stores results and sweeps until shutdown; then ends the parked polls. Sweeping is the work of the
    /// lease's owner.
    ///
    /// # Errors
    /// None: trouble is logged and tried again.
    pub async fn run(&self, engine: Engine, ownership: Ownership, shutdown: CancellationToken) -> Result<(), Error> {
        let Engine { wakeups, reports } = engine;
        tokio::join!(
            Box::pin(self.dispatch(wakeups, shutdown.clone())),
            Box::pin(self.send_hints(shutdown.clone())),
            Box::pin(self.follow_hints(shutdown.clone())),
            Box::pin(Batch::run(self.clone(), reports, shutdown.clone())),
            Box::pin(self.look_after(shutdown.clone())),
            Box::pin(self.sweep(ownership, shutdown.clone())),
        );
        self.shared.hosts.release_all();
        Ok(())
    }

    /// Answers as soon as there is something for the host, or empty when the hold time is over, a newer poll of the
    /// host has come, or `drain` is cancelled. Dropping the future takes the poll away.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn poll(&self, poll: Poll, drain: &CancellationToken) -> Result<Answer, Error> {
        let shared = &self.shared;
        if !poll.running.is_empty() {
            shared.db.commands_renew(poll.host, &poll.running, shared.config.lease()).await?;
        }
        if shared.hosts.is_new(poll.host, &poll.session) {
            let leased = shared.db.commands_leased(poll.host).await?;
            shared.hosts.load(poll.host, &poll.session, &leased, Instant::now());
        }
        let (sender, mut receiver) = oneshot::channel();
        let running: HashSet<_> = poll.running.into_iter().collect();
        let ticket = shared.hosts.park(poll.host, poll.room.clamp(1, MOST_COMMANDS), running, sender);
        let parked = ParkedHere { hosts: &shared.hosts, host: poll.host, ticket };
        shared.waker.wake(&[poll.host]);
        let woken = tokio::select! {
            parcel = &mut receiver => parcel.ok(),
            () = tokio::time::sleep(shared.config.hold) => None,
            () = drain.cancelled() => None,
        };
        drop(parked);
        // The dispatcher may have handed over in the same moment.
        let parcel = woken.or_else(|| receiver.try_recv().ok()).unwrap_or_default();
        let Parcel { commands, cancels } = parcel;
        Ok(Answer { commands, cancels })
    }

    /// Stores results; returns once they are durable. Gives the uids that the agent may forget.
    ///
    /// # Errors
    /// Those of the database; then the agent reports again.
    pub async fn report(&self, reports: Vec<CommandReport>) -> Result<Vec<CommandId>, Error> {
        if reports.is_empty() {
            return Ok(Vec::new());
        }
        let (done, stored) = oneshot::channel();
        let stopping = || Error::unavailable("this node is shutting down; report to another");
        self.shared.reports.send(Job { reports, done }).await.map_err(|_| stopping())?;
        stored.await.map_err(|_| stopping())?
    }

    /// These hosts may have something to fetch; call it after the commit that queued it.
    pub fn wake(&self, hosts: &[HostId]) {
        self.shared.waker.wake(hosts);
    }
}

/// Takes the poll away when its future ends or is dropped.
struct ParkedHere<'a> {
    hosts: &'a Hosts,
    host: HostId,
    ticket: u64,
}

impl Drop for ParkedHere<'_> {
    fn drop(&mut self) {
        self.hosts.unpark(self.host, self.ticket);
    }
}
