//! The machine of a member in virtual time, for simulations: the real memory, orders, decision, comparison and facts around
//! a server that the simulation models.
//!
//! What `machine`, `look` and `effects` do with a real server is split here where a crash may come between: a look gives
//! an [`Effect`], and the simulation says when it is done, or that the agent ended before. Times are since the beginning
//! of the simulation. What is on disk is [`Memory`]; what an end of the agent takes with it is [`Watcher`].

mod effect;

use std::{collections::VecDeque, time::Duration};

use windlass_core::id::{InstanceId, MemberId};
use windlass_proto::agent::v1 as pb;

use super::{
    decide::{Chores, Confirmed, Pace, Prepared, Step, View, decide},
    facts::{Told, facts},
    fence::Isolation,
    machine::order_of,
    order::{Goal, Order},
    rejoin::{Own, Rejoin, rejoin},
    sight::{Busy, Down, Sight, Standing, Start},
    state::{ProcessId, Promoting, Record, Role},
};
pub use effect::Effect;

pub use crate::engines::postgres::replication::{
    Ancestor, Barrier, Configuration, Gate, Leader, Live, Lsn, Position, Receiver, Recovering, Sender, Shared,
    SlotState,
};

const SOON: Duration = Duration::from_millis(20);
const SETTLED: Duration = Duration::from_millis(200);
const BELIEVED: Duration = Duration::from_secs(2);
const BELIEVED_WAIT: Duration = Duration::from_millis(60);
const CHORES_EVERY: Duration = Duration::from_secs(1);
const CRASH_WINDOW: Duration = Duration::from_secs(60);

/// What a member has on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory(Record);

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is in the memory now: its epoch and rev.
    New(u64, u64),
    /// It was the one that holds.
    Again,
    /// It was refused.
    Refused,
}

impl Memory {
    /// Of a member that has no order yet.
    pub fn new(instance: InstanceId, member: MemberId) -> Self {
        Self(Record::new(instance, member))
    }

    /// Of a member whose memory was lost while it had data.
    pub fn lost(instance: InstanceId, member: MemberId) -> Self {
        let distrust = "its memory is missing, and it has data".to_owned();
        Self(Record { distrust, ..Record::new(instance, member) })
    }

    /// Whether its data is not trusted.
    pub fn is_distrusted(&self) -> bool {
        !self.0.distrust.is_empty()
    }

    /// The highest epoch that it has seen.
    pub fn max_epoch(&self) -> u64 {
        self.0.max_epoch
    }

    /// For people.
    pub fn describe(&self) -> String {
        let record = &self.0;
        let order = order_of(record).map(|order| format!("{} of {} rev {}", order.goal.word(), order.epoch, order.rev));
        format!("{:?} {}{}", record.role, order.unwrap_or_default(), record.distrust)
    }
}

/// What is seen of a server.
#[derive(Debug, Clone)]
pub enum Seen {
    /// There is no data directory.
    NoData,
    /// It does not run.
    Down,
    /// It does not accept connections yet.
    Starting(u64),
    /// It answers no more, for so long.
    Silent(u64, Duration),
    /// It answers.
    Live(u64, Box<Live>),
}

/// What an agent knows of a member while it runs.
#[derive(Debug, Clone)]
pub struct Watcher {
    confirmed: u64,
    heard: Duration,
    process: Option<u64>,
    applied: Option<Configuration>,
    /// Files that the next process starts with, as a standby.
    launching: Option<Configuration>,
    enforced_rev: u64,
    gate: Gate,
    comparison: Option<(u64, Duration, Rejoin)>,
    barrier: Option<(Barrier, Option<Lsn>)>,
    fenced: bool,
    prepared: Option<(u64, Duration)>,
    checkpointed: Option<u64>,
    busy: Option<Busy>,
    chores_at: Option<Duration>,
    seen_live: bool,
    redo: u64,
    down_since: Option<Duration>,
    crashes: VecDeque<Duration>,
    expected_end: bool,
    follower_seen: Duration,
    streamed: Duration,
    fork: u64,
    sight: Sight,
    /// How the next start goes, or the present one.
    start: Start,
    why: String,
}

