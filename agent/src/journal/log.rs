//! The records on their storage: open, append, compact.
//!
//! Invariant: while `damaged` is false the storage holds exactly the header and whole frames, `length` bytes of them.
//! After a failed append the storage may lack records that count; nothing is appended until a rewrite has succeeded.

use std::io;

use windlass_core::{Error, Reason, error::ErrorKind};

use super::{
    record::{self, HEADER, Record},
    state::State,
    storage::Storage,
};

/// Below this size a journal is not worth compacting.
const COMPACT_FROM: u64 = 64 << 10;

/// A journal on its storage.
pub(super) struct Log {
    storage: Box<dyn Storage>,
    length: u64,
    damaged: bool,
    /// Length at which it is rewritten: twice of what the last rewrite left, so that rewriting costs O(1) a record.
    compact_at: u64,
}

impl Log {
    /// Reads what is stored, cuts a torn tail off, counts the start for what is unfinished, and gives the state.
    pub(super) fn open(mut storage: Box<dyn Storage>) -> Result<(Self, State), Error> {
        let bytes = storage.load().map_err(|e| failed("read", e))?;
        let decoded = record::decode(&bytes)?;
        let mut state = State::default();
        for record in decoded.records {
            state.apply(record);
        }
        let mut log = Self { storage, length: decoded.valid as u64, damaged: false, compact_at: COMPACT_FROM };
        if decoded.valid == 0 {
            log.rewrite(Vec::new())?;
        } else if decoded.valid < bytes.len() {
            tracing::warn!(torn_bytes = bytes.len() - decoded.valid, "cut a torn record off the journal's end");
            log.storage.truncate(log.length).map_err(|e| failed("repair", e))?;
        }
        let mut frames = Vec::new();
        for record in state.resume() {
            frames.extend(record.into_frame()?);
        }
        if !frames.is_empty()
            && let Err(error) = log.write(&frames, None)
        {
            tracing::warn!(error = error.chain(), "this start is not counted for unfinished commands");
        }
        Ok((log, state))
    }

    /// Whether the next write should come with all records.
    pub(super) fn wants_rewrite(&self) -> bool {
        self.damaged || self.length >= self.compact_at
    }

    /// Adds frames, durably: by appending them, or by rewriting everything as `records`, which hold them too. On an
    /// error none of them counts, and the next write has to be a rewrite.
    pub(super) fn write(&mut self, frames: &[u8], records: Option<Vec<Record>>) -> Result<(), Error> {
        match records.map(|records| self.rewrite(records)) {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) if self.damaged => return Err(error),
            Some(Err(error)) => tracing::warn!(error = error.chain(), "cannot compact the journal"),
            None => {}
        }
        match self.storage.append(frames) {
            Ok(()) => {
                self.length += frames.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.damaged = true;
                // Without this a crash before the rewrite could find a promise that was taken back; it cannot be helped
                // if the storage refuses even this.
                let _ = self.storage.truncate(self.length);
                Err(failed("write", error))
            }
        }
    }

    /// Replaces everything by these records, durably. On an error the old ones stay.
    fn rewrite(&mut self, records: Vec<Record>) -> Result<(), Error> {
        let mut bytes = HEADER.to_vec();
        for record in records {
            bytes.extend(record.into_frame()?);
        }
        let replaced = self.storage.replace(&bytes).map_err(|e| failed("compact", e));
        if replaced.is_ok() {
            self.length = bytes.len() as u64;
            self.damaged = false;
        }
        self.compact_at = COMPACT_FROM.max(self.length * 2);
        replaced
    }
}

fn failed(what: &str, error: io::Error) -> Error {
    let full =
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge);
    let base = if full {
        Error::new(
            ErrorKind::ResourceExhausted,
            Reason::DiskFull,
            format!("the agent cannot {what} its journal because the disk is full; free room in its state directory"),
        )
    } else {
        Error::internal(format!("the agent cannot {what} its journal: {error}"))
    };
    base.with_source(error)
}
