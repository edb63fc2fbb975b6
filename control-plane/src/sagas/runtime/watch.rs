//! Waiting for an operation to change, without asking the database all the time.
//!
//! Waiters are woken in memory by the executor of this node. Every second they look for themselves, because the
//! operation may be carried out by another node.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use windlass_core::{Error, id::OperationId};
use windlass_db::{Db, operations::OperationRow};

/// How long a waiter trusts that it will be woken.
const LOOK: Duration = Duration::from_secs(1);

/// The waiters of this node. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct OperationWatch {
    waiters: Arc<Mutex<HashMap<OperationId, watch::Sender<u64>>>>,
}

/// What a waiter waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The operation has ended.
    Done,
    /// It has ended or has a revision above this one.
    After(i64),
}

impl OperationWatch {
    /// Nobody waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes those who wait for the operation.
    pub fn changed(&self, id: OperationId) {
        if let Some(waiter) = self.lock().get(&id) {
            waiter.send_modify(|n| *n += 1);
        }
    }

    /// Waits; gives the operation as it stands when the condition holds or the time is over.
    ///
    /// # Errors
    /// `NOT_FOUND`; those of the database.
    pub async fn wait(&self, db: &Db, id: OperationId, until: Until, timeout: Duration) -> Result<OperationRow, Error> {
        let deadline = Instant::now() + timeout;
        let mut waiting = Waiting::new(self, id);
        loop {
            let operation = db.operation_by_id(id).await?;
            let reached = match until {
                Until::Done => false,
                Until::After(seen) => operation.revision > seen,
            };
            if reached || operation.state.done() || Instant::now() >= deadline {
                return Ok(operation);
            }
            let look = deadline.min(Instant::now() + LOOK);
            // Both ends of the wait mean: look again.
            let _ = tokio::time::timeout_at(look, waiting.changed.changed()).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OperationId, watch::Sender<u64>>> {
        // Every change is a single insertion or removal.
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One waiter; its entry goes away with the last one.
struct Waiting<'a> {
    watch: &'a OperationWatch,
    id: OperationId,
    changed: watch::Receiver<u64>,
}

impl<'a> Waiting<'a> {
    fn new(watch: &'a OperationWatch, id: OperationId) -> Self {
        let changed = watch.lock().entry(id).or_insert_with(|| watch::Sender::new(0)).subscribe();
        Self { watch, id, changed }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiters = self.watch.lock();
        if waiters.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiters.remove(&self.id);
        }
    }
}