impl Watcher {
    /// Of an agent that just started.
    pub fn new(now: Duration) -> Self {
        Self {
            confirmed: 0,
            heard: now,
            process: None,
            applied: None,
            launching: None,
            enforced_rev: 0,
            gate: Gate::Shut,
            comparison: None,
            barrier: None,
            fenced: false,
            prepared: None,
            checkpointed: None,
            busy: None,
            chores_at: None,
            seen_live: false,
            redo: 0,
            down_since: None,
            crashes: VecDeque::new(),
            expected_end: false,
            follower_seen: now,
            streamed: now,
            fork: 0,
            sight: Sight::Starting(Start::Plain),
            start: Start::Plain,
            why: String::new(),
        }
    }

    /// The control plane answered a request of that time.
    pub fn heard(&mut self, sent_at: Duration) {
        self.heard = self.heard.max(sent_at);
    }

    /// Takes an order.
    pub fn take(&mut self, memory: &mut Memory, wire: &pb::ReplicationOrder) -> Taken {
        let Ok(order) = Order::parse(wire) else { return Taken::Refused };
        let record = &mut memory.0;
        if record.holds(&order) {
            self.confirmed = order.rev;
            return Taken::Again;
        }
        if !record.take(wire, &order) {
            return Taken::Refused;
        }
        self.confirmed = order.rev;
        Taken::New(order.epoch, order.rev)
    }

    /// Somebody showed an epoch.
    pub fn shown(&mut self, memory: &mut Memory, epoch: u64) {
        memory.0.max_epoch = memory.0.max_epoch.max(epoch);
    }

    /// Looks and decides.
    pub fn look(&mut self, memory: &mut Memory, seen: Seen, at: Look) -> Effect {
        self.see(memory, seen, at);
        let record = memory.0.clone();
        let order = order_of(&record);
        let step = decide(&self.view(&record, order.as_ref(), at));
        self.effect(memory, order.as_ref(), step, at)
    }

    /// What is told of the member.
    pub fn facts(&self, memory: &Memory, at: Look) -> pb::ReplicaFacts {
        let order = order_of(&memory.0);
        // One that was asked for was written before the next look.
        let asked = order.as_ref().and_then(|order| match &order.goal {
            Goal::Lead(lead) if matches!(self.sight, Sight::Live(_)) => Some(lead.checkpoint_rev),
            Goal::Lead(_) | Goal::Follow(_) | Goal::Seal | Goal::Drain | Goal::Rest => None,
        });
        let told = Told {
            why: &self.why,
            fork: self.fork,
            progress: -1,
            enforced_rev: self.enforced_rev,
            redo: self.redo,
            checkpointed: asked.unwrap_or(0),
        };
        facts(&self.view(&memory.0, order.as_ref(), at), told)
    }

    fn see(&mut self, memory: &mut Memory, seen: Seen, at: Look) {
        while self.crashes.front().is_some_and(|crash| at.now.saturating_sub(*crash) > CRASH_WINDOW) {
            self.crashes.pop_front();
        }
        self.sight = match seen {
            Seen::NoData => {
                self.gone(at);
                Sight::NoData
            }
            Seen::Down => {
                self.gone(at);
                let since = at.now.saturating_sub(self.down_since.unwrap_or(at.now));
                Sight::Down(Down {
                    how: "it ended".to_owned(),
                    since,
                    incurable: None,
                    hopeless: None,
                    redo: self.redo,
                })
            }
            Seen::Starting(process) => {
                self.meet(process, at);
                Sight::Starting(self.start)
            }
            Seen::Silent(process, since) => {
                self.meet(process, at);
                Sight::Silent(since)
            }
            Seen::Live(process, live) => {
                self.meet(process, at);
                self.learn(&mut memory.0, &live, at);
                Sight::Live(live)
            }
        };
    }

    fn meet(&mut self, process: u64, at: Look) {
        if self.process == Some(process) {
            return;
        }
        self.process = Some(process);
        (self.applied, self.down_since, self.seen_live) = (self.launching.take(), None, false);
        self.expected_end = false;
        self.barrier = None;
        self.gate = at.gate;
    }

