//! Clients that have not said who they are: how many, and for how long.
//!
//! Why: a client that opens a connection and says nothing, or one byte a second, costs a descriptor and some memory. When
//! there are too many, the one that took longest goes, so that honest clients, who need milliseconds, always come in.
//! Invariant: a place is given back when its [`Startup`] is dropped or told that the client is known.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

use crate::metrics::Metrics;

/// The places.
#[derive(Debug)]
pub(crate) struct Starting {
    most: usize,
    places: Mutex<Places>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    taken: BTreeMap<u64, watch::Sender<Stage>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    /// It is not the client that we wait for.
    Ours,
    Known,
    Evicted,
}

/// The time that a client has to say who it is.
#[derive(Debug)]
pub struct Startup {
    starting: Arc<Starting>,
    ticket: u64,
}

/// Time that is not the client's.
#[derive(Debug)]
pub struct Ours<'a>(&'a Startup);

/// Ends when the client's time is over; never, once it is known.
#[derive(Debug)]
pub(crate) struct Patience(watch::Receiver<Stage>);

impl Starting {
    pub(crate) fn new(most: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { most, places: Mutex::default(), metrics })
    }

    /// A place for a new connection; the oldest one loses its place if there is none left.
    pub(crate) fn enter(self: &Arc<Self>) -> (Startup, Patience) {
        let (sender, receiver) = watch::channel(Stage::Starting);
        let mut places = self.lock();
        if places.taken.len() >= self.most
            && let Some((_, oldest)) = places.taken.pop_first()
        {
            oldest.send_replace(Stage::Evicted);
            self.metrics.starting.dec();
        }
        let ticket = places.next;
        places.next += 1;
        places.taken.insert(ticket, sender);
        self.metrics.starting.inc();
        (Startup { starting: self.clone(), ticket }, Patience(receiver))
    }

    fn mark(&self, ticket: u64, stage: Stage) {
        if let Some(sender) = self.lock().taken.get(&ticket) {
            sender.send_replace(stage);
        }
    }

    fn leave(&self, ticket: u64, stage: Stage) {
        if let Some(sender) = self.lock().taken.remove(&ticket) {
            self.metrics.starting.dec();
            sender.send_replace(stage);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Startup {
    /// While the answer lives, the client is not what we wait for, and its time does not run out.
    pub fn ours(&self) -> Ours<'_> {
        self.starting.mark(self.ticket, Stage::Ours);
        Ours(self)
    }

    /// The client has proven who it is: from now on it may be slow.
    pub fn known(self) {
        self.starting.leave(self.ticket, Stage::Known);
    }
}

impl Drop for Ours<'_> {
    fn drop(&mut self) {
        self.0.starting.mark(self.0.ticket, Stage::Starting);
    }
}

impl Drop for Startup {
    fn drop(&mut self) {
        self.starting.leave(self.ticket, Stage::Starting);
    }
}

impl Patience {
    /// Waits until the client has to go; gives the reason. Each time that it is waited for again, `limit` begins anew.
    pub(crate) async fn over(mut self, limit: Duration) -> &'static str {
        loop {
            let stage = *self.0.borrow_and_update();
            let changed = match stage {
                Stage::Starting => timeout(limit, self.0.changed()).await,
                Stage::Ours => Ok(self.0.changed().await),
                Stage::Evicted => return "crowded",
                Stage::Known => return std::future::pending().await,
            };
            match changed {
                Ok(Ok(())) => {}
                // Its session is just ending by itself.
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) => return "slow",
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn the_slowest_goes_when_there_are_too_many_and_each_after_its_time() {
        let starting = Starting::new(2, Arc::new(Metrics::new()));
        let (_first, first_ends) = starting.enter();
        let (second, second_ends) = starting.enter();
        let (_third, third_ends) = starting.enter();
        assert_eq!(first_ends.over(LONG).await, "crowded");
        second.known();
        tokio::select! {
            _ = second_ends.over(Duration::from_secs(1)) => panic!("a known client may be slow"),
            () = sleep(Duration::from_secs(100)) => {}
        }
        assert_eq!(third_ends.over(Duration::from_secs(1)).await, "slow");
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_is_not_the_clients_does_not_count() {
        let starting = Starting::new(1, Arc::new(Metrics::new()));
        let (startup, ends) = starting.enter();
        let wait = async {
            let ours = startup.ours();
            sleep(Duration::from_secs(100)).await;
            drop(ours);
            std::future::pending::<()>().await;
        };
        let begin = tokio::time::Instant::now();
        tokio::select! {
            () = wait => {}
            reason = ends.over(Duration::from_secs(1)) => assert_eq!(reason, "slow"),
        }
        assert_eq!(begin.elapsed().as_secs(), 101);
    }

    #[tokio::test]
    async fn a_place_comes_back_when_the_session_ends() {
        let metrics = Arc::new(Metrics::new());
        let starting = Starting::new(1, metrics.clone());
        drop(starting.enter());
        let (_second, ends) = starting.enter();
        assert_eq!(metrics.starting.get(), 1);
        tokio::select! {
            reason = ends.over(LONG) => panic!("{reason}"),
            () = tokio::task::yield_now() => {}
        }
    }
}
