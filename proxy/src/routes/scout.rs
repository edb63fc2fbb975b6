//! When to try a server again that should be there and did not answer: one of all that wait looks often, the others are
//! woken when it was reached.
//!
//! Why: a client should wait no longer than its server does, and a thousand of them that look often would keep a server
//! from starting. Invariant: at most one waits the short time; a scout that gives up leaves its place to the next.

use std::time::Duration;

use tokio::{
    sync::{Mutex, Notify},
    time::sleep,
};

/// Between two looks of the scout.
const LOOK: Duration = Duration::from_millis(20);
/// Between two tries of anybody else, should nobody have woken it.
const RETRY: Duration = Duration::from_millis(100);

/// Who looks, and who is woken.
#[derive(Debug, Default)]
pub struct Scout {
    looking: Mutex<()>,
    reached: Notify,
}

impl Scout {
    /// Waits until another try is worth it.
    pub async fn pause(&self) {
        match self.looking.try_lock() {
            Ok(_looking) => sleep(LOOK).await,
            Err(_) => tokio::select! {
                () = sleep(RETRY) => {}
                () = self.reached.notified() => {}
            },
        }
    }

    /// Somebody who had to wait has reached the server.
    pub fn reached(&self) {
        self.reached.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_looks_often_and_wakes_the_others() {
        let scout = Scout::default();
        let begun = Instant::now();
        let look = async {
            scout.pause().await;
            assert_eq!(begun.elapsed(), LOOK);
            scout.reached();
        };
        let wait = async {
            scout.pause().await;
            begun.elapsed()
        };
        let ((), one, other) = tokio::join!(look, wait, async {
            scout.pause().await;
            begun.elapsed()
        });
        assert_eq!((one, other), (LOOK, LOOK));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_not_woken_tries_all_the_same() {
        let scout = Scout::default();
        let begun = Instant::now();
        tokio::join!(scout.pause(), scout.pause());
        assert_eq!(begun.elapsed(), RETRY);
        scout.pause().await;
        assert_eq!(begun.elapsed(), RETRY + LOOK, "the place of the scout is free again");
    }
}
