//! The journal as the agent uses it: asynchronous, with one fsync for all records that wait for one.
//!
//! Whoever finds the log free writes everything that is pending; the others wait for their record's answer. The write
//! runs on a blocking thread and does not depend on the caller being polled, so a dropped caller loses nothing.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, oneshot};
use windlass_core::Error;
use windlass_proto::agent::v1 as pb;

use super::{
    log::Log,
    record::Record,
    state::{Acceptance, State},
    storage::Storage,
};

/// Promises and results. Clones share one journal.
#[derive(Clone)]
pub struct Journal {
    memory: Arc<Mutex<Memory>>,
    log: Arc<AsyncMutex<Log>>,
}

#[derive(Default)]
struct Memory {
    state: State,
    pending: Vec<Pending>,
}

/// A record that is in `state` but not yet in the log.
struct Pending {
    frame: Vec<u8>,
    /// Uid of the acceptance that has to be taken back if the record cannot be written.
    withdraw: Option<String>,
    done: Option<oneshot::Sender<Result<(), Error>>>,
}

impl Journal {
    /// Opens the journal on this storage and cuts a torn tail off. Blocks on the storage.
    ///
    /// # Errors
    /// `DISK_FULL` or `INTERNAL` if the storage fails or holds something else.
    pub fn open(storage: impl Storage) -> Result<Self, Error> {
        let (log, state) = Log::open(Box::new(storage))?;
        Ok(Self {
            memory: Arc::new(Mutex::new(Memory { state, pending: Vec::new() })),
            log: Arc::new(AsyncMutex::new(log)),
        })
    }

    /// Decides about a delivery. [`Acceptance::New`] is given once for a uid, after the promise is on disk.
    ///
    /// # Errors
    /// `DISK_FULL` or `INTERNAL` if the promise cannot be written; then the command is not accepted.
    pub async fn accept(&self, command: &pb::Command) -> Result<Acceptance, Error> {
        let written = {
            let mut memory = self.memory();
            match memory.state.decide(command) {
                Acceptance::New => {}
                known @ (Acceptance::Running | Acceptance::Finished(_) | Acceptance::Fenced { .. }) => {
                    return Ok(known);
                }
            }
            memory.record(Record::Accepted(command.clone()), Some(command.uid.clone()))?
        };
        self.commit(written).await?;
        Ok(Acceptance::New)
    }

    /// Stores what came of an accepted command and gives the result as it is to be reported: with the latest attempt.
    ///
    /// If the disk is full the result stands in memory only and is written before anything else is accepted: a crash
    /// in between carries the command out again, before any later one.
    pub async fn finish(&self, uid: &str, outcome: pb::command_result::Outcome) -> pb::CommandResult {
        let (result, recorded) = {
            let mut memory = self.memory();
            let attempt = memory.state.attempt(uid).unwrap_or_default();
            let result = pb::CommandResult { uid: uid.to_owned(), attempt, outcome: Some(outcome) };
            let recorded = memory.record(Record::Finished(result.clone()), None);
            (result, recorded)
        };
        let written = match recorded {
            Ok(written) => self.commit(written).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::error!(command = uid, error = error.chain(), "a result is not on disk");
        }
        result
    }

    /// Drops results that the control plane has. Written with the next record: a crash before only means that they
    /// are reported once more.
    pub fn forget(&self, uids: &[String]) {
        let mut memory = self.memory();
        for uid in uids {
            if memory.state.knows(uid) {
                match Record::Forgotten(uid.clone()).into_frame() {
                    Ok(frame) => memory.pending.push(Pending { frame, withdraw: None, done: None }),
                    Err(error) => tracing::error!(error = error.chain(), "cannot forget a command"),
                }
                memory.state.apply(Record::Forgotten(uid.clone()));
            }
        }
    }

    /// Writes what waits for the next record.
    pub async fn flush(&self) {
        let (memory, log) = (Arc::clone(&self.memory), Arc::clone(&self.log).lock_owned().await);
        if let Err(error) = tokio::task::spawn_blocking(move || flush(&memory, log)).await {
            tracing::error!(%error, "the journal's writer failed");
        }
    }

    /// Accepted commands without a result, oldest first: after a start, what is to be carried out again. With each goes
    /// how often the journal was opened with it unfinished.
    pub fn unfinished(&self) -> Vec<(pb::Command, u32)> {
        self.memory().state.unfinished()
    }

    /// Results that the control plane has not acknowledged, oldest first.
    pub fn results(&self) -> Vec<pb::CommandResult> {
        self.memory().state.results()
    }

    async fn commit(&self, mut written: oneshot::Receiver<Result<(), Error>>) -> Result<(), Error> {
        let lost = |_| Error::internal("the journal's writer stopped");
        let log = tokio::select! {
            biased;
            answer = &mut written => return answer.map_err(lost)?,
            log = Arc::clone(&self.log).lock_owned() => log,
        };
        let memory = Arc::clone(&self.memory);
        tokio::task::spawn_blocking(move || flush(&memory, log))
            .await
            .map_err(|e| Error::internal("the journal's writer failed").with_source(e))?;
        written.await.map_err(lost)?
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }
}

impl Memory {
    /// Puts a record into the state and among the pending ones; the receiver tells when it is on disk.
    fn record(
        &mut self,
        record: Record,
        withdraw: Option<String>,
    ) -> Result<oneshot::Receiver<Result<(), Error>>, Error> {
        let frame = record.clone().into_frame()?;
        self.state.apply(record);
        let (done, written) = oneshot::channel();
        self.pending.push(Pending { frame, withdraw, done: Some(done) });
        Ok(written)
    }
}

/// Writes everything that is pending and tells those who wait.
fn flush(memory: &Mutex<Memory>, mut log: OwnedMutexGuard<Log>) {
    let (batch, records) = {
        let mut memory = lock(memory);
        let batch = mem::take(&mut memory.pending);
        if batch.is_empty() {
            return;
        }
        (batch, log.wants_rewrite().then(|| memory.state.records()))
    };
    let frames = batch.iter().flat_map(|pending| &pending.frame).copied().collect::<Vec<_>>();
    let written = log.write(&frames, records);
    if written.is_err() {
        let mut memory = lock(memory);
        for uid in batch.iter().filter_map(|pending| pending.withdraw.as_ref()) {
            memory.state.withdraw(uid);
        }
    }
    for done in batch.into_iter().filter_map(|pending| pending.done) {
        // Nobody waits if the caller was dropped.
        let _ = done.send(written.clone());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
