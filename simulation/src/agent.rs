//! Agents: the real machine of each member, and the effects of its steps on the model of its server.
//!
//! An effect takes time, and whatever ends the agent meanwhile ends the effect undone, half done or done, as with a real
//! one: what the machine wrote to its memory before stays.

use std::time::Duration;

use windlass_agent::ha::simulated::{
    Ancestor, Barrier, Configuration, Effect, Gate, Leader, Lsn, Position, Recovering, Shared, Watcher,
};
use windlass_core::id::MemberId;
use windlass_proto::agent::v1 as pb;

use crate::{
    log::{Kind, Log, position},
    network::Place,
    server::{Server, Time, Waiter},
    world::{Event, World},
};

/// A stop waits for followers that do not answer until they are given up.
const STOP_WAITS: Duration = Duration::from_secs(3);

/// An agent that runs.
#[derive(Debug)]
pub(crate) struct Agent {
    /// The machine of its member.
    pub(crate) watcher: Watcher,
    /// Which node of the control plane it talks to.
    pub(crate) control: usize,
    /// When that node answered last.
    pub(crate) answered: Time,
    pub(crate) reports: u64,
    pub(crate) told: Option<pb::ReplicaFacts>,
    /// A step is under way.
    busy: bool,
    /// When its timers should have run, to tell lateness.
    pub(crate) late: bool,
}

/// A step that takes time.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Configure(Configuration, Gate),
    Launch(Recovering, Configuration),
    Kill,
    Stop,
    Examine,
    Halt,
    PromoteNames(Configuration),
    Promote,
    Prepare(u64),
    Checkpoint(u64),
    Slots,
    Barrier(Barrier),
    Ask(MemberId, Option<Barrier>),
    Answer(Box<Leader>),
    Copy(MemberId, (u64, u64)),
    Rewind(MemberId, Lsn, (u64, u64)),
    SetAside(Option<u64>),
}

impl World {
    /// Starts the agent of a member.
    pub(crate) fn start_agent(&mut self, node: usize) {
        let life = self.unique();
        let control = usize::try_from(self.random.below(self.controls.len() as u64)).unwrap_or(0);
        let now = self.now;
        let host = &mut self.nodes[node];
        host.life = life;
        host.agent = Some(Agent {
            watcher: Watcher::new(now),
            control,
            answered: now,
            reports: 0,
            told: None,
            busy: false,
            late: false,
        });
        self.look_after(node, Duration::from_millis(5));
        self.after(Duration::from_millis(30), Event::Report { node, life });
    }

    /// Whether this run of the agent goes on; if its machine stands still, the event is put off.
    pub(crate) fn runs(&mut self, node: usize, life: u64, event: impl FnOnce() -> Event) -> bool {
        if self.nodes[node].agent.is_none() || self.nodes[node].life != life {
            return false;
        }
        if let Some(until) = self.nodes[node].paused {
            let wait = until.saturating_sub(self.now) + Duration::from_micros(20);
            if let Some(agent) = &mut self.nodes[node].agent {
                agent.late = true;
            }
            let event = event();
            if matches!(event, Event::Look { .. }) {
                self.nodes[node].looks_at = self.now + wait;
            }
            self.after(wait, event);
            return false;
        }
        true
    }

    /// The agent looks at its member, and begins what follows.
    pub(crate) fn look(&mut self, node: usize, life: u64) {
        if !self.runs(node, life, || Event::Look { node, life }) {
            return;
        }
        // One that waits for a step to end is woken by that.
        if self.nodes[node].looks_at != self.now || self.nodes[node].agent.as_ref().is_some_and(|agent| agent.busy) {
            return;
        }
        let (seen, at) = (self.seen_of(node), self.look_at(node));
        let host = &mut self.nodes[node];
        let Some(agent) = &mut host.agent else { return };
        let effect = agent.watcher.look(&mut host.memory, seen, at);
        self.tell_facts(node, life);
        self.begin_effect(node, life, effect);
    }

