//! Keeps every due saga moving while this node holds the lease.
//!
//! Owns: the wake-up signal, the safety poll and the set of sagas being advanced here. Invariants: no saga is advanced
//! by two tasks (and between nodes the row lock decides); at most [`Tuning::parallel`] at once; a wake-up that is lost
//! costs at most [`Tuning::safety_poll`].

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use tokio::{
    sync::Notify,
    task::{Id, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use windlass_core::{Error, id::OperationId};

use super::advance::{Advance, Next};
use crate::lease::Ownership;

/// Pause after trouble with the database, before the same saga is touched again.
const TROUBLE: Duration = Duration::from_millis(500);

/// A handle to make the executor look for due sagas at once. Clones wake the same executor.
#[derive(Debug, Clone, Default)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// Nobody listens until an executor is made with it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Something may be due.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// How hard the executor works.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// Sagas advanced at once.
    pub parallel: usize,
    /// How often it looks without having been woken.
    pub safety_poll: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { parallel: 8, safety_poll: Duration::from_secs(1) }
    }
}

/// The executor of a node.
#[derive(Debug)]
pub struct Executor {
    advance: Advance,
    ownership: Ownership,
    waker: Waker,
    tuning: Tuning,
}

impl Executor {
    /// An executor that is not running yet.
    pub fn new(advance: Advance, ownership: Ownership, waker: Waker, tuning: Tuning) -> Self {
        Self { advance, ownership, waker, tuning }
    }

    /// Advances sagas until shutdown; then lets the transitions under way end.
    ///
    /// # Errors
    /// None: trouble is logged, and the saga tried again.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut ownership = self.ownership.clone();
        let mut running = Running::default();
        let mut look = Instant::now();
        while !shutdown.is_cancelled() {
            tokio::select! {
                _ = ownership.held() => {}
                () = shutdown.cancelled() => break,
            }
            if running.tasks.len() < self.tuning.parallel {
                look = look.min(Instant::now() + self.tuning.safety_poll);
                match self.pick(&mut running).await {
                    Ok(()) => {}
                    Err(error) => {
                        tracing::warn!(error = error.chain(), "due sagas could not be read; trying again");
                        look = Instant::now() + TROUBLE;
                    }
                }
            }
            tokio::select! {
                () = self.waker.0.notified() => {}
                () = tokio::time::sleep_until(look) => look = Instant::now() + self.tuning.safety_poll,
                Some(due) = running.next() => look = due.map_or(look, |due| look.min(Instant::now() + due)),
                () = shutdown.cancelled() => {}
            }
        }
        while running.next().await.is_some() {}
        Ok(())
    }

    async fn pick(&self, running: &mut Running) -> Result<(), Error> {
        let room = self.tuning.parallel.saturating_sub(running.tasks.len());
        let here: Vec<_> = running.sagas.values().copied().collect();
        let due = self.advance.db.sagas_due(&here, i64::try_from(room).unwrap_or(i64::MAX)).await?;
        for id in due {
            let (advance, ownership) = (self.advance.clone(), self.ownership.clone());
            let task = running.tasks.spawn(async move {
                let driven = AssertUnwindSafe(drive(&advance, &ownership, id)).catch_unwind().await;
                match driven.unwrap_or_else(|_| Err(Error::internal("advancing it panicked"))) {
                    Ok(due) => due,
                    Err(error) => {
                        tracing::warn!(saga = %id, error = error.chain(), "a saga could not be advanced; trying again");
                        // While this task lives the saga is not picked again.
                        tokio::time::sleep(TROUBLE).await;
                        None
                    }
                }
            });
            running.sagas.insert(task.id(), id);
        }
        Ok(())
    }
}

/// Sagas being advanced here.
#[derive(Default)]
struct Running {
    tasks: JoinSet<Option<Duration>>,
    sagas: HashMap<Id, OperationId>,
}

impl Running {
    /// Waits for a task to end; gives when its saga is due again, if that is known. None when there is no task.
    async fn next(&mut self) -> Option<Option<Duration>> {
        let (id, due) = match self.tasks.join_next_with_id().await? {
            Ok(ended) => ended,
            Err(error) => (error.id(), None),
        };
        self.sagas.remove(&id);
        Some(due)
    }
}

/// Advances a saga as far as it goes now; gives when it is due again, if that is known.
async fn drive(advance: &Advance, ownership: &Ownership, id: OperationId) -> Result<Option<Duration>, Error> {
    while let Some(guard) = ownership.current() {
        match advance.once(&guard, id).await? {
            Next::Again => {}
            Next::Parked => return Ok(None),
            Next::After(delay) => return Ok(Some(delay.unsigned_abs())),
        }
    }
    Ok(None)
}
