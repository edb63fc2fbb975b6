//! What a failure of a step leads to. Pure.

use jiff::SignedDuration;
use windlass_core::operation::Direction;

/// Failures of one step before the pivot after which the saga is unwound.
pub(super) const TRIES: i32 = 6;
/// Failures of one step after which somebody should look: an event is written at this and each further hundredth.
pub(super) const ALARM: i32 = 5;

/// Where a failed step stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    pub(super) direction: Direction,
    /// Whether the saga may still be unwound from here.
    pub(super) unwindable: bool,
    /// Failures of the step, this one included.
    pub(super) failures: i32,
    /// Whether the same step may succeed later.
    pub(super) retryable: bool,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Run the step again after a while.
    Retry(SignedDuration),
    /// Run the step again after a while, and tell somebody.
    RetryAndTell(SignedDuration),
    /// Undo what was done.
    Unwind,
}

/// Before the pivot: a few tries if they may help, then back. Otherwise there is only one way: again, for ever.
pub(super) fn decide(failure: Failure) -> Verdict {
    let forced = !(failure.direction == Direction::Forward && failure.unwindable);
    if !forced {
        return if failure.retryable && failure.failures < TRIES {
            Verdict::Retry(backoff(failure.failures, SignedDuration::from_secs(5)))
        } else {
            Verdict::Unwind
        };
    }
    let delay = backoff(failure.failures, SignedDuration::from_secs(30));
    if failure.failures % 100 == ALARM { Verdict::RetryAndTell(delay) } else { Verdict::Retry(delay) }
}

/// 0.1 s, doubled with each failure up to `cap`.
fn backoff(failures: i32, cap: SignedDuration) -> SignedDuration {
    let doublings = failures.saturating_sub(1).clamp(0, 16);
    (SignedDuration::from_millis(100) * (1 << doublings)).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURE: Failure = Failure { direction: Direction::Forward, unwindable: true, failures: 1, retryable: true };

    #[test]
    fn before_the_pivot_only_what_may_help_is_tried_and_not_for_ever() {
        assert_eq!(decide(FAILURE), Verdict::Retry(SignedDuration::from_millis(100)));
        assert_eq!(decide(Failure { failures: TRIES, ..FAILURE }), Verdict::Unwind);
        assert_eq!(decide(Failure { retryable: false, ..FAILURE }), Verdict::Unwind);
    }

    #[test]
    fn after_the_pivot_and_while_unwinding_it_is_tried_for_ever_and_somebody_is_told() {
        let forced = [
            Failure { unwindable: false, retryable: false, ..FAILURE },
            Failure { direction: Direction::Unwind, retryable: false, ..FAILURE },
        ];
        for failure in forced {
            let mut told = 0;
            for failures in 1..=250 {
                match decide(Failure { failures, ..failure }) {
                    Verdict::Retry(delay) => assert!(delay <= SignedDuration::from_secs(30)),
                    Verdict::RetryAndTell(_) => told += 1,
                    Verdict::Unwind => panic!("there is no way back"),
                }
            }
            assert_eq!(told, 3);
        }
    }

    #[test]
    fn waits_grow_to_their_cap() {
        let cap = SignedDuration::from_secs(5);
        let waits: Vec<_> = (1..=8).map(|failures| backoff(failures, cap).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff(i32::MAX, cap), cap);
    }
}