    fn begin_effect(&mut self, node: usize, life: u64, effect: Effect) {
        if !matches!(effect, Effect::Wait(_) | Effect::Again) {
            self.tell(|world| format!("member {node} begins {}", brief(&effect, world)));
        }
        let order = Watcher::order(&self.nodes[node].memory);
        let (pause, action) = match effect {
            Effect::Wait(pause) => return self.look_after(node, pause),
            Effect::Again => return self.look_after(node, Duration::from_micros(500)),
            Effect::Configure(configuration, gate) => {
                (self.random.millis(1, 15), Action::Configure(configuration, gate))
            }
            Effect::Launch(recovering, configuration) => {
                let host = &mut self.nodes[node];
                if let Some(agent) = &mut host.agent {
                    agent.watcher.launched(&mut host.memory, recovering, configuration.clone());
                }
                (self.random.millis(1, 20), Action::Launch(recovering, configuration))
            }
            Effect::Kill => (self.random.millis(1, 60), Action::Kill),
            Effect::Stop => (self.random.millis(5, 100), Action::Stop),
            Effect::Examine => (self.random.millis(5, 50), Action::Examine),
            Effect::Halt => (self.random.millis(5, 60), Action::Halt),
            Effect::Promote(configuration) => (self.random.millis(1, 15), Action::PromoteNames(configuration)),
            Effect::Prepare(process) => (self.random.millis(1, 10), Action::Prepare(process)),
            Effect::Checkpoint(process) => (self.random.millis(2, 20), Action::Checkpoint(process)),
            Effect::Slots => (self.random.millis(1, 10), Action::Slots),
            Effect::Barrier(row) => {
                // Whoever waited for it before was given up.
                if let Some(process) = &mut self.nodes[node].server.process {
                    process.waiting.retain(|(_, waiter)| *waiter != Waiter::Barrier(row));
                }
                (self.random.millis(1, 5), Action::Barrier(row))
            }
            Effect::Compare(leader) => {
                let newest = self.nodes[node].agent.as_ref().and_then(|agent| agent.watcher.barrier_seen());
                (self.random.millis(2, 15), Action::Ask(leader, newest))
            }
            Effect::Copy(leader) => (self.random.millis(100, 3_000), Action::Copy(leader, order)),
            Effect::Rewind(leader, fork) => {
                // The marker is on disk before anything is touched.
                self.nodes[node].server.marker = true;
                (self.random.millis(100, 1_500), Action::Rewind(leader, fork, order))
            }
            Effect::SetAside(ordered) => (self.random.millis(5, 100), Action::SetAside(ordered)),
        };
        if let Some(agent) = &mut self.nodes[node].agent {
            agent.busy = true;
        }
        self.after(pause, Event::Act { node, life, action });
    }

    /// What an agent began is done.
    pub(crate) fn act(&mut self, node: usize, life: u64, action: Action) {
        let again = action.clone();
        if !self.runs(node, life, || Event::Act { node, life, action: again }) {
            return;
        }
        let done = self.perform(node, life, action);
        if done {
            if let Some(agent) = &mut self.nodes[node].agent {
                agent.busy = false;
            }
            self.look_after(node, Duration::from_micros(500));
        }
    }

