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
