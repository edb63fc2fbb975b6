//! All pools, one for each member that clients were brought to.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use windlass_core::id::{InstanceId, MemberId};

use super::{Pool, Pooled};

/// Names a pool.
pub type PoolKey = (InstanceId, MemberId);

/// All pools. Shared by reference.
#[derive(Debug)]
pub struct Pools<C: Pooled> {
    known: Mutex<HashMap<PoolKey, Pool<C>>>,
}

impl<C: Pooled> Default for Pools<C> {
    fn default() -> Self {
        Self { known: Mutex::default() }
    }
}

impl<C: Pooled> Pools<C> {
    /// The pool of a member, made when missing, with this bound from now on.
    #[must_use]
    pub fn of(&self, key: PoolKey, most: u32) -> Pool<C> {
        let pool = self.lock().entry(key).or_insert_with(|| Pool::new(most)).clone();
        pool.set_most(most);
        pool
    }

    /// Clears the pools of an instance but for those members.
    pub fn clear(&self, instance: InstanceId, except: &[MemberId]) {
        let stale: Vec<_> = self
            .lock()
            .iter()
            .filter(|((of, member), _)| *of == instance && !except.contains(member))
            .map(|(_, pool)| pool.clone())
            .collect();
        for pool in stale {
            pool.clear();
        }
    }

    /// Closes what was free for longer than `idle` in the instance's pools, and forgets those that nobody uses.
    pub fn tidy(&self, instance: InstanceId, idle: Duration) {
        let all: Vec<_> =
            self.lock().iter().filter(|((of, _), _)| *of == instance).map(|(_, pool)| pool.clone()).collect();
        for pool in &all {
            pool.close_idle(idle);
        }
        drop(all);
        self.lock().retain(|(of, _), pool| *of != instance || !pool.is_forgotten());
    }

    /// Connections of the instance that are open, and those of them that are free.
    #[must_use]
    pub fn count(&self, instance: InstanceId) -> (i64, i64) {
        let known = self.lock();
        known
            .iter()
            .filter(|((of, _), _)| *of == instance)
            .map(|(_, pool)| pool.count())
            .fold((0, 0), |(open, free), (more, idle)| {
                (open + i64::from(more), free + i64::try_from(idle).unwrap_or(i64::MAX))
            })
    }

    /// Whether the instance has no pool.
    #[must_use]
    pub fn is_empty(&self, instance: InstanceId) -> bool {
        self.lock().keys().all(|(of, _)| *of != instance)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PoolKey, Pool<C>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
