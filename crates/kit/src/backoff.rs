//! Waiting between attempts: exponential backoff with decorrelated jitter.
//!
//! Why: when a node dies, thousands of agents retry together; plain exponential steps keep them in lockstep. With
//! decorrelated jitter each wait is drawn from `base ..= 3 × previous`, so the herd spreads after a few rounds.
//! Invariants: every wait is in `base ..= cap`; randomness is an argument, so a test decides it.

use std::time::Duration;

/// The state of one retry loop. Not shared: each loop has its own.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    previous: Duration,
}

impl Backoff {
    /// Waits from `base` up to `cap`; a cap below the base counts as the base.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap: cap.max(base), previous: base }
    }

    /// The next wait. `random` is uniform in `0.0 ..= 1.0`, for example [`crate::random::unit`]; values outside are
    /// clamped.
    pub fn next(&mut self, random: f64) -> Duration {
        let random = if random.is_finite() { random.clamp(0.0, 1.0) } else { 0.5 };
        let high = self.previous.saturating_mul(3).min(self.cap).max(self.base);
        self.previous = (self.base + (high - self.base).mul_f64(random)).min(self.cap);
        self.previous
    }

    /// Starts over, after a success.
    pub fn reset(&mut self) {
        self.previous = self.base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_wait_is_within_base_and_cap(base in 1u64..5_000, cap in 1u64..100_000, randoms in prop::collection::vec(-1.0f64..2.0, 1..50)) {
            let (base, cap) = (Duration::from_millis(base), Duration::from_millis(cap));
            let mut backoff = Backoff::new(base, cap);
            for random in randoms {
                let wait = backoff.next(random);
                prop_assert!(wait >= base && wait <= cap.max(base), "{wait:?}");
            }
        }

        #[test]
        fn a_wait_is_at_most_three_times_the_one_before(randoms in prop::collection::vec(0.0f64..=1.0, 2..50)) {
            let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(90));
            let mut previous = Duration::from_millis(10);
            for random in randoms {
                let wait = backoff.next(random);
                prop_assert!(wait <= previous * 3 + Duration::from_nanos(3));
                previous = wait;
            }
        }
    }

    #[test]
    fn the_worst_luck_reaches_the_cap_and_a_reset_starts_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let waits: Vec<_> = (0..4).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [300, 900, 2000, 2000]);
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(100));
    }

    #[test]
    fn rubbish_randomness_does_no_harm() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        assert_eq!(backoff.next(f64::NAN), Duration::from_millis(200));
    }
}