    fn gone(&mut self, at: Look) {
        if self.process.take().is_some() || self.down_since.is_none() {
            let crashed = std::mem::take(&mut self.seen_live) && !self.expected_end;
            if crashed {
                self.crashes.push_back(at.now);
            }
            self.start = if crashed { Start::AfterCrash } else { Start::Plain };
            self.down_since = Some(at.now);
            (self.applied, self.launching, self.fenced) = (None, None, false);
            self.expected_end = false;
            self.barrier = None;
        }
    }

    fn learn(&mut self, record: &mut Record, live: &Live, at: Look) {
        self.seen_live = true;
        self.redo = live.inserted.map_or(0, |inserted| inserted.0.saturating_sub(live.redo.0));
        if let Some(lead) = record.lead.as_ref().filter(|lead| record.role == Role::Leader(lead.epoch)) {
            let counts = |name: &str| {
                let epoch = |member: &MemberId| windlass_core::replication::epoch_of_name(*member, name);
                lead.acks.iter().any(|member| epoch(member) == Some(lead.epoch))
            };
            if live.senders.iter().any(|sender| sender.state.as_deref() == Some("streaming") && counts(&sender.name)) {
                self.follower_seen = at.now;
            }
        }
        let streams = live.receiver.as_ref().is_some_and(|receiver| receiver.status == "streaming");
        if streams || self.applied.as_ref().is_none_or(|applied| applied.upstream.is_none()) {
            self.streamed = at.now;
        }
        self.fork = at.fork;
        (record.timeline, record.system) = (at.timeline, live.system.clone());
    }

