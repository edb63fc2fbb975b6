//! What a member must not forget: `ha.state`.
//!
//! Owns: the record and its two generations on disk. Why: a promise ("I follow nobody of a lower epoch") that a crash
//! undoes is none. Invariants: a record is on disk, with its directory entry, before anything follows from it; a file
//! that cannot be read is never taken for an empty one. Each write goes to the older of `ha.state.0` and `ha.state.1`
//! under the next sequence number, behind a check sum; reading takes the newest that is whole. So a write that a power
//! cut tore leaves the former record, and the loss of both files on a member with data is told apart from a fresh start.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use windlass_core::{
    Error, Reason,
    id::{InstanceId, MemberId},
};
use windlass_proto::agent::v1 as pb;

use super::order::{Goal, Lead, Order};
use crate::{engines::postgres::replication::Lsn, host::files};

const FILES: [&str; 2] = ["ha.state.0", "ha.state.1"];
const MAGIC: &str = "windlass-ha-1";

/// What a member must not forget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(super) instance: InstanceId,
    pub(super) member: MemberId,
    /// Highest epoch seen.
    pub(super) max_epoch: u64,
    /// rev of the last order taken.
    pub(super) applied_rev: u64,
    /// The last order taken.
    pub(super) order: Option<pb::ReplicationOrder>,
    pub(super) role: Role,
    /// Promised: nobody of a lower epoch is followed.
    pub(super) sealed_for: u64,
    /// A promotion that has not ended.
    pub(super) promoting: Option<Promoting>,
    /// The last order to lead.
    pub(super) lead: Option<Lead>,
    /// The server process that may have its gate open.
    pub(super) opened: Option<Opened>,
    /// The boot of the machine in which that was.
    pub(super) opened_in: String,
    /// It was stopped in order, and this was the end of its log.
    pub(super) stopped_at: Option<Lsn>,
    /// Last known of its history.
    pub(super) system: String,
    pub(super) timeline: u32,
    /// rev of the order that had its data copied anew.
    pub(super) copied_anew: u64,
    /// Epoch for which a rewind was tried.
    pub(super) rewound_for: u64,
    /// What lay behind the fork at the last rejoin.
    pub(super) lost_writes: String,
    /// Why its data is not trusted; empty if it is.
    pub(super) distrust: String,
    /// Starts of the server.
    pub(super) starts: u64,
}

/// What a member is by its own knowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Nothing yet. Its data, if any, was made here.
    Unborn,
    /// Leads the epoch.
    Leader(u64),
    /// Follows the leader of the epoch: its history is known to be a part of the leader's.
    Follower(u64),
    /// Follows the leader of the epoch, whom it made way for: all that it had when it stopped is proven to be the leader's.
    HandedOver(u64),
    /// Replayed the barrier of the epoch that it follows.
    Proven(u64),
    /// Follows nobody.
    Sealed(u64),
    /// Led a lower epoch, or its history is not compared yet.
    Demoted(u64),
}

/// A promotion under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Promoting {
    pub(super) epoch: u64,
    pub(super) nonce: Uuid,
    /// The timeline before.
    pub(super) timeline: u32,
}

/// Proof that a server process may let sessions in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(super) epoch: u64,
    /// rev of the newest barrier that was acknowledged.
    pub(super) barrier_rev: u64,
    pub(super) process: ProcessId,
}

/// A process for good: a pid is reused, not at the same second of the same boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(super) pid: i32,
    pub(super) second: i64,
}

impl Role {
    /// The epoch it belongs to.
    pub(super) fn epoch(self) -> u64 {
        match self {
            Self::Unborn => 0,
            Self::Leader(epoch)
            | Self::Follower(epoch)
            | Self::HandedOver(epoch)
            | Self::Proven(epoch)
            | Self::Sealed(epoch)
            | Self::Demoted(epoch) => epoch,
        }
    }
}

impl Record {
    /// Of a member that has no order yet.
    pub(crate) fn new(instance: InstanceId, member: MemberId) -> Self {
        Self {
            instance,
            member,
            max_epoch: 0,
            applied_rev: 0,
            order: None,
            role: Role::Unborn,
            sealed_for: 0,
            promoting: None,
            lead: None,
            opened: None,
            opened_in: String::new(),
            stopped_at: None,
            system: String::new(),
            timeline: 0,
            copied_anew: 0,
            rewound_for: 0,
            lost_writes: String::new(),
            distrust: String::new(),
            starts: 0,
        }
    }
}

impl Record {
    /// Whether this is the order that it has.
    pub(super) fn holds(&self, order: &Order) -> bool {
        self.order.as_ref().is_some_and(|known| (known.epoch, known.rev) == (order.epoch, order.rev))
    }

    /// Takes an order unless it is of a lower epoch than was ever seen, or not newer than the last one. Says whether it
    /// did. Within an epoch revs grow; across epochs they do if the metadata did not lose any.
    pub(super) fn take(&mut self, wire: &pb::ReplicationOrder, order: &Order) -> bool {
        let lower = order.epoch < self.max_epoch;
        // An epoch is remembered whatever brings it.
        self.max_epoch = self.max_epoch.max(order.epoch);
        let last = (self.order.as_ref().map_or(0, |last| last.epoch), self.applied_rev);
        if lower || (order.epoch, order.rev) <= last {
            return false;
        }
        self.applied_rev = order.rev;
        self.order = Some(wire.clone());
        match &order.goal {
            Goal::Lead(lead) => self.lead = Some(lead.clone()),
            Goal::Seal => self.sealed_for = order.epoch,
            Goal::Follow(_) | Goal::Drain | Goal::Rest => {}
        }
        true
    }

