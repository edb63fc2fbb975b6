//! Two clocks: waiting for a moment of the wall clock, and a clock that neither jumps nor stops.
//!
//! Why the first: certificates end at moments, but timers count running time. A machine that slept or whose clock was set
//! would wake far too late (or early), so the clock is looked at again at least once a minute. Why the second: a promise
//! of time that another machine gave runs on while this one sleeps, which the timers' clock does not show.

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

/// A moment since the machine started, sleep included. Only to be compared with others of the same machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootInstant(Duration);

impl BootInstant {
    /// Now.
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // Neither part is negative on this clock.
        Self(Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default()))
    }

    /// How long ago it was; zero if it is to come.
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// How long `earlier` was before this; zero if it was after.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for BootInstant {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    #[test]
    fn the_boot_clock_only_goes_on() {
        let before = BootInstant::now();
        std::thread::sleep(Duration::from_millis(5));
        assert!(before.elapsed() >= Duration::from_millis(5));
        assert_eq!(before.since(before + Duration::from_secs(1)), Duration::ZERO);
    }

    #[tokio::test]
    async fn it_returns_at_the_moment_and_at_once_after_it() {
        let moment = Timestamp::now() + SignedDuration::from_millis(50);
        sleep_until(moment).await;
        assert!(Timestamp::now() >= moment);
        sleep_until(Timestamp::UNIX_EPOCH).await;
    }
}
