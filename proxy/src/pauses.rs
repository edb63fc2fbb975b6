//! Tells the control plane when a pause has taken effect: no transaction of this proxy runs on the primary any more.
//!
//! What is noted is repeated in every report while the pause lasts, so that a lost report costs nothing. Invariant: a
//! pause is noted only for the route that is in force, after its instance was seen without a running transaction.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use windlass_core::id::InstanceId;
use windlass_proto::proxy::v1 as pb;

use crate::routes::{Instance, State};

/// Pauses that took effect and still last.
#[derive(Debug, Default)]
pub struct Pauses {
    taken: Mutex<HashMap<InstanceId, Taken>>,
    fresh: Notify,
}

#[derive(Debug)]
struct Taken {
    instance: Arc<Instance>,
    version: (u64, u64),
}

impl Pauses {
    /// Follows an instance whose route was just paused, until the pause has taken effect or is over.
    pub(crate) fn follow(self: &Arc<Self>, instance: Arc<Instance>) {
        let version = instance.route().version();
        let pauses = self.clone();
        tokio::spawn(async move {
            let mut route = instance.watch();
            tokio::select! {
                () = instance.idle() => pauses.note(instance.clone(), version),
                // An error means that the instance is gone, and the pause with it.
                _ = route.wait_for(|route| !is_paused(&route.state, route.version(), version)) => {}
            }
        });
    }

    fn note(&self, instance: Arc<Instance>, version: (u64, u64)) {
        self.lock().insert(instance.id(), Taken { instance, version });
        self.fresh.notify_one();
    }

    /// Waits for a pause that took effect since the last wait.
    pub(crate) async fn until_fresh(&self) {
        self.fresh.notified().await;
    }

    /// Every pause that took effect and still lasts.
    pub(crate) fn all(&self) -> Vec<pb::PauseTaken> {
        let mut taken = self.lock();
        taken.retain(|_, taken| {
            let route = taken.instance.route();
            is_paused(&route.state, route.version(), taken.version)
        });
        taken
            .iter()
            .map(|(id, taken)| pb::PauseTaken {
                instance_id: id.to_string(),
                rev: taken.version.1,
                held: u32::try_from(taken.instance.metrics.held.get()).unwrap_or(0),
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InstanceId, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_paused(state: &State, now: (u64, u64), then: (u64, u64)) -> bool {
    match state {
        State::Paused(_) => now == then,
        State::Open | State::Closed(_) => false,
    }
}
