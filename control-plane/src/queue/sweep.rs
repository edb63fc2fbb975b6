//! Time's work on the queue: deadlines, leases of silent hosts, and forgetting what ended long ago.
//!
//! Each is a compare-and-set by the database's clock, so two nodes doing it at once do no harm.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use windlass_core::{Error, command::CommandState};

use super::poll::Queue;
use crate::lease::Ownership;

/// Between two sweeps.
const EVERY: Duration = Duration::from_secs(1);
/// Between two rounds of forgetting.
const FORGET_EVERY: Duration = Duration::from_secs(300);
/// Most commands of one statement.
const BATCH: i64 = 500;

impl Queue {
    pub(super) async fn sweep(&self, ownership: Ownership, shutdown: CancellationToken) {
        let mut forget_at = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = shutdown.cancelled() => break,
            }
            if ownership.current().is_none() {
                continue;
            }
            if let Err(error) = self.sweep_once().await {
                tracing::warn!(error = error.chain(), "deadlines of commands could not be kept; trying again");
            }
            if Instant::now() >= forget_at {
                forget_at = Instant::now() + FORGET_EVERY;
                if let Err(error) = self.forget().await {
                    tracing::warn!(error = error.chain(), "ended commands could not be forgotten; trying again");
                }
            }
        }
    }

    /// Ends what is past its deadline and takes back what silent hosts have.
    pub(super) async fn sweep_once(&self) -> Result<(), Error> {
        let shared = &self.shared;
        let expired = shared.db.commands_expire(BATCH).await?;
        let reaped = shared.db.commands_reap(&shared.hosts.parked(), BATCH).await?;
        for command in &reaped {
            shared.hosts.settle(command.host, [command.uid]);
            tracing::info!(host = %command.host, command = %command.uid, state = %command.state, "a lease has passed");
        }
        let queued: Vec<_> = reaped.iter().filter(|c| c.state == CommandState::Queued).map(|c| c.host).collect();
        shared.waker.wake(&queued);
        if !expired.is_empty() || !reaped.is_empty() {
            shared.sagas.wake();
        }
        Ok(())
    }

    async fn forget(&self) -> Result<(), Error> {
        while self.shared.db.commands_forget(self.shared.config.keep, BATCH).await? == BATCH.unsigned_abs() {}
        Ok(())
    }
}
