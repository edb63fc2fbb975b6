//! Who may come in: clients of the whole process, of an instance and of a user.
//!
//! Invariant: every place is given back when its client's session is dropped, whatever became of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use windlass_core::{Error, ErrorKind, Reason, id::InstanceId};

use crate::routes::Instance;

/// How many; what the route sets for an instance wins over what is here.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Clients of the whole process.
    pub clients: u32,
    /// Clients of one instance.
    pub clients_per_instance: u32,
    /// Clients of one user of an instance.
    pub clients_per_user: u32,
    /// Connections to one backend.
    pub backends: u32,
}

/// The limits and what is in use.
#[derive(Debug)]
pub struct Limits {
    most: Most,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    clients: u32,
    instances: HashMap<InstanceId, OfInstance>,
}

#[derive(Debug, Default)]
struct OfInstance {
    clients: u32,
    users: HashMap<String, u32>,
}

/// A client's place; given back when dropped.
#[derive(Debug)]
pub struct ClientPlace {
    limits: Arc<Limits>,
    instance: Arc<Instance>,
    user: String,
}

impl Limits {
    /// Nobody is in yet.
    pub fn new(most: Most) -> Arc<Self> {
        Arc::new(Self { most, used: Mutex::default() })
    }

    /// Lets a client in.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED` naming the limit that is reached.
    pub fn admit(self: &Arc<Self>, instance: &Arc<Instance>, user: &str) -> Result<ClientPlace, Error> {
        let route = instance.route();
        let of_instance = route.settings.max_clients.unwrap_or(self.most.clients_per_instance);
        let of_user = route.settings.max_clients_per_user.unwrap_or(self.most.clients_per_user);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.clients >= self.most.clients {
            return Err(full("this proxy", self.most.clients, "limits.clients"));
        }
        let here = used.instances.entry(instance.id()).or_default();
        if here.clients >= of_instance {
            return Err(full(&format!("instance {}", route.key()), of_instance, "limits.clients_per_instance"));
        }
        let his = here.users.get(user).copied().unwrap_or(0);
        if his >= of_user {
            return Err(full(&format!("user {user}"), of_user, "limits.clients_per_user"));
        }
        here.users.insert(user.to_owned(), his + 1);
        here.clients += 1;
        used.clients += 1;
        drop(used);
        instance.metrics.clients.inc();
        Ok(ClientPlace { limits: self.clone(), instance: instance.clone(), user: user.to_owned() })
    }

    /// Most connections to one backend of the instance.
    pub fn backends(&self, instance: &Instance) -> u32 {
        instance.route().settings.max_backends.unwrap_or(self.most.backends)
    }

    /// Clients that are in.
    pub fn clients(&self) -> u32 {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clients
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.instance.metrics.clients.dec();
        let mut used = self.limits.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.clients = used.clients.saturating_sub(1);
        let Some(here) = used.instances.get_mut(&self.instance.id()) else { return };
        here.clients = here.clients.saturating_sub(1);
        if here.clients == 0 {
            used.instances.remove(&self.instance.id());
            return;
        }
        if let Some(his) = here.users.get_mut(&self.user) {
            *his = his.saturating_sub(1);
            if *his == 0 {
                here.users.remove(&self.user);
            }
        }
    }
}

fn full(of: &str, most: u32, setting: &str) -> Error {
    Error::new(
        ErrorKind::ResourceExhausted,
        Reason::QuotaExceeded,
        format!("{of} has {most} clients already, which is the most; close some or raise {setting}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        metrics::Metrics,
        routes::{Route, RouteTable, Settings, testing::route},
    };

    #[test]
    fn each_limit_is_named_and_places_come_back() {
        let table = RouteTable::new(Arc::new(Metrics::new()));
        let small = route("small", 1, 1);
        let settings = Settings { max_clients: Some(1), ..small.settings.clone() };
        let small = table.put(Route { settings, ..small }).expect("new");
        let usual = table.put(route("usual", 1, 1)).expect("new");
        let limits = Limits::new(Most { clients: 4, clients_per_instance: 3, clients_per_user: 2, backends: 9 });
        let refused = |instance, user| {
            let error = limits.admit(instance, user).expect_err("refused");
            assert_eq!(error.reason, Reason::QuotaExceeded);
            error.message
        };
        let a = limits.admit(&usual, "a").expect("room");
        let _a2 = limits.admit(&usual, "a").expect("room");
        assert!(refused(&usual, "a").contains("user a has 2 clients"));
        let _b = limits.admit(&usual, "b").expect("room");
        assert!(refused(&usual, "c").contains("instance usual.shop has 3 clients"));
        let _small = limits.admit(&small, "a").expect("room");
        assert!(refused(&small, "b").contains("this proxy has 4 clients"));
        drop(a);
        assert!(refused(&small, "b").contains("instance small.shop has 1 clients"), "what the route sets wins");
        limits.admit(&usual, "a").expect("a place came back");
        assert_eq!((limits.clients(), usual.metrics.clients.get()), (3, 2));
    }
}
