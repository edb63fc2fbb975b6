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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::testing::{backend, route};

    fn table() -> RouteTable {
        RouteTable::new(Arc::new(Metrics::new()))
    }

    #[test]
    fn a_route_never_goes_back_in_epoch_and_rev() {
        let table = table();
        let first = route("db", 3, 7);
        let instance = table.put(first.clone()).expect("new");
        for (epoch, rev) in [(2, 9), (3, 6), (0, 0)] {
            assert!(table.put(Route { epoch, rev, primary: None, ..first.clone() }).is_none(), "({epoch}, {rev})");
        }
        assert!(table.put(first.clone()).is_none(), "the same is no news");
        table.put(Route { primary: Some(backend()), ..first.clone() }).expect("of the same version, changed");
        table.put(Route { epoch: 4, rev: 1, ..first }).expect("a later epoch");
        assert_eq!(instance.route().version(), (4, 1));
    }

    #[test]
    fn a_name_belongs_to_who_got_it_last_and_who_is_gone_is_closed() {
        let table = table();
        let (old, new) = (route("db", 1, 1), route("db", 1, 1));
        let former = table.put(old.clone()).expect("new");
        table.put(new.clone()).expect("another of that name");
        table.remove(old.instance);
        assert!(matches!(former.route().state, State::Closed(_)));
        assert_eq!(table.by_key("db.shop").map(|instance| instance.id()), Some(new.instance));
        table.remove(new.instance);
        assert!(table.by_key("db.shop").is_none() && table.all().is_empty());
    }

    #[tokio::test]
    async fn no_transaction_begins_in_a_pause_and_the_pause_sees_the_last_one_end() {
        let table = table();
        let open = route("db", 1, 1);
        let instance = table.put(open.clone()).expect("new");
        let running = instance.begin().expect("open");
        table.put(Route { rev: 2, state: State::Paused("switchover".to_owned()), ..open.clone() }).expect("paused");
        instance.begin().expect_err("paused");
        let idle = instance.idle();
        tokio::pin!(idle);
        tokio::select! {
            biased;
            () = &mut idle => panic!("a transaction runs"),
            () = tokio::task::yield_now() => {}
        }
        drop(running);
        idle.await;
        table.put(Route { rev: 3, ..open }).expect("open again");
        instance.begin().expect("open");
    }
}
