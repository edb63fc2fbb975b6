//! One instance as its clients' sessions see it: its route now, and how many transactions run on its primary.
//!
//! Invariant: between a pause and the next opening no transaction begins. [`Instance::begin`] counts first and looks at
//! the route after, while a pause sets the route first and looks at the count after; so either the transaction sees the
//! pause or the pause sees the transaction.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering, fence},
};

use tokio::sync::{Notify, watch};
use windlass_core::id::InstanceId;

use super::{Route, Scout, State};
use crate::metrics::InstanceMetrics;

/// One instance. Lives as long as a session or the table knows it.
#[derive(Debug)]
pub struct Instance {
    id: InstanceId,
    route: watch::Sender<Arc<Route>>,
    running: AtomicU64,
    idle: Notify,
    /// When to try again a server that does not answer.
    pub scout: Scout,
    /// Its counters.
    pub metrics: InstanceMetrics,
}

/// A transaction on the primary, or a session that cannot leave its server connection. Ends when dropped.
#[derive(Debug)]
pub struct Running(Arc<Instance>);

impl Instance {
    pub(super) fn new(route: Arc<Route>, metrics: InstanceMetrics) -> Arc<Self> {
        Arc::new(Self {
            id: route.instance,
            route: watch::Sender::new(route),
            running: AtomicU64::new(0),
            idle: Notify::new(),
            scout: Scout::default(),
            metrics,
        })
    }

    /// The instance.
    pub fn id(&self) -> InstanceId {
        self.id
    }

    /// Its route now.
    pub fn route(&self) -> Arc<Route> {
        self.route.borrow().clone()
    }

    /// Its route from now on.
    pub fn watch(&self) -> watch::Receiver<Arc<Route>> {
        self.route.subscribe()
    }

    /// Begins a transaction on the primary.
    ///
    /// # Errors
    /// The route, if it is not open: the client is to be held or refused.
    pub fn begin(self: &Arc<Self>) -> Result<Running, Arc<Route>> {
        self.running.fetch_add(1, Ordering::SeqCst);
        let running = Running(self.clone());
        fence(Ordering::SeqCst);
        let route = self.route.borrow();
        match route.state {
            State::Open => {
                drop(route);
                Ok(running)
            }
            State::Paused(_) | State::Closed(_) => Err(route.clone()),
        }
    }

    /// Transactions that run on the primary.
    pub fn running(&self) -> u64 {
        self.running.load(Ordering::SeqCst)
    }

    /// Waits until none runs.
    pub(crate) async fn idle(&self) {
        loop {
            let ended = self.idle.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            fence(Ordering::SeqCst);
            if self.running() == 0 {
                return;
            }
            ended.await;
        }
    }

    pub(super) fn replace(&self, route: Arc<Route>) {
        self.route.send_replace(route);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