    /// False if the step goes on with another event.
    fn perform(&mut self, node: usize, life: u64, action: Action) -> bool {
        let now = self.now;
        match action {
            Action::Configure(configuration, gate) => self.configure(node, configuration, gate),
            Action::Launch(recovering, configuration) => {
                let number = self.unique();
                let ready = now + self.random.millis(30, 250);
                let server = &mut self.nodes[node].server;
                if server.process.is_none() {
                    (server.conf, server.gate) = (configuration, Gate::Shut);
                    server.standby_signal = recovering == Recovering::Yes;
                    server.start(number, ready);
                }
            }
            Action::Kill => {
                self.end_server(node);
                self.nodes[node].server.standby_signal = true;
            }
            Action::Stop => return self.begin_stop(node),
            Action::Examine => {
                let in_order = self.nodes[node].server.process.is_none() && self.nodes[node].server.clean;
                self.after_stop(node, in_order);
            }
            Action::Halt => {
                self.end_server(node);
                self.nodes[node].server.clean = true;
                if let Some(agent) = &mut self.nodes[node].agent {
                    agent.watcher.halted();
                }
            }
            Action::PromoteNames(configuration) => {
                self.configure(node, configuration, Gate::Shut);
                let pause = self.random.millis(5, 60);
                self.after(pause, Event::Act { node, life, action: Action::Promote });
                return false;
            }
            Action::Promote => self.promote(node),
            Action::Prepare(process) => {
                if let Some(agent) = &mut self.nodes[node].agent {
                    agent.watcher.prepared(process, now);
                }
            }
            Action::Checkpoint(process) => {
                if let Some(agent) = &mut self.nodes[node].agent {
                    agent.watcher.checkpointed(process);
                }
                let server = &mut self.nodes[node].server;
                let timeline = server.log.as_ref().map_or(0, |log| log.timeline);
                if let Some(running) = server.running_mut(now) {
                    running.checkpoint_timeline = timeline;
                }
            }
            Action::Slots => {
                let server = &mut self.nodes[node].server;
                if let Some(running) = server.running_mut(now) {
                    running.slots = running.conf.members.clone();
                }
            }
            Action::Barrier(row) => self.write_barrier(node, row),
            Action::Ask(leader, newest) => {
                let answer = self.index(leader).and_then(|leader| self.ask(node, leader, newest));
                // No answer within the limit is an error, after which it is decided anew.
                let pause = if answer.is_some() { self.random.millis(1, 10) } else { Duration::from_millis(250) };
                match answer {
                    Some(answer) => {
                        let action = Action::Answer(Box::new(answer));
                        self.after(pause, Event::Act { node, life, action });
                    }
                    None => {
                        if let Some(agent) = &mut self.nodes[node].agent {
                            agent.busy = false;
                        }
                        self.look_after(node, pause);
                    }
                }
                return false;
            }
            Action::Answer(leader) => {
                let Some(own) = self.nodes[node].server.log.as_ref().map(place_in_history) else { return true };
                let host = &mut self.nodes[node];
                if let Some(agent) = &mut host.agent {
                    agent.watcher.compared(&host.memory, own, &leader, now);
                }
            }
            Action::Copy(leader, order) => self.copy(node, leader, order),
            Action::Rewind(leader, fork, order) => self.rewind(node, leader, fork, order),
            Action::SetAside(ordered) => {
                self.end_server(node);
                let host = &mut self.nodes[node];
                (host.server.log, host.server.marker, host.server.clean) = (None, false, false);
                if let Some(agent) = &mut host.agent {
                    agent.watcher.put_aside(&mut host.memory, ordered);
                }
            }
        }
        true
    }

    /// Files and a reload.
    fn configure(&mut self, node: usize, configuration: Configuration, gate: Gate) {
        let now = self.now;
        let host = &mut self.nodes[node];
        let was_shut = host.server.process.as_ref().is_some_and(|process| process.gate == Gate::Shut);
        (host.server.conf, host.server.gate) = (configuration.clone(), gate);
        if host.server.running(now).is_none() {
            return;
        }
        host.server.reload();
        if let (Gate::Shut, Some(process)) = (gate, &mut host.server.process) {
            // Sessions are ended; who waited for a commit is told nothing.
            process.waiting.retain(|(_, waiter)| !matches!(waiter, Waiter::Client(_)));
        }
        if let Some(agent) = &mut host.agent {
            agent.watcher.configured(&host.memory, configuration, gate);
        }
        if was_shut && gate == Gate::Open {
            self.opened(node);
        }
        self.release(node);
    }

    /// P6: a gate that is open has a barrier of the epoch behind it.
    fn opened(&mut self, node: usize) {
        let server = &self.nodes[node].server;
        // A standby's gate guards nothing but reads.
        let Some(process) = server.process.as_ref().filter(|process| !process.recovering) else { return };
        let barrier = server.log.as_ref().and_then(Log::barrier);
        let waits = process.waiting.iter().any(|(_, waiter)| barrier.map(Waiter::Barrier) == Some(*waiter));
        if waits || barrier.map(|row| row.epoch) != process.leads() {
            let what = format!("member {node} opened in epoch {:?} over barrier {barrier:?}", process.leads());
            self.checker.fail("P6", what);
        }
    }

