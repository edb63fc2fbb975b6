//! The rounds.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use windlass_core::Error;
use windlass_db::Db;

use crate::config::RetentionConfig;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(60);
/// Rows that one statement deletes at most.
pub const BATCH: i64 = 1000;

/// The collector of a node.
#[derive(Debug, Clone)]
pub struct Collector {
    db: Db,
    retention: RetentionConfig,
}

/// What a round deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Stored answers.
    pub answers: u64,
    /// Operations.
    pub operations: u64,
    /// Events.
    pub events: u64,
    /// Join tokens.
    pub join_tokens: u64,
    /// Host certificates.
    pub certificates: u64,
    /// Blocked ports.
    pub ports: u64,
}

impl Collector {
    /// One that is not running yet.
    pub fn new(db: Db, retention: RetentionConfig) -> Self {
        Self { db, retention }
    }

    /// Collects until shutdown.
    ///
    /// # Errors
    /// None: trouble is logged, and the next round tries again.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = shutdown.cancelled() => return Ok(()),
            }
            match self.round().await {
                Ok(done) if done == Collected::default() => {}
                Ok(done) => tracing::debug!(?done, "forgot what is past its retention"),
                Err(error) => tracing::warn!(error = error.chain(), "cannot forget old rows now"),
            }
        }
    }

    /// One round.
    ///
    /// # Errors
    /// Those of the database; what was deleted before stays deleted.
    pub async fn round(&self) -> Result<Collected, Error> {
        Ok(Collected {
            answers: self.db.idempotency_expire(BATCH).await?,
            operations: self.db.operation_expire(self.retention.operations, BATCH).await?,
            events: self.db.event_expire(self.retention.events, BATCH).await?,
            join_tokens: self.db.join_token_expire(self.retention.join_tokens, BATCH).await?,
            certificates: self.db.host_certificate_expire(BATCH).await?,
            ports: self.db.blocked_port_expire().await?,
        })
    }
}
