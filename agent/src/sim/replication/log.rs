//! A model of a write-ahead log: what a server has, in order, and how histories fork.
//!
//! A record is one unit of position. Two logs agree up to where their records are the same; every record is unique, so
//! that a copy is told from a history of its own.

use uuid::Uuid;

/// Position of the first record: 0 is not known.
const FIRST: u64 = 0x0100_0000;
/// Distance of two records.
const STEP: u64 = 0x100;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// The server was made, or promoted to a timeline.
    Timeline { number: u32, unique: Uuid },
    /// A transaction.
    Commit { id: u64, unique: Uuid },
    /// The row that proves a set of an epoch.
    Barrier { epoch: u64, rev: u64, nonce: String },
    /// The last one of a stop in order.
    Shutdown { unique: Uuid },
}

/// The data of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Log {
    system: String,
    records: Vec<Record>,
}

/// The newest barrier row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Barrier {
    pub(super) epoch: u64,
    pub(super) rev: u64,
    pub(super) nonce: String,
}

impl Log {
    /// A fresh server's.
    pub(super) fn new() -> Self {
        let system = Uuid::now_v7().simple().to_string();
        Self { system, records: vec![Record::Timeline { number: 1, unique: Uuid::now_v7() }] }
    }

    pub(super) fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Begins a timeline, as a promotion does.
    pub(super) fn promote(&mut self) {
        let number = self.timeline().0 + 1;
        self.push(Record::Timeline { number, unique: Uuid::now_v7() });
    }

    /// Where it ends.
    pub(super) fn end(&self) -> u64 {
        position(self.records.len())
    }

    /// Whether it ends with a stop in order.
    pub(super) fn is_shut_down(&self) -> bool {
        matches!(self.records.last(), Some(Record::Shutdown { .. }))
    }

    pub(super) fn system(&self) -> &str {
        &self.system
    }

    /// The present timeline and where it left its parent.
    pub(super) fn timeline(&self) -> (u32, u64) {
        let last = self.records.iter().enumerate().rev().find_map(|(index, record)| match record {
            Record::Timeline { number, .. } => Some((*number, if *number == 1 { 0 } else { position(index) })),
            Record::Commit { .. } | Record::Barrier { .. } | Record::Shutdown { .. } => None,
        });
        last.unwrap_or((1, 0))
    }

    pub(super) fn barrier(&self) -> Barrier {
        let last = self.records.iter().rev().find_map(|record| match record {
            Record::Barrier { epoch, rev, nonce } => Some(Barrier { epoch: *epoch, rev: *rev, nonce: nonce.clone() }),
            Record::Timeline { .. } | Record::Commit { .. } | Record::Shutdown { .. } => None,
        });
        last.unwrap_or_default()
    }

    /// The position up to which it has a transaction; None if it has not.
    pub(super) fn position_of(&self, id: u64) -> Option<u64> {
        let found =
            self.records.iter().position(|record| matches!(record, Record::Commit { id: other, .. } if *other == id));
        found.map(|index| position(index + 1))
    }

    /// Whether this is where the other came from: it goes on where this one ends.
    pub(super) fn leads_to(&self, other: &Self) -> bool {
        self.system == other.system && other.records.starts_with(&self.records)
    }

    /// Transactions that the other does not have.
    pub(super) fn beyond(&self, other: &Self) -> usize {
        let commits = self.records.iter().filter(|record| matches!(record, Record::Commit { .. }));
        commits.filter(|record| !other.records.contains(record)).count()
    }
}

fn position(records: usize) -> u64 {
    FIRST + records as u64 * STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_fork_where_they_differ() {
        let mut old = Log::new();
        old.push(Record::Commit { id: 1, unique: Uuid::now_v7() });
        let mut new = old.clone();
        assert!(old.leads_to(&new));
        old.push(Record::Commit { id: 2, unique: Uuid::now_v7() });
        new.promote();
        new.push(Record::Barrier { epoch: 2, rev: 9, nonce: "n".to_owned() });
        assert!(!old.leads_to(&new) && !new.leads_to(&old));
        assert_eq!(new.timeline(), (2, old.end() - STEP));
        assert_eq!((old.beyond(&new), new.beyond(&old)), (1, 0));
        assert_eq!((new.barrier().epoch, old.barrier().epoch), (2, 0));
        assert!(old.position_of(2).is_some() && new.position_of(2).is_none());
    }
}
