//! The barrier under way: a commit that waits for receipts, beside everything else.

use std::sync::{Arc, Mutex};

use tokio::task::AbortHandle;

use super::seat::{Seat, lock};
use crate::engines::{
    Server,
    postgres::replication::{Barrier, Lsn, Waits, commit_barrier},
};

/// The barrier under way, if any. Dropping it leaves a commit that waits on the server to itself.
#[derive(Default)]
pub(super) struct BarrierTask(Option<Running>);

struct Running {
    row: Barrier,
    handle: AbortHandle,
    outcome: Arc<Mutex<Outcome>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Waits,
    Committed(Lsn),
    Failed,
}

impl BarrierTask {
    /// Commits the row from now on; another row's wait is given up.
    pub(super) fn start(&mut self, server: &Server, row: Barrier, waits: Waits, seat: &Arc<Seat>) {
        self.forget();
        let outcome = Arc::new(Mutex::new(Outcome::Waits));
        let (server, seat, told) = (server.clone(), seat.clone(), outcome.clone());
        let task = tokio::spawn(async move {
            let committed = match commit_barrier(&server, row, waits).await {
                Ok(end) => Outcome::Committed(end),
                Err(error) => {
                    tracing::warn!(member = %seat.member(), error = error.chain(), "the barrier was not committed");
                    Outcome::Failed
                }
            };
            *lock(&told) = committed;
            seat.wake.notify_one();
        });
        self.0 = Some(Running { row, handle: task.abort_handle(), outcome });
    }

    /// Whether this row is waited for, or was committed.
    pub(super) fn is_under_way(&self, row: Barrier) -> bool {
        self.0.as_ref().is_some_and(|running| running.row == row && *lock(&running.outcome) != Outcome::Failed)
    }

    /// The row that was committed, and a position behind it.
    pub(super) fn committed(&self) -> Option<(Barrier, Lsn)> {
        let running = self.0.as_ref()?;
        match *lock(&running.outcome) {
            Outcome::Committed(end) => Some((running.row, end)),
            Outcome::Waits | Outcome::Failed => None,
        }
    }

    /// What was proven before proves nothing any more.
    pub(super) fn forget(&mut self) {
        if let Some(running) = self.0.take() {
            running.handle.abort();
        }
    }
}
