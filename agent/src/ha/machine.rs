//! The machine of one member: look, decide, do one step, look again.
//!
//! Owns: what is known only while the agent runs (the connection, what the server has read, the barrier under way).
//! Invariants: one step at a time; every wait has a bound, so that a hung server or disk stops no order for long; each
//! step is repeated until what is seen says that it is done. A crash in the middle of a step leaves a record that leads
//! to the same step again.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use windlass_core::Error;
use windlass_kit::{clock::BootInstant, failpoint::Failpoints};

use super::{
    barrier::BarrierTask,
    checkpoint::CheckpointTask,
    decide::{Chores, Confirmed, Pace, Prepared, Step, View, decide},
    facts::{Told, facts},
    fence::Isolation,
    order::{Goal, Order},
    rejoin::Rejoin,
    seat::Seat,
    sight::{Busy, Down, STUCK, Sight, Standing, Start},
    state::{ProcessId, Record, Role},
};
use crate::{
    engines::{
        Server,
        postgres::replication::{Configuration, Follows, Gate, Live, Lsn, Progress, Reader, Sender, Waits},
    },
    host::ProcessHost,
    members::Members,
};

/// Between looks while something is about to change, and while nothing is.
const SOON: Duration = Duration::from_millis(5);
const SETTLED: Duration = Duration::from_millis(200);
/// After an error.
const AFTER_ERROR: Duration = Duration::from_millis(250);
/// Between looks of a leader whose followers come and go, for a while after each change of what they do.
const WATCHFUL: Duration = Duration::from_millis(25);
const WATCHFUL_FOR: Duration = Duration::from_secs(1);
/// How long the outcome of a comparison is believed, and one that says to wait.
const BELIEVED: Duration = Duration::from_secs(2);
const BELIEVED_WAIT: Duration = Duration::from_millis(60);
/// What may fail for a while is tried no more often.
const CHORES_EVERY: Duration = Duration::from_secs(1);
/// Ends within this time count together.
const CRASH_WINDOW: Duration = Duration::from_secs(60);

/// The machine of one member.
pub(super) struct Machine {
    pub(super) seat: Arc<Seat>,
    pub(super) members: Arc<Members>,
    pub(super) host: Arc<dyn ProcessHost>,
    pub(super) failpoints: Failpoints,
    pub(super) leave: CancellationToken,
    pub(super) boot: Arc<str>,
    pub(super) reader: Option<Reader>,
    pub(super) process: Option<ProcessId>,
    pub(super) applied: Option<Configuration>,
    /// rev of the order by which `applied` leads.
    pub(super) enforced_rev: u64,
    pub(super) gate: Gate,
    pub(super) comparison: Option<Comparison>,
    pub(super) barrier: BarrierTask,
    /// Whether the present process waits for receipts once it has names.
    pub(super) waits: Waits,
    checkpoint: CheckpointTask,
    pub(super) fenced: bool,
    /// Which process has what the database needs, and since when.
    pub(super) prepared: Option<(ProcessId, Instant)>,
    /// Which process was asked for a checkpoint.
    pub(super) checkpointed: Option<ProcessId>,
    pub(super) busy: Option<Busy>,
    pub(super) progress: Progress,
    /// How long to pause after the copy that failed last.
    pub(super) copy_again: Option<Duration>,
    pub(super) chores_at: Option<Instant>,
    nudged: Option<Instant>,
    pub(super) last_live: Option<(Instant, Box<Live>)>,
    pub(super) down: Option<DownSince>,
    /// What a crash restart has to redo, in bytes.
    pub(super) redo: u64,
    pub(super) crashes: VecDeque<Instant>,
    /// Whether the present server redoes a crash.
    pub(super) start: Start,
    pub(super) follows: Follows,
    pub(super) launched: Option<Instant>,
    /// Where the log of the present server begins.
    pub(super) log_from: u64,
    /// The next end of the server is wanted.
    pub(super) expected_end: bool,
    pub(super) follower_seen: BootInstant,
    /// What followers do but for how far they are, and since when they do it.
    followers: (Vec<Sender>, Instant),
    pub(super) streamed: Instant,
    /// The end of a leader's log on disk, and since when it stands behind what is written.
    pub(super) flushed: (Lsn, Instant),
    pub(super) watched_receiver: i32,
    /// Bytes of a segment of the log.
    pub(super) segment: u64,
    pub(super) fork: (u32, Lsn),
    pub(super) sight: Sight,
    pub(super) why: String,
}

/// The outcome of a comparison, for one order.
#[derive(Debug, Clone)]
pub(super) struct Comparison {
    pub(super) rev: u64,
    pub(super) at: Instant,
    pub(super) outcome: Rejoin,
}

/// Since when and how the server is down.
#[derive(Debug, Clone)]
pub(super) struct DownSince {
    pub(super) at: Instant,
    pub(super) how: String,
    pub(super) incurable: Option<&'static str>,
    pub(super) hopeless: Option<&'static str>,
}

