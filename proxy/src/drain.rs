//! The end of a process that has clients: no new ones, then those that are at rest, then the rest.
//!
//! Stages only go forward. SERVING: as usual. LEAVING: no new clients are accepted; those that are in go on. ENDING: a
//! client that is between two transactions is told 57P01 and closed, others at the end of their transaction.

use tokio::sync::watch;

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// As usual.
    Serving,
    /// No new clients.
    Leaving,
    /// Clients are closed between transactions.
    Ending,
}

/// The stage of this process.
#[derive(Debug)]
pub struct Drain(watch::Sender<Stage>);

impl Drain {
    /// Serving.
    pub fn new() -> Self {
        Self(watch::Sender::new(Stage::Serving))
    }

    /// The stage now.
    pub fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// The stage from now on, for sessions.
    pub fn watch(&self) -> watch::Receiver<Stage> {
        self.0.subscribe()
    }

    /// Waits until the stage is at least this.
    pub async fn reached(&self, stage: Stage) {
        // An error means that the sender is gone, and we hold it.
        let _ = self.0.subscribe().wait_for(|now| *now >= stage).await;
    }

    /// Goes on to a stage; never back.
    pub fn advance(&self, stage: Stage) {
        self.0.send_if_modified(|now| {
            let later = stage > *now;
            *now = stage.max(*now);
            later
        });
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}
