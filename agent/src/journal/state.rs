//! What the journal means: the commands that are open, their results and the epochs, as a value.
//!
//! Pure. Invariant: [`State::records`] replayed into an empty state gives an equal state; that is what compaction
//! relies on.

use std::collections::BTreeMap;

use windlass_proto::agent::v1 as pb;

use super::record::{Record, Resumed, SeenEpoch};

/// What is to be done with a command that was delivered.
#[derive(Debug, Clone, PartialEq)]
pub enum Acceptance {
    /// Not seen before: carry it out.
    New,
    /// It is being carried out; its result will be reported under the latest attempt.
    Running,
    /// It was carried out: report this.
    Finished(Box<pb::CommandResult>),
    /// Its sender no longer owns the instance.
    Fenced {
        /// Highest epoch seen for the instance.
        seen: u64,
    },
}

/// Everything the journal knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    entries: BTreeMap<String, Entry>,
    epochs: BTreeMap<String, u64>,
    next_order: u64,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    order: u64,
    /// Starts of the agent that it lived through unfinished.
    starts: u32,
    phase: Phase,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Accepted(pb::Command),
    Finished(pb::CommandResult),
}

impl State {
    /// Adds one fact.
    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::Accepted(command) => {
                self.raise_epoch(&command.instance_id, command.epoch);
                self.put(command.uid.clone(), Phase::Accepted(command));
            }
            Record::Finished(result) => self.put(result.uid.clone(), Phase::Finished(result)),
            Record::Forgotten(uid) => drop(self.entries.remove(&uid)),
            Record::Resumed(resumed) => {
                if let Some(entry) = self.entries.get_mut(&resumed.uid) {
                    entry.starts = resumed.starts;
                }
            }
            Record::Epoch(seen) => self.raise_epoch(&seen.instance_id, seen.epoch),
        }
    }

    /// What is to be done with a delivery. Changes nothing but the attempt of a command that is known.
    pub(super) fn decide(&mut self, command: &pb::Command) -> Acceptance {
        if let Some(entry) = self.entries.get_mut(&command.uid) {
            return match &mut entry.phase {
                Phase::Accepted(known) => {
                    known.attempt = known.attempt.max(command.attempt);
                    Acceptance::Running
                }
                Phase::Finished(result) => {
                    result.attempt = result.attempt.max(command.attempt);
                    Acceptance::Finished(Box::new(result.clone()))
                }
            };
        }
        match self.epochs.get(&command.instance_id) {
            Some(seen) if *seen > command.epoch => Acceptance::Fenced { seen: *seen },
            Some(_) | None => Acceptance::New,
        }
    }

    /// The latest attempt under which a command was delivered, if it is known.
    pub(super) fn attempt(&self, uid: &str) -> Option<u32> {
        self.entries.get(uid).map(|entry| match &entry.phase {
            Phase::Accepted(command) => command.attempt,
            Phase::Finished(result) => result.attempt,
        })
    }

    /// Takes back an acceptance that did not reach the disk.
    pub(super) fn withdraw(&mut self, uid: &str) {
        self.entries.remove(uid);
    }

    /// Whether a command is known, be it open or finished.
    pub(super) fn knows(&self, uid: &str) -> bool {
        self.entries.contains_key(uid)
    }

    /// Commands without a result and the starts of the agent they lived through, in the order of acceptance.
    pub(super) fn unfinished(&self) -> Vec<(pb::Command, u32)> {
        self.in_order()
            .filter_map(|entry| match &entry.phase {
                Phase::Accepted(command) => Some((command.clone(), entry.starts)),
                Phase::Finished(_) => None,
            })
            .collect()
    }

    /// Counts one more start for everything that is unfinished; gives the records that say so.
    pub(super) fn resume(&mut self) -> Vec<Record> {
        let unfinished = self.unfinished().into_iter();
        let records: Vec<_> = unfinished
            .map(|(command, starts)| Record::Resumed(Resumed { uid: command.uid, starts: starts + 1 }))
            .collect();
        records.iter().cloned().for_each(|record| self.apply(record));
        records
    }

    /// Results that were not acknowledged, oldest command first.
    pub(super) fn results(&self) -> Vec<pb::CommandResult> {
        self.in_order()
            .filter_map(|entry| match &entry.phase {
                Phase::Accepted(_) => None,
                Phase::Finished(result) => Some(result.clone()),
            })
            .collect()
    }

    /// The shortest list of records that gives this state.
    pub(super) fn records(&self) -> Vec<Record> {
        let epochs = self.epochs.iter().map(|(id, epoch)| SeenEpoch { instance_id: id.clone(), epoch: *epoch });
        let entries = self.in_order().flat_map(|entry| match &entry.phase {
            Phase::Accepted(command) => {
                let resumed = Resumed { uid: command.uid.clone(), starts: entry.starts };
                vec![Record::Accepted(command.clone()), Record::Resumed(resumed)]
            }
            Phase::Finished(result) => vec![Record::Finished(result.clone())],
        });
        epochs.map(Record::Epoch).chain(entries).collect()
    }

    fn in_order(&self) -> impl Iterator<Item = &Entry> {
        let mut entries: Vec<_> = self.entries.values().collect();
        entries.sort_by_key(|entry| entry.order);
        entries.into_iter()
    }

    fn put(&mut self, uid: String, phase: Phase) {
        let order = self.entries.get(&uid).map_or(self.next_order, |known| known.order);
        self.next_order = self.next_order.max(order + 1);
        self.entries.insert(uid, Entry { order, starts: 0, phase });
    }

    fn raise_epoch(&mut self, instance_id: &str, epoch: u64) {
        let seen = self.epochs.entry(instance_id.to_owned()).or_default();
        *seen = epoch.max(*seen);
    }
}
