//! A model of PostgreSQL's write-ahead log: records, timelines, and what streaming checks and does not check.
//!
//! Honest about what PostgreSQL does not notice: a follower on the leader's timeline is sent what comes after its end,
//! whatever it has before it. That is how a diverged standby acknowledges what it does not have.

use windlass_agent::ha::simulated::Barrier;

/// One record; all are equally long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// Which one: a copy has the same.
    pub(crate) unique: u64,
    /// What it says.
    pub(crate) kind: Kind,
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A timeline began, or a server was made.
    Timeline,
    /// A client's transaction.
    Commit(u32),
    /// A barrier row.
    Barrier(Barrier),
    /// The checkpoint of a stop in order.
    Shutdown,
}

/// Length of a record, in bytes of position.
const RECORD: u64 = 0x60;
/// Position of the first.
const FIRST: u64 = 0x0100_0000;

/// What a data directory has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    /// System identifier.
    pub(crate) system: u64,
    /// Timelines that were left, with the number of records at which they ended.
    pub(crate) history: Vec<(u32, usize)>,
    /// The present timeline.
    pub(crate) timeline: u32,
    /// All records.
    pub(crate) records: Vec<Record>,
}

impl Log {
    /// Of a fresh server.
    pub(crate) fn new(system: u64, unique: u64) -> Self {
        Self { system, history: Vec::new(), timeline: 1, records: vec![Record { unique, kind: Kind::Timeline }] }
    }

    /// The position of its end.
    pub(crate) fn end(&self) -> u64 {
        position(self.records.len())
    }

    /// The newest barrier row.
    pub(crate) fn barrier(&self) -> Option<Barrier> {
        self.records.iter().rev().find_map(|record| match record.kind {
            Kind::Barrier(row) => Some(row),
            Kind::Timeline | Kind::Commit(_) | Kind::Shutdown => None,
        })
    }

    /// Whether it has a barrier row.
    pub(crate) fn has_row(&self, row: &Barrier) -> bool {
        self.records.iter().any(|record| record.kind == Kind::Barrier(*row))
    }

    /// Whether it has a transaction.
    pub(crate) fn has(&self, commit: u32) -> bool {
        self.records.iter().any(|record| record.kind == Kind::Commit(commit))
    }

    /// How many records it has in common with another from the beginning on.
    pub(crate) fn common(&self, other: &Self) -> usize {
        self.records.iter().zip(&other.records).take_while(|(own, theirs)| own == theirs).count()
    }

    /// Begins a timeline at its end.
    pub(crate) fn promote(&mut self, unique: u64) {
        self.history.push((self.timeline, self.records.len()));
        self.timeline += 1;
        self.records.push(Record { unique, kind: Kind::Timeline });
    }

    /// What a server with this log sends to a follower with the other log, by PostgreSQL's own checks.
    ///
    /// # Errors
    /// Why it sends nothing.
    pub(crate) fn streams_to(&self, follower: &Self) -> Result<usize, &'static str> {
        let from = follower.records.len();
        if self.system != follower.system {
            return Err("it is of another system");
        }
        if self.timeline == follower.timeline {
            return if from <= self.records.len() { Ok(from) } else { Err("it is ahead") };
        }
        match self.history.iter().find(|(timeline, _)| *timeline == follower.timeline) {
            Some((_, end)) if from <= *end => Ok(from),
            Some(_) => Err("the leader left that timeline before"),
            None => Err("the leader does not know that timeline"),
        }
    }

    /// Takes what was sent from a position on, and the sender's timelines with it.
    pub(crate) fn receive(&mut self, from: usize, records: &[Record], sender: &Self) {
        if from != self.records.len() {
            return;
        }
        self.records.extend_from_slice(records);
        // A timeline is followed to only when something on it arrived.
        let here = self.records.len();
        let passed = sender.history.iter().filter(|(_, end)| *end < here).count();
        self.history = sender.history[..passed].to_vec();
        self.timeline = sender.history.get(passed).map_or(sender.timeline, |(timeline, _)| *timeline);
    }
}

/// The position after so many records.
pub(crate) fn position(records: usize) -> u64 {
    FIRST + records as u64 * RECORD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(unique: u64) -> Record {
        Record { unique, kind: Kind::Commit(u32::try_from(unique).expect("small")) }
    }

    #[test]
    fn a_follower_goes_over_to_the_timeline_that_it_receives() {
        let mut leader = Log::new(1, 1);
        leader.records.push(commit(2));
        let mut follower = leader.clone();
        leader.promote(3);
        leader.records.push(commit(4));
        let from = leader.streams_to(&follower).expect("streams");
        let sent = leader.records[from..].to_vec();
        follower.receive(from, &sent, &leader);
        assert_eq!(follower, leader);
    }

    #[test]
    fn a_diverged_follower_on_the_same_timeline_is_not_noticed() {
        let mut leader = Log::new(1, 1);
        let mut diverged = leader.clone();
        diverged.records.push(commit(2));
        leader.records.extend([commit(3), commit(4)]);
        let from = leader.streams_to(&diverged).expect("it streams all the same");
        let sent = leader.records[from..].to_vec();
        diverged.receive(from, &sent, &leader);
        assert_eq!(diverged.end(), leader.end());
        assert!(!diverged.has(3), "it would acknowledge what it does not have");
        leader.promote(5);
        diverged.records.push(commit(6));
        leader.streams_to(&diverged).expect_err("beyond the fork");
    }
}
