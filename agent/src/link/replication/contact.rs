//! When the control plane last answered, and how late the agent's own timers run.
//!
//! Why lateness: an agent that was not scheduled for a second would otherwise hold everybody else for silent.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::sleep;
use windlass_kit::clock::BootInstant;

/// An answer within this means that the control plane is reached.
const FRESH: Duration = Duration::from_millis(1200);

/// Shared by all that talk and wait.
#[derive(Debug, Default)]
pub struct Contact(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    answered: Option<BootInstant>,
    late_by: Duration,
}

impl Contact {
    /// The control plane answered this agent itself.
    pub(crate) fn answered(&self) {
        self.state().answered = Some(BootInstant::now());
    }

    /// For how long it has not; None if it never did.
    pub fn silent_for(&self) -> Option<Duration> {
        self.state().answered.map(BootInstant::elapsed)
    }

    /// Whether it is reached now, so that others may hand their reports to this agent.
    pub fn is_fresh(&self) -> bool {
        self.silent_for().is_some_and(|silent| silent < FRESH)
    }

    /// Sleeps, and notes by how much too long.
    pub(crate) async fn sleep(&self, pause: Duration) {
        let due = BootInstant::now() + pause;
        sleep(pause).await;
        let late_by = BootInstant::now().since(due);
        let mut state = self.state();
        state.late_by = state.late_by.max(late_by);
    }

    /// The greatest lateness since this was asked last.
    pub(crate) fn take_lateness(&self) -> Duration {
        std::mem::take(&mut self.state().late_by)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_timer_that_was_held_up_is_told_once() {
        let contact = Contact::default();
        let held_up = async {
            tokio::task::yield_now().await;
            std::thread::sleep(Duration::from_millis(40));
        };
        tokio::join!(contact.sleep(Duration::from_millis(5)), held_up);
        assert!(contact.take_lateness() >= Duration::from_millis(30));
        assert_eq!(contact.take_lateness(), Duration::ZERO);
    }

    #[test]
    fn contact_is_fresh_only_after_an_answer() {
        let contact = Contact::default();
        assert!(!contact.is_fresh());
        contact.answered();
        assert!(contact.is_fresh());
    }
}