impl Machine {
    /// A machine that has not looked yet.
    pub(super) fn new(
        seat: Arc<Seat>,
        members: Arc<Members>,
        failpoints: Failpoints,
        leave: CancellationToken,
        boot: Arc<str>,
    ) -> Self {
        let host = members.process_host();
        Self {
            seat,
            members,
            host,
            failpoints,
            leave,
            boot,
            reader: None,
            process: None,
            applied: None,
            enforced_rev: 0,
            gate: Gate::Shut,
            comparison: None,
            barrier: BarrierTask::default(),
            waits: Waits::Unproven,
            checkpoint: CheckpointTask::default(),
            fenced: false,
            prepared: None,
            checkpointed: None,
            busy: None,
            progress: Progress::new(-1),
            copy_again: None,
            chores_at: None,
            nudged: None,
            last_live: None,
            down: None,
            redo: 0,
            crashes: VecDeque::new(),
            start: Start::Plain,
            follows: Follows::Nobody,
            launched: None,
            log_from: 0,
            expected_end: false,
            follower_seen: BootInstant::now(),
            followers: (Vec::new(), Instant::now()),
            streamed: Instant::now(),
            flushed: (Lsn(0), Instant::now()),
            watched_receiver: 0,
            segment: 0,
            fork: (0, Lsn(0)),
            sight: Sight::Starting(Start::Plain),
            why: String::new(),
        }
    }

    /// Runs until the member leaves or the agent does. The server stays as it is.
    pub(super) async fn run(mut self) {
        while !self.leave.is_cancelled() {
            let Some(server) = self.members.replica_server(self.seat.member()) else {
                self.pause(SETTLED).await;
                continue;
            };
            let looked = self.look(&server).await;
            let pause = match looked {
                Ok(()) => self.advance(&server).await,
                Err(error) => Err(error),
            };
            let pause = pause.unwrap_or_else(|error| {
                // What lasts is told once.
                if self.why != error.message {
                    tracing::warn!(member = %self.seat.member(), error = error.chain(), "replication is held up");
                }
                self.busy = None;
                self.why = error.message.clone();
                Some(self.copy_again.unwrap_or(AFTER_ERROR))
            });
            if let Some(pause) = pause {
                self.tell();
                self.pause(pause).await;
            }
        }
    }

