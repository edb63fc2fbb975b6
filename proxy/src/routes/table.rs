//! All routes, found by name.
//!
//! Invariants: a name belongs to the instance that got it last; an instance that is gone is CLOSED for the sessions that
//! still know it.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::watch;
use windlass_core::id::InstanceId;

use super::{Instance, Route, State};
use crate::metrics::Metrics;

/// All routes. Shared by reference.
#[derive(Debug)]
pub struct RouteTable {
    known: RwLock<Known>,
    version: watch::Sender<u64>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<InstanceId, Arc<Instance>>,
    by_key: HashMap<String, InstanceId>,
}

impl RouteTable {
    /// An empty table.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { known: RwLock::default(), version: watch::Sender::new(0), metrics }
    }

    /// The instance of this `instance.project`; upper case counts as lower case, as in names of hosts.
    pub fn by_key(&self, key: &str) -> Option<Arc<Instance>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let id = known.by_key.get(key).or_else(|| known.by_key.get(&key.to_ascii_lowercase()))?;
        known.by_id.get(id).cloned()
    }

    /// The instance of this id.
    pub fn by_id(&self, id: InstanceId) -> Option<Arc<Instance>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).by_id.get(&id).cloned()
    }

    /// Every instance, in no order.
    pub fn all(&self) -> Vec<Arc<Instance>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).by_id.values().cloned().collect()
    }

    /// Grows with each change of any route.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Takes a route unless it is older than the one known. Gives its instance if it was taken.
    pub fn put(&self, route: Route) -> Option<Arc<Instance>> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let (id, key, route) = (route.instance, route.key(), Arc::new(route));
        let epoch = route.epoch;
        let instance = match known.by_id.get(&id) {
            Some(instance) => {
                let former = instance.route();
                if route.version() < former.version() || route == former {
                    return None;
                }
                instance.replace(route);
                instance.clone()
            }
            None => {
                let instance = Instance::new(route, self.metrics.instance(&key));
                known.by_id.insert(id, instance.clone());
                instance
            }
        };
        known.by_key.insert(key, id);
        self.metrics.routes.set(i64::try_from(known.by_id.len()).unwrap_or(i64::MAX));
        drop(known);
        instance.metrics.epoch.set(epoch);
        self.version.send_modify(|version| *version += 1);
        Some(instance)
    }

    /// Forgets an instance that is gone.
    pub fn remove(&self, id: InstanceId) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let Some(instance) = known.by_id.remove(&id) else { return };
        let former = instance.route();
        let key = former.key();
        if known.by_key.get(&key) == Some(&id) {
            known.by_key.remove(&key);
            self.metrics.forget(&key);
        }
        self.metrics.routes.set(i64::try_from(known.by_id.len()).unwrap_or(i64::MAX));
        drop(known);
        let state = State::Closed(format!("instance {key} was deleted"));
        instance.replace(Arc::new(Route { state, primary: None, replicas: Vec::new(), ..(*former).clone() }));
        self.version.send_modify(|version| *version += 1);
    }
}