    /// Has this role from now on.
    pub(super) fn assume(&mut self, role: Role) {
        self.role = role;
        match role {
            // Its own history is the leader's from now on.
            Role::Follower(_) | Role::HandedOver(_) | Role::Proven(_) => self.promoting = None,
            Role::Demoted(_) => self.opened = None,
            Role::Unborn | Role::Leader(_) | Role::Sealed(_) => {}
        }
    }
}

/// The files of one member.
#[derive(Debug)]
pub(crate) struct Storage {
    directory: std::path::PathBuf,
    sequence: u64,
}

impl Storage {
    /// Makes the first record of a member, if there is none.
    ///
    /// # Errors
    /// `DISK_FULL`, `INTERNAL`; `DATA_DIRECTORY_INVALID` if there is one that cannot be read.
    pub(crate) fn found(directory: &Path, record: &Record) -> Result<(), Error> {
        let (mut storage, found) = Self::open(directory)?;
        if found.is_none() {
            storage.write(record)?;
        }
        Ok(())
    }

    /// Reads the newest record; None if there are no files.
    ///
    /// # Errors
    /// `DATA_DIRECTORY_INVALID` if there are files and none is whole.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Option<Record>), Error> {
        let mut newest: Option<(u64, Record)> = None;
        let mut torn = 0;
        for file in FILES {
            match read(&directory.join(file)) {
                Ok(None) => {}
                Ok(Some(found)) if newest.as_ref().is_none_or(|known| known.0 < found.0) => newest = Some(found),
                Ok(Some(_)) => {}
                Err(error) => {
                    tracing::warn!(error = error.chain(), "a generation of a member's memory is torn");
                    torn += 1;
                }
            }
        }
        if newest.is_none() && torn > 0 {
            let message = format!("the member's memory in {} cannot be read", directory.display());
            return Err(Error::precondition(Reason::DataDirectoryInvalid, message));
        }
        let (sequence, record) = newest.map_or((0, None), |(sequence, record)| (sequence, Some(record)));
        Ok((Self { directory: directory.to_owned(), sequence }, record))
    }

    /// For a member whose files cannot be read: they are written over.
    pub(crate) fn anew(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), sequence: 0 }
    }

    /// Writes a record. Afterwards it survives power loss.
    ///
    /// # Errors
    /// `DISK_FULL`, `INTERNAL`; then the former one stays.
    pub(crate) fn write(&mut self, record: &Record) -> Result<(), Error> {
        let sequence = self.sequence + 1;
        let body =
            serde_json::to_string(record).map_err(|error| Error::internal("a record is no JSON").with_source(error))?;
        let body = format!("{sequence} {body}");
        let text = format!("{MAGIC} {:08x} {body}", crc32fast::hash(body.as_bytes()));
        let index = usize::from(!sequence.is_multiple_of(2));
        files::write_durably(&self.directory.join(FILES[index]), text.as_bytes())?;
        self.sequence = sequence;
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<(u64, Record)>, Error> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(files::failed("read", path, error)),
    };
    parse(&text).map(Some).ok_or_else(|| Error::internal(format!("{} is not whole", path.display())))
}

fn parse(text: &str) -> Option<(u64, Record)> {
    let mut parts = text.splitn(3, ' ');
    let (magic, sum, body) = (parts.next()?, parts.next()?, parts.next()?);
    let sum = u32::from_str_radix(sum, 16).ok()?;
    if magic != MAGIC || sum != crc32fast::hash(body.as_bytes()) {
        return None;
    }
    let (sequence, record) = body.split_once(' ')?;
    Some((sequence.parse().ok()?, serde_json::from_str(record).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(count: u64) -> (tempfile::TempDir, Record) {
        let dir = tempfile::tempdir().expect("dir");
        let mut record = Record::new(InstanceId::new(), MemberId::new());
        let (mut storage, none) = Storage::open(dir.path()).expect("open");
        assert!(none.is_none());
        for epoch in 1..=count {
            record.max_epoch = epoch;
            storage.write(&record).expect("write");
        }
        (dir, record)
    }

    #[test]
    fn the_newest_is_read() {
        for count in 1..4 {
            let (dir, record) = written(count);
            assert_eq!(Storage::open(dir.path()).expect("open").1, Some(record));
        }
    }

    #[test]
    fn a_torn_write_leaves_the_former_record() {
        let (dir, record) = written(3);
        let newest = dir.path().join(FILES[1]);
        let whole = fs::read(&newest).expect("read");
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&newest, &whole[..length]).expect("tear");
            let read = Storage::open(dir.path()).expect("open").1.expect("the former");
            assert_eq!(read, Record { max_epoch: 2, ..record.clone() });
        }
        fs::write(dir.path().join(FILES[0]), "rubbish").expect("tear");
        assert_eq!(Storage::open(dir.path()).expect_err("both").reason, Reason::DataDirectoryInvalid);
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let (dir, _) = written(1);
        let path = dir.path().join(FILES[1]);
        let mut bytes = fs::read(&path).expect("read");
        let last = bytes.len() - 3;
        bytes[last] ^= 1;
        fs::write(&path, &bytes).expect("flip");
        Storage::open(dir.path()).expect_err("flipped");
    }

    #[test]
    fn what_is_written_after_a_restart_is_newer() {
        let (dir, record) = written(2);
        let (mut storage, _) = Storage::open(dir.path()).expect("open");
        let next = Record { max_epoch: 9, ..record };
        storage.write(&next).expect("write");
        assert_eq!(Storage::open(dir.path()).expect("open").1, Some(next));
    }
}