    /// Ends the server at once.
    pub(crate) fn end_server(&mut self, node: usize) {
        if self.nodes[node].server.process.take().is_some() {
            self.wake(node);
            // Whoever was connected is told by the end of the connection.
            for other in 0..self.nodes.len() {
                if self.network.connects(Place::Host(node), Place::Host(other)) {
                    self.connections(other);
                }
            }
        }
    }

    /// The agent looks soon.
    pub(crate) fn wake(&mut self, node: usize) {
        let (planned, soon) = (self.nodes[node].looks_at, self.now + Duration::from_millis(1));
        if self.nodes[node].agent.is_some() && (planned <= self.now || planned > soon) {
            self.look_after(node, Duration::from_millis(1));
        }
    }

    /// The agent looks after a pause, and not before.
    pub(crate) fn look_after(&mut self, node: usize, pause: Duration) {
        let host = &mut self.nodes[node];
        host.looks_at = self.now + pause;
        let life = host.life;
        self.after(pause, Event::Look { node, life });
    }

    /// Shuts the gate, writes the last record, and waits for followers.
    fn begin_stop(&mut self, node: usize) -> bool {
        let (now, unique) = (self.now, self.unique());
        let server = &mut self.nodes[node].server;
        server.gate = Gate::Shut;
        let Some(process) = &mut server.process else {
            self.after_stop(node, false);
            return true;
        };
        let (number, recovering) = (process.number, process.recovering);
        process.gate = Gate::Shut;
        process.waiting.retain(|(_, waiter)| !matches!(waiter, Waiter::Client(_)));
        process.stopping = Some(now);
        if recovering {
            self.end_server(node);
            self.after_stop(node, true);
            return true;
        }
        server.append(unique, Kind::Shutdown);
        self.transmit(node);
        self.after(Duration::from_millis(2), Event::Stopped { node, process: number });
        false
    }

    /// A server that stops looks whether its followers have everything.
    pub(crate) fn stopped(&mut self, node: usize, number: u64) {
        let now = self.now;
        let server = &self.nodes[node].server;
        let Some(process) = server.process.as_ref().filter(|process| process.number == number) else {
            return self.after_stop(node, false);
        };
        let end = server.log.as_ref().map_or(0, |log| log.records.len());
        let waits = process.senders.values().any(|sender| sender.flushed < end);
        let begun = process.stopping.unwrap_or(now);
        if process.frozen.is_some() || (waits && now - begun < STOP_WAITS) {
            return self.after(Duration::from_millis(10), Event::Stopped { node, process: number });
        }
        self.end_server(node);
        self.after_stop(node, true);
    }

    fn after_stop(&mut self, node: usize, in_order: bool) {
        let host = &mut self.nodes[node];
        host.server.clean = in_order;
        let end = host.server.log.as_ref().map(|log| Lsn(log.end())).filter(|_| in_order);
        let Some(agent) = &mut host.agent else { return };
        agent.busy = false;
        agent.watcher.stopped(&mut host.memory, end);
        self.wake(node);
    }

    fn promote(&mut self, node: usize) {
        let (now, unique) = (self.now, self.unique());
        let server = &mut self.nodes[node].server;
        let Some(process) = server.running_mut(now).filter(|process| process.recovering) else { return };
        process.recovering = false;
        process.receiver = None;
        let epoch = process.leads();
        server.standby_signal = false;
        if let Some(log) = &mut server.log {
            log.promote(unique);
        }
        let log = server.log.clone();
        self.tell(|_| format!("member {node} is promoted for epoch {epoch:?}"));
        if let (Some(epoch), Some(log)) = (epoch, log) {
            self.checker.promote(epoch, node, &log);
        }
        self.wrote(node);
    }