    fn view<'a>(&'a self, record: &'a Record, order: Option<&'a Order>, at: Look) -> View<'a> {
        let rev = order.map_or(0, |order| order.rev);
        let believed = |(of, when, outcome): &&(u64, Duration, Rejoin)| {
            let limit = if matches!(outcome, Rejoin::Wait(_)) { BELIEVED_WAIT } else { BELIEVED };
            *of == rev && (at.now.saturating_sub(*when) < limit || matches!(self.sight, Sight::Down(_)))
        };
        View {
            standing: Standing {
                record,
                sight: &self.sight,
                process: self.process.map(identity),
                gate: self.gate,
                busy: self.busy,
                fenced: self.fenced,
                stuck: false,
                resting: order.is_some_and(|order| order.goal == Goal::Rest),
            },
            order,
            // Here the disk is never slow.
            challenged: record.max_epoch,
            confirmed: if self.confirmed == rev { Confirmed::Yes } else { Confirmed::No },
            applied: self.applied.as_ref(),
            acknowledged: self.acknowledged(record),
            comparison: self.comparison.as_ref().filter(believed).map(|(_, _, outcome)| outcome),
            isolation: Isolation {
                control_plane_silent: at.now.saturating_sub(self.heard),
                followers_gone: at.now.saturating_sub(self.follower_seen),
            },
            crashes: u32::try_from(self.crashes.len()).unwrap_or(u32::MAX),
            marker: at.marker,
            stalled: at.now.saturating_sub(self.streamed),
            same_boot: record.opened.is_some() && record.opened_in == at.boot.to_string(),
            prepared: match self.prepared {
                Some((process, _)) if Some(process) != self.process => Prepared::Nothing,
                Some((process, _)) if self.checkpointed == Some(process) => Prepared::Checkpoint,
                Some((_, since)) => Prepared::Database(at.now.saturating_sub(since)),
                None => Prepared::Nothing,
            },
            chores: if self.chores_at.is_none_or(|done| at.now.saturating_sub(done) >= CHORES_EVERY) {
                Chores::Due
            } else {
                Chores::Done
            },
        }
    }

    fn acknowledged(&self, record: &Record) -> Option<Barrier> {
        let (row, end) = self.barrier?;
        let end = end?;
        let (Sight::Live(live), Some(lead)) = (&self.sight, record.lead.as_ref()) else { return None };
        let names: Vec<String> =
            lead.acks.iter().map(|member| windlass_core::replication::epoch_name(*member, lead.epoch)).collect();
        let has =
            |sender: &&Sender| names.contains(&sender.name) && sender.flushed.is_some_and(|flushed| flushed >= end);
        (live.senders.iter().filter(has).count() >= lead.needed as usize).then_some(row)
    }

    fn effect(&mut self, memory: &mut Memory, order: Option<&Order>, step: Step, at: Look) -> Effect {
        let record = &mut memory.0;
        let leader = || {
            order.and_then(|order| match &order.goal {
                Goal::Follow(follow) => Some(follow.leader.member),
                Goal::Lead(_) | Goal::Seal | Goal::Drain | Goal::Rest => None,
            })
        };
        match step {
            Step::Wait { why, pace } => {
                self.why = why;
                Effect::Wait(match pace {
                    Pace::Soon | Pace::Woken => SOON,
                    Pace::Settled => SETTLED,
                })
            }
            Step::Become(role) => {
                self.comparison = None;
                record.assume(role);
                Effect::Again
            }
            Step::Configure { configuration, gate } => {
                if self.applied.as_ref() != Some(&configuration) {
                    self.applied = None;
                }
                Effect::Configure(configuration, gate)
            }
            Step::Launch(recovering, configuration) => Effect::Launch(recovering, configuration),
            Step::Kill => {
                self.expected_end = true;
                Effect::Kill
            }
            Step::Stop => {
                self.busy = Some(Busy::Draining);
                self.expected_end = true;
                Effect::Stop
            }
            Step::Examine => {
                self.chores_at = Some(at.now);
                Effect::Examine
            }
            Step::Halt => {
                self.busy = Some(Busy::Rewinding);
                self.expected_end = true;
                Effect::Halt
            }
            Step::Promote(promoting, configuration) => {
                record.promoting = Some(promoting);
                self.applied = None;
                Effect::Promote(configuration)
            }
            Step::Prepare => Effect::Prepare(self.process.unwrap_or_default()),
            Step::Checkpoint => Effect::Checkpoint(self.process.unwrap_or_default()),
            Step::Slots(_) => {
                self.chores_at = Some(at.now);
                Effect::Slots
            }
            Step::Barrier(row) if self.barrier.is_some_and(|(known, _)| known == row) => Effect::Wait(SOON),
            Step::Barrier(row) => {
                self.barrier = Some((row, None));
                Effect::Barrier(row)
            }
            Step::Admit(opened) => {
                (record.opened, record.opened_in, record.promoting) = (Some(opened), at.boot.to_string(), None);
                self.fenced = false;
                Effect::Again
            }
            Step::Fence => {
                self.fenced = true;
                self.barrier = None;
                record.opened = None;
                Effect::Configure(self.applied.clone().unwrap_or_default(), Gate::Shut)
            }
            Step::Compare => leader().map_or(Effect::Wait(SOON), Effect::Compare),
            Step::Copy(_) => {
                self.busy = Some(Busy::Copying);
                leader().map_or(Effect::Wait(SOON), Effect::Copy)
            }
            Step::Rewind { fork, .. } => {
                self.busy = Some(Busy::Rewinding);
                leader().map_or(Effect::Wait(SOON), |leader| Effect::Rewind(leader, fork))
            }
            Step::SetAside { ordered, .. } => {
                self.expected_end = true;
                Effect::SetAside(ordered)
            }
            Step::Distrust(why) => {
                self.expected_end = true;
                record.distrust = why;
                Effect::Kill
            }
        }
    }

    /// The server has read its files.
    pub fn configured(&mut self, memory: &Memory, configuration: Configuration, gate: Gate) {
        self.gate = gate;
        let lead = order_of(&memory.0).filter(|order| matches!(order.goal, Goal::Lead(_)));
        if let Some(order) = lead.filter(|_| configuration.epoch.is_some()) {
            self.enforced_rev = order.rev;
        }
        self.applied = Some(configuration);
    }

    /// The server is about to be started with these files.
    pub fn launched(&mut self, memory: &mut Memory, recovering: Recovering, configuration: Configuration) {
        self.launching = (recovering == Recovering::Yes).then_some(configuration);
        memory.0.starts += 1;
        memory.0.stopped_at = None;
        (self.gate, self.fenced) = (Gate::Shut, false);
    }

    /// The server was stopped in order, with this end of its log; None if it was not in order.
    pub fn stopped(&mut self, memory: &mut Memory, end: Option<Lsn>) {
        self.busy = None;
        memory.0.stopped_at = end;
    }

    /// The server was stopped, or something did not work out: it is decided anew.
    pub fn halted(&mut self) {
        self.busy = None;
    }

    /// The process has what it needs.
    pub fn prepared(&mut self, process: u64, now: Duration) {
        self.prepared = Some((process, now));
    }

    /// The process was asked for a checkpoint.
    pub fn checkpointed(&mut self, process: u64) {
        self.checkpointed = Some(process);
    }

    /// A barrier was released; `end` is a position behind it.
    pub fn committed(&mut self, row: Barrier, end: Lsn) {
        if let Some((known, position)) = &mut self.barrier
            && *known == row
        {
            *position = Some(end);
        }
    }

    /// A barrier could not be written: its server just ended, or stands still.
    pub fn uncommitted(&mut self, row: Barrier) {
        self.barrier = self.barrier.filter(|(known, _)| *known != row);
    }

    /// The leader answered.
    pub fn compared(&mut self, memory: &Memory, position: Position, leader: &Leader, now: Duration) {
        let record = &memory.0;
        let Some(order) = order_of(record) else { return };
        let (Goal::Follow(follow), Sight::Live(live)) = (&order.goal, &self.sight) else { return };
        let own = Own {
            position,
            barrier: live.barrier,
            promoting: record.promoting,
            rewound: record.rewound_for == order.epoch,
        };
        self.comparison = Some((order.rev, now, rejoin(order.epoch, follow, &own, leader)));
    }

    /// The newest barrier row of the server that was seen.
    pub fn barrier_seen(&self) -> Option<Barrier> {
        match &self.sight {
            Sight::Live(live) => live.barrier,
            Sight::NoData | Sight::Down(_) | Sight::Starting(_) | Sight::Silent(_) => None,
        }
    }

    /// The epoch and rev of the order that holds.
    pub fn order(memory: &Memory) -> (u64, u64) {
        memory.0.order.as_ref().map_or((0, 0), |order| (order.epoch, order.rev))
    }

    /// A copy is in place.
    pub fn copied(&mut self, memory: &mut Memory, epoch: u64) {
        self.busy = None;
        let record = &mut memory.0;
        (record.role, record.promoting, record.opened) = (Role::Demoted(epoch), None, None);
        (record.distrust, record.stopped_at) = (String::new(), None);
    }

    /// A rewind is done.
    pub fn rewound(&mut self, memory: &mut Memory, epoch: u64) {
        (self.busy, self.comparison) = (None, None);
        let record = &mut memory.0;
        record.rewound_for = epoch;
        (record.role, record.promoting, record.stopped_at) = (Role::Demoted(epoch), None, None);
    }

    /// The data is put aside.
    pub fn put_aside(&mut self, memory: &mut Memory, ordered: Option<u64>) {
        self.comparison = None;
        let record = &mut memory.0;
        record.copied_anew = ordered.unwrap_or(record.copied_anew);
        (record.distrust, record.stopped_at, record.promoting) = (String::new(), None, None);
        record.role = Role::Demoted(record.max_epoch);
    }

    /// Whether it was to be promoted for this epoch, by its own memory.
    pub fn is_promoting(memory: &Memory) -> Option<u64> {
        memory.0.promoting.map(|Promoting { epoch, .. }| epoch)
    }
}

/// What is the same for all of one look.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Now.
    pub now: Duration,
    /// The gate as the files have it.
    pub gate: Gate,
    /// A rewind was not finished.
    pub marker: bool,
    /// Which start of the machine.
    pub boot: u64,
    /// The server's timeline, and where that left its parent.
    pub timeline: u32,
    /// See `timeline`.
    pub fork: u64,
}

fn identity(process: u64) -> ProcessId {
    ProcessId { pid: i32::try_from(process).unwrap_or(i32::MAX), second: 0 }
}