    async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = self.seat.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = self.leave.cancelled() => {}
        }
    }

    /// Decides and does. Gives how long to wait; None to look again at once.
    async fn advance(&mut self, server: &Server) -> Result<Option<Duration>, Error> {
        if self.must_restart(server).await? {
            return Ok(None);
        }
        let record = self.seat.record();
        let order = order_of(&record);
        self.checkpoint.follow(server, order.as_ref(), &self.seat);
        let step = {
            let view = self.view(&record, order.as_ref());
            let step = decide(&view);
            self.seat.tell(facts(&view, self.told()));
            step
        };
        if let Step::Wait { why, pace } = step {
            self.why = why;
            return Ok(Some(match pace {
                Pace::Soon => SOON,
                Pace::Woken => WATCHFUL,
                Pace::Settled if self.followers.1.elapsed() < WATCHFUL_FOR => WATCHFUL,
                Pace::Settled => SETTLED,
            }));
        }
        if let Step::Barrier(row) = step
            && self.barrier.is_under_way(row)
        {
            "the barrier waits for its receipts".clone_into(&mut self.why);
            self.nudge().await?;
            // Its commit wakes who waits.
            return Ok(Some(WATCHFUL));
        }
        tracing::debug!(member = %record.member, ?step, "step");
        self.perform(server, &record, order.as_ref(), step).await?;
        Ok(None)
    }

    /// Lets copies that were begun while the barrier waits see it.
    async fn nudge(&mut self) -> Result<(), Error> {
        if self.nudged.is_none_or(|at| at.elapsed() >= CHORES_EVERY) {
            self.nudged = Some(Instant::now());
            self.reader()?.nudge().await?;
        }
        Ok(())
    }

    /// Everything that a decision rests on.
    fn view<'a>(&'a self, record: &'a Record, order: Option<&'a Order>) -> View<'a> {
        let rev = order.map_or(0, |order| order.rev);
        let believed = |comparison: &&Comparison| {
            let limit = match comparison.outcome {
                Rejoin::Wait(_) => BELIEVED_WAIT,
                Rejoin::Point | Rejoin::Rewind { .. } | Rejoin::Copy(_) | Rejoin::Foreign(_) => BELIEVED,
                // Until another order: a leader that lost something soon has as much again.
                Rejoin::Ahead(_) => Duration::MAX,
            };
            comparison.rev == rev && (comparison.at.elapsed() < limit || matches!(self.sight, Sight::Down(_)))
        };
        View {
            standing: Standing {
                record,
                sight: &self.sight,
                process: self.process,
                gate: self.gate,
                busy: self.busy,
                fenced: self.fenced,
                stuck: self.is_stuck(),
                resting: order.is_some_and(|order| order.goal == Goal::Rest),
            },
            order,
            challenged: self.seat.challenged(),
            confirmed: if self.seat.is_confirmed(rev) { Confirmed::Yes } else { Confirmed::No },
            applied: self.applied.as_ref(),
            acknowledged: self.acknowledged(record),
            comparison: self.comparison.as_ref().filter(believed).map(|comparison| &comparison.outcome),
            isolation: Isolation {
                control_plane_silent: self.seat.heard().elapsed(),
                followers_gone: self.follower_seen.elapsed(),
            },
            crashes: u32::try_from(self.crashes.len()).unwrap_or(u32::MAX),
            marker: super::effects::marker(&self.seat.replica.root).exists(),
            stalled: self.streamed.elapsed(),
            same_boot: record.opened.is_some() && record.opened_in == *self.boot,
            prepared: self.prepared(),
            chores: if self.chores_at.is_none_or(|at| at.elapsed() >= CHORES_EVERY) {
                Chores::Due
            } else {
                Chores::Done
            },
        }
    }

    /// Tells what is seen now.
    pub(super) fn tell(&self) {
        let record = self.seat.record();
        let order = order_of(&record);
        self.seat.tell(facts(&self.view(&record, order.as_ref()), self.told()));
    }

    fn told(&self) -> Told<'_> {
        Told {
            why: &self.why,
            fork: self.fork.1.0,
            progress: *self.progress.borrow(),
            redo: self.redo,
            enforced_rev: self.enforced_rev,
            checkpointed: self.checkpoint.written(),
        }
    }

    /// A barrier that committed, once enough followers whose receipts count have it on disk: a wait that somebody
    /// cancelled, or that the server did not do yet after a change of its settings, proves nothing.
    fn acknowledged(&self, record: &Record) -> Option<crate::engines::postgres::replication::Barrier> {
        let (row, end) = self.barrier.committed()?;
        let (Sight::Live(live), Some(lead)) = (&self.sight, record.lead.as_ref()) else { return None };
        let names: Vec<String> =
            lead.acks.iter().map(|member| windlass_core::replication::epoch_name(*member, lead.epoch)).collect();
        let has =
            |sender: &&Sender| names.contains(&sender.name) && sender.flushed.is_some_and(|flushed| flushed >= end);
        (live.senders.iter().filter(has).count() >= lead.needed as usize).then_some(row)
    }

    fn prepared(&self) -> Prepared {
        match self.prepared {
            Some((process, _)) if Some(process) != self.process => Prepared::Nothing,
            Some((process, _)) if self.checkpointed == Some(process) => Prepared::Checkpoint,
            Some((_, at)) => Prepared::Database(at.elapsed()),
            None => Prepared::Nothing,
        }
    }

    fn is_stuck(&self) -> bool {
        let behind = matches!(&self.sight, Sight::Live(live) if live.inserted > live.flushed);
        behind && self.flushed.1.elapsed() >= STUCK
    }

    /// What a look at a server that ended gives.
    pub(super) fn down(&mut self) -> Sight {
        let redo = self
            .last_live
            .as_ref()
            .map_or(0, |(_, live)| live.inserted.unwrap_or_default().0.saturating_sub(live.redo.0));
        match &self.down {
            Some(down) => Sight::Down(Down {
                how: down.how.clone(),
                since: down.at.elapsed(),
                incurable: down.incurable,
                hopeless: down.hopeless,
                redo,
            }),
            None => Sight::Down(Down::default()),
        }
    }

    /// Counts an end of the server.
    pub(super) fn count_crash(&mut self) {
        self.crashes.push_back(Instant::now());
    }

    /// Forgets ends that are long ago.
    pub(super) fn forget_crashes(&mut self) {
        while self.crashes.front().is_some_and(|at| at.elapsed() > CRASH_WINDOW) {
            self.crashes.pop_front();
        }
    }

    /// Whether followers came or went, and whether one whose receipt counts streams.
    pub(super) fn note_followers(&mut self, record: &Record, live: &Live) {
        let outline =
            |sender: &Sender| Sender { flushed: sender.flushed.map(|_| Lsn(0)), replayed: None, ..sender.clone() };
        let followers: Vec<_> = live.senders.iter().map(outline).collect();
        if followers != self.followers.0 {
            self.followers = (followers, Instant::now());
        }
        let Some(lead) = record.lead.as_ref().filter(|lead| record.role == Role::Leader(lead.epoch)) else { return };
        let counts = |name: &str| {
            lead.acks.iter().any(|member| windlass_core::replication::epoch_of_name(*member, name) == Some(lead.epoch))
        };
        if live.senders.iter().any(|sender| sender.state.as_deref() == Some("streaming") && counts(&sender.name)) {
            self.follower_seen = BootInstant::now();
        }
    }
}

/// The order that holds.
pub(super) fn order_of(record: &Record) -> Option<Order> {
    // It was parsed before it was taken.
    record.order.as_ref().and_then(|order| Order::parse(order).ok())
}
