//! The right to have one connection open. It travels with the connection and is given back when dropped.

use std::sync::Weak;

use super::pool::Inner;

/// A place in a pool.
pub struct Place {
    pool: Weak<dyn Release>,
    round: u64,
}

/// Takes places back.
pub(super) trait Release: Send + Sync {
    fn release(&self);
}

impl Place {
    pub(super) fn new(pool: Weak<dyn Release>, round: u64) -> Self {
        Self { pool, round }
    }

    /// Which round of the pool it belongs to; a pool that is cleared begins a new one.
    #[must_use]
    pub fn round(&self) -> u64 {
        self.round
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.release();
        }
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("round", &self.round).finish_non_exhaustive()
    }
}

impl<C: super::Pooled> Release for Inner<C> {
    fn release(&self) {
        self.give_room();
    }
}
