//! When the reconciler looks: every two seconds while this node holds the lease, and when woken.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use windlass_core::Error;
use windlass_db::{Db, Guard};

use super::{members, purges, removals};
use crate::{lease::Ownership, queue::HostWaker, sagas::Waker};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// The reconciler of a node.
#[derive(Debug, Clone)]
pub struct Reconciler {
    /// The metadata.
    pub db: Db,
    /// Tells the queue of new commands.
    pub hosts: HostWaker,
    /// Tells the executor of new sagas.
    pub sagas: Waker,
}

impl Reconciler {
    /// Looks until shutdown.
    ///
    /// # Errors
    /// None: trouble is logged, and the next look tries again.
    pub async fn run(self, mut ownership: Ownership, shutdown: CancellationToken) -> Result<(), Error> {
        loop {
            tokio::select! {
                guard = ownership.held() => {
                    if let Err(error) = self.look(&guard).await {
                        tracing::warn!(error = error.chain(), "the reconciler could not finish its look");
                    }
                }
                () = shutdown.cancelled() => return Ok(()),
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = shutdown.cancelled() => return Ok(()),
            }
        }
    }

    /// One look at everything. Gives how much was set going.
    ///
    /// # Errors
    /// `FENCED` when the lease is lost; those of the database. What was set going before stays.
    pub async fn look(&self, guard: &Guard) -> Result<usize, Error> {
        let mended = members::mend(self, guard).await?;
        let purged = purges::begin(self, guard).await?;
        let repeated = removals::repeat(self, guard).await?;
        Ok(mended + purged + repeated)
    }
}
