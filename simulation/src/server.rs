//! A model of a PostgreSQL server: directory, process, who streams from it, and which commits wait for whom.
//!
//! Times of effects are the world's matter; here is only what an effect does. Invariants of the real one that are kept: a
//! commit is durable here before it is sent; a waiting commit is released by the set in force at that moment, also by one
//! that was just made smaller; after a restart everything durable is visible, acknowledged or not.

use std::{collections::BTreeMap, time::Duration};

use windlass_agent::ha::simulated::{Barrier, Configuration, Gate};
use windlass_core::id::MemberId;

use crate::log::{Kind, Log, Record};

/// Virtual time since the beginning.
pub(crate) type Time = Duration;

/// What is on the disk of a member, and the process on it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) log: Option<Log>,
    pub(crate) standby_signal: bool,
    pub(crate) conf: Configuration,
    pub(crate) gate: Gate,
    /// The control file says that it was stopped in order.
    pub(crate) clean: bool,
    /// A rewind has not ended.
    pub(crate) marker: bool,
    pub(crate) process: Option<Process>,
}

/// A running server.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    /// Which one; never used again.
    pub(crate) number: u64,
    pub(crate) recovering: bool,
    pub(crate) ready: Time,
    pub(crate) conf: Configuration,
    pub(crate) gate: Gate,
    pub(crate) receiver: Option<Receiver>,
    pub(crate) senders: BTreeMap<usize, Sender>,
    pub(crate) waiting: Vec<(usize, Waiter)>,
    /// Stopped by a signal or by its disk since then.
    pub(crate) frozen: Option<Time>,
    pub(crate) checkpoint_timeline: u32,
    /// It is stopping in order since then.
    pub(crate) stopping: Option<Time>,
    /// Slots of its followers.
    pub(crate) slots: Vec<MemberId>,
}

/// The receiving end of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    pub(crate) connection: u64,
    pub(crate) upstream: usize,
    /// When the other end was heard last.
    pub(crate) heard: Time,
}

/// The sending end of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) connection: u64,
    pub(crate) name: String,
    /// Records sent, and known to be durable there.
    pub(crate) sent: usize,
    pub(crate) flushed: usize,
    pub(crate) heard: Time,
    /// TCP keeps the order: nothing arrives before this.
    pub(crate) arrives: Time,
    pub(crate) returns: Time,
}

/// Who waits for a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiter {
    Client(u32),
    Barrier(Barrier),
}

impl Server {
    pub(crate) fn new(log: Option<Log>) -> Self {
        Self {
            log,
            standby_signal: false,
            conf: Configuration::default(),
            gate: Gate::Shut,
            clean: false,
            marker: false,
            process: None,
        }
    }

    /// Starts it on what is there.
    pub(crate) fn start(&mut self, number: u64, ready: Time) {
        let Some(log) = &self.log else { return };
        self.clean = false;
        self.process = Some(Process {
            number,
            recovering: self.standby_signal,
            ready,
            conf: self.conf.clone(),
            gate: self.gate,
            receiver: None,
            senders: BTreeMap::new(),
            waiting: Vec::new(),
            frozen: None,
            // What the last checkpoint before said: a restart point or the end of recovery writes one.
            checkpoint_timeline: log.timeline,
            stopping: None,
            slots: Vec::new(),
        });
    }

    /// A process that answers.
    pub(crate) fn running(&self, now: Time) -> Option<&Process> {
        self.process.as_ref().filter(|process| process.ready <= now && process.frozen.is_none())
    }

    /// As [`Self::running`].
    pub(crate) fn running_mut(&mut self, now: Time) -> Option<&mut Process> {
        self.process.as_mut().filter(|process| process.ready <= now && process.frozen.is_none())
    }

    /// Reads its configuration anew.
    pub(crate) fn reload(&mut self) {
        let (conf, gate) = (self.conf.clone(), self.gate);
        if let Some(process) = &mut self.process {
            let moved = process.conf.upstream != conf.upstream;
            process.conf = conf;
            process.gate = gate;
            if moved {
                process.receiver = None;
            }
        }
    }

    /// Writes a record; the position of its end, in records.
    pub(crate) fn append(&mut self, unique: u64, kind: Kind) -> usize {
        let Some(log) = &mut self.log else { return 0 };
        log.records.push(Record { unique, kind });
        log.records.len()
    }
}

impl Process {
    /// It leads an epoch, gate open or not.
    pub(crate) fn leads(&self) -> Option<u64> {
        self.conf.epoch.filter(|_| !self.recovering)
    }

    /// Up to which record commits are released; `end` is what is durable here.
    pub(crate) fn released(&self, end: usize) -> usize {
        if self.conf.names.is_empty() {
            return end;
        }
        let counts = |sender: &&Sender| self.conf.names.contains(&sender.name);
        let mut flushed: Vec<usize> = self.senders.values().filter(counts).map(|sender| sender.flushed).collect();
        flushed.sort_unstable_by(|a, b| b.cmp(a));
        flushed.get((self.conf.needed.max(1) - 1) as usize).copied().unwrap_or(0).min(end)
    }

    /// Takes those out that wait no longer.
    pub(crate) fn release(&mut self, end: usize) -> Vec<Waiter> {
        let up_to = self.released(end);
        let (done, waiting) = self.waiting.drain(..).partition(|(position, _)| *position <= up_to);
        self.waiting = waiting;
        let done: Vec<(usize, Waiter)> = done;
        done.into_iter().map(|(_, waiter)| waiter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_released_by_the_set_in_force() {
        let mut server = Server::new(Some(Log::new(1, 1)));
        server.conf = Configuration {
            epoch: Some(1),
            names: vec!["a".into(), "b".into()],
            needed: 2,
            ..Configuration::default()
        };
        server.start(1, Time::ZERO);
        let end = server.append(2, Kind::Commit(1));
        let process = server.process.as_mut().expect("runs");
        process.waiting.push((end, Waiter::Client(1)));
        let sender = |name: &str| Sender {
            connection: 1,
            name: name.into(),
            sent: end,
            flushed: end,
            heard: Time::ZERO,
            arrives: Time::ZERO,
            returns: Time::ZERO,
        };
        process.senders.insert(1, sender("a"));
        process.senders.insert(2, sender("c"));
        assert!(process.release(end).is_empty(), "c does not count");
        process.conf.needed = 1;
        assert_eq!(process.release(end), [Waiter::Client(1)]);
        assert!(process.waiting.is_empty());
    }
}
