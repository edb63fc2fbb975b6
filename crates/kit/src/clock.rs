//! Waiting for a moment of the wall clock.
//!
//! Why: certificates end at moments, but timers count running time. A machine that slept or whose clock was set would
//! wake far too late (or early), so the clock is looked at again at least once a minute.

use std::time::Duration;

use jiff::Timestamp;

const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Returns at `moment`, at once if it has passed; at most a minute late if the clock was set meanwhile.
pub async fn sleep_until(moment: Timestamp) {
    loop {
        // A moment that has passed gives a negative span, which is no `Duration`.
        let left = Duration::try_from(moment.duration_since(Timestamp::now())).unwrap_or_default();
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    #[tokio::test]
    async fn it_returns_at_the_moment_and_at_once_after_it() {
        let moment = Timestamp::now() + SignedDuration::from_millis(50);
        sleep_until(moment).await;
        assert!(Timestamp::now() >= moment);
        sleep_until(Timestamp::UNIX_EPOCH).await;
    }
}