    fn write_barrier(&mut self, node: usize, row: Barrier) {
        let (now, unique) = (self.now, self.unique());
        let host = &mut self.nodes[node];
        let server = &mut host.server;
        if server.running(now).is_none_or(|process| process.recovering) {
            if let Some(agent) = &mut host.agent {
                agent.watcher.uncommitted(row);
            }
            return;
        }
        let end = server.append(unique, Kind::Barrier(row));
        if let Some(process) = &mut server.process {
            process.waiting.push((end, Waiter::Barrier(row)));
        }
        self.wrote(node);
    }

    /// A barrier was released on its server.
    pub(crate) fn barrier_acknowledged(&mut self, node: usize, row: Barrier) {
        let host = &mut self.nodes[node];
        let end = host.server.log.as_ref().map_or(0, Log::end);
        if let Some(agent) = &mut host.agent {
            agent.watcher.committed(row, Lsn(end));
        }
        self.wake(node);
    }

    /// A leader's answer to a member that is to follow it.
    fn ask(&self, node: usize, leader: usize, newest: Option<Barrier>) -> Option<Leader> {
        if !self.network.connects(Place::Host(node), Place::Host(leader)) || self.nodes[leader].paused.is_some() {
            return None;
        }
        let server = &self.nodes[leader].server;
        let (process, log) = (server.running(self.now)?, server.log.as_ref()?);
        let visible = |row: &Barrier| {
            log.has_row(row) && !process.waiting.iter().any(|(_, waiter)| *waiter == Waiter::Barrier(*row))
        };
        let shared = newest.is_none_or(|row| visible(&row));
        Some(Leader {
            recovering: process.recovering,
            position: place_in_history(log),
            checkpoint_timeline: process.checkpoint_timeline,
            epoch: process.conf.epoch,
            shared: if shared { Shared::Yes } else { Shared::No },
            has_log: Some(true),
        })
    }

    fn copy(&mut self, node: usize, leader: MemberId, order: (u64, u64)) {
        let current = Watcher::order(&self.nodes[node].memory);
        let source = self.index(leader).and_then(|leader| {
            let answer = self.ask(node, leader, None)?;
            let good = !answer.recovering && answer.epoch == Some(order.0) && current == order;
            self.nodes[leader].server.log.clone().filter(|_| good)
        });
        let host = &mut self.nodes[node];
        let Some(agent) = &mut host.agent else { return };
        match source {
            Some(log) => {
                host.server.log = Some(log);
                (host.server.standby_signal, host.server.clean, host.server.marker) = (true, false, false);
                agent.watcher.copied(&mut host.memory, order.0);
            }
            None => agent.watcher.halted(),
        }
    }

    fn rewind(&mut self, node: usize, leader: MemberId, fork: Lsn, order: (u64, u64)) {
        let current = Watcher::order(&self.nodes[node].memory);
        let source = self.index(leader).and_then(|leader| {
            let answer = self.ask(node, leader, None)?;
            let log = self.nodes[leader].server.log.clone().filter(|_| current == order)?;
            Some((answer.checkpoint_timeline, log))
        });
        let host = &mut self.nodes[node];
        let Some(agent) = &mut host.agent else { return };
        let Some((checkpoint_timeline, log)) = source else { return agent.watcher.halted() };
        // pg_rewind goes by the control file: before the leader's first checkpoint it sees nothing to do.
        let own = host.server.log.as_ref();
        if checkpoint_timeline == log.timeline && own.is_some_and(|own| position(own.common(&log)) <= fork.0) {
            host.server.log = Some(log);
        }
        host.server.marker = false;
        host.server.standby_signal = true;
        agent.watcher.rewound(&mut host.memory, order.0);
    }

    /// The server of a member, for faults.
    pub(crate) fn server(&mut self, node: usize) -> &mut Server {
        &mut self.nodes[node].server
    }
}

/// Where a log stands, as the machine compares it.
fn place_in_history(log: &Log) -> Position {
    Position {
        system: log.system.to_string(),
        timeline: log.timeline,
        history: log
            .history
            .iter()
            .map(|(timeline, end)| Ancestor { timeline: *timeline, end: Lsn(position(*end)) })
            .collect(),
        end: Lsn(log.end()),
    }
}

fn brief(effect: &Effect, _world: &World) -> String {
    let text = format!("{effect:?}");
    text.chars().take(220).collect()
}
