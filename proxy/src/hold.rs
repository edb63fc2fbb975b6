//! Holding clients while their route is paused or their primary is gone, within a budget of clients, bytes and time.
//!
//! Why a budget: what is held costs memory and file descriptors, and a client that waits too long is better told so.
//! Invariant: every hold ends, by the route, by its time or by the client's own end (dropping the future).

use std::sync::Arc;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::timeout;

use crate::{
    metrics::Metrics,
    routes::{Instance, Route, State},
};

/// How much may be held in the whole process.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Clients at once.
    pub clients: u64,
    /// Bytes that they have sent and that nobody took yet.
    pub bytes: u64,
    /// How long one is held if its instance does not say.
    pub time: Duration,
}

/// Why a client is not held any more, or was not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unheld {
    /// Too many clients or bytes are held already.
    Full,
    /// The route did not become ready in this time.
    TooLong(Duration),
    /// The instance was closed; the text says why.
    Closed(String),
}

/// The budget in use.
#[derive(Debug)]
pub struct Hold {
    budget: Budget,
    clients: AtomicU64,
    bytes: AtomicU64,
    metrics: Arc<Metrics>,
}

/// A place in the budget; given back when dropped.
struct Place<'a> {
    hold: &'a Hold,
    instance: &'a Instance,
    bytes: u64,
}

impl Hold {
    /// Nobody is held yet.
    pub fn new(budget: Budget, metrics: Arc<Metrics>) -> Self {
        Self { budget, clients: AtomicU64::new(0), bytes: AtomicU64::new(0), metrics }
    }

    /// Waits until the route is open and `ready`, for example that its epoch has changed. `bytes` is what the client has
    /// sent and we keep meanwhile.
    ///
    /// # Errors
    /// [`Unheld`].
    pub async fn until(
        &self,
        instance: &Instance,
        bytes: usize,
        ready: impl Fn(&Route) -> bool,
    ) -> Result<Arc<Route>, Unheld> {
        let mut route = instance.watch();
        let limit = route.borrow().settings.hold.unwrap_or(self.budget.time);
        let outcome = match self.place(instance, bytes as u64) {
            None => Err(Unheld::Full),
            Some(_place) => {
                let settled = route.wait_for(|route| match route.state {
                    State::Open => ready(route),
                    State::Paused(_) => false,
                    State::Closed(_) => true,
                });
                match timeout(limit, settled).await {
                    Err(_) => Err(Unheld::TooLong(limit)),
                    Ok(Err(_)) => Err(Unheld::Closed("the instance is gone".to_owned())),
                    Ok(Ok(route)) => match &route.state {
                        State::Closed(reason) => Err(Unheld::Closed(reason.clone())),
                        State::Open | State::Paused(_) => Ok(route.clone()),
                    },
                }
            }
        };
        if outcome.is_err() {
            instance.metrics.holds_failed.inc();
        }
        outcome
    }

    fn place<'a>(&'a self, instance: &'a Instance, bytes: u64) -> Option<Place<'a>> {
        self.clients.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.metrics.held.inc();
        self.metrics.held_bytes.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
        instance.metrics.held.inc();
        instance.metrics.holds.inc();
        let place = Place { hold: self, instance, bytes };
        let fits = self.clients.load(Ordering::Relaxed) <= self.budget.clients
            && self.bytes.load(Ordering::Relaxed) <= self.budget.bytes;
        fits.then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.hold.clients.fetch_sub(1, Ordering::Relaxed);
        self.hold.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.hold.metrics.held.dec();
        self.hold.metrics.held_bytes.dec_by(i64::try_from(self.bytes).unwrap_or(i64::MAX));
        self.instance.metrics.held.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::{RouteTable, testing::route};

    fn paused(table: &RouteTable) -> (Route, Arc<Instance>) {
        let paused = Route { state: State::Paused("failover".to_owned()), ..route("db", 1, 1) };
        (paused.clone(), table.put(paused).expect("new"))
    }

    fn budget(clients: u64, bytes: u64) -> Budget {
        Budget { clients, bytes, time: Duration::from_secs(5) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_client_goes_on_with_the_route_and_not_longer_than_its_time() {
        let metrics = Arc::new(Metrics::new());
        let table = RouteTable::new(metrics.clone());
        let (route, instance) = paused(&table);
        let hold = Hold::new(budget(10, 1000), metrics.clone());
        assert_eq!(hold.until(&instance, 10, |_| true).await, Err(Unheld::TooLong(Duration::from_secs(5))));
        let (held, ()) = tokio::join!(hold.until(&instance, 10, |route| route.epoch == 2), async {
            table.put(Route { epoch: 2, state: State::Open, ..route.clone() }).expect("open");
        });
        assert_eq!(held.expect("open").epoch, 2);
        table.put(Route { epoch: 3, state: State::Closed("stopped".to_owned()), ..route }).expect("closed");
        assert_eq!(hold.until(&instance, 0, |_| true).await, Err(Unheld::Closed("stopped".to_owned())));
        assert_eq!((metrics.held.get(), metrics.held_bytes.get(), instance.metrics.held.get()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_bounds_clients_and_bytes() {
        let metrics = Arc::new(Metrics::new());
        let table = RouteTable::new(metrics.clone());
        let (_, instance) = paused(&table);
        let hold = Hold::new(budget(2, 100), metrics);
        let wait = |bytes| hold.until(&instance, bytes, |_| true);
        let outcomes = tokio::join!(wait(40), wait(40), wait(1));
        assert_eq!(outcomes.2, Err(Unheld::Full), "three clients");
        assert!(matches!(outcomes.0, Err(Unheld::TooLong(_))), "those that were held are not harmed");
        let outcomes = tokio::join!(wait(60), wait(60));
        assert_eq!(outcomes.1, Err(Unheld::Full), "120 bytes");
        assert!(matches!(wait(100).await, Err(Unheld::TooLong(_))), "the budget was given back");
    }
}
