//! Health as its users see it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use uuid::Uuid;
use windlass_db::Db;

use super::{admission::Admission, liveness::Liveness};

/// Timing of health.
#[derive(Debug, Clone, Copy)]
pub struct HealthConfig {
    /// Silence after which a host is OFFLINE.
    pub offline_after: Duration,
    /// For so long after the start nobody is declared OFFLINE.
    pub start_grace: Duration,
    /// Between two batches of signs of life.
    pub touch_every: Duration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            offline_after: Duration::from_secs(15),
            start_grace: Duration::from_secs(30),
            touch_every: Duration::from_secs(60),
        }
    }
}

/// The health of the fleet as this node sees it. Clones are the same.
#[derive(Debug, Clone)]
pub struct Health {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    /// This node, for as long as the process lives.
    pub(super) node: Uuid,
    pub(super) db: Db,
    pub(super) config: HealthConfig,
    pub(super) admission: Admission,
    table: Mutex<Liveness>,
}

impl Health {
    /// Knows nobody yet; run it with [`Health::run`].
    pub fn new(db: Db, config: HealthConfig) -> Self {
        let table = Mutex::new(Liveness::new(Instant::now(), config.start_grace));
        Self { shared: Arc::new(Shared { node: Uuid::now_v7(), db, config, admission: Admission::default(), table }) }
    }

    /// How many hosts there are, as far as this node knows.
    pub fn hosts(&self) -> usize {
        self.table().len()
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Liveness> {
        // Valid after a panic: each change is complete in itself.
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
