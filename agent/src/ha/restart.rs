//! Whether a leader whose server ended is started again in its place.
//!
//! A restart costs the redo of what was written since the last checkpoint; a failover costs about half a second. So a
//! leader with little to redo starts at once, and one with much waits a moment for the control plane's word, which knows
//! whether somebody can take over. What a restart does not cure is not restarted while somebody else may take over.

use std::time::Duration;

/// A restart's time without anything to redo.
const RESTART_BASE: Duration = Duration::from_millis(110);
/// Redo of a usual machine, in bytes for each millisecond.
const REDO_PER_MILLISECOND: u64 = 460_000;
/// Longer restarts leave the choice to the control plane.
const RESTART_WORTH: Duration = Duration::from_millis(500);
/// How long its word is waited for.
const WORD_WAIT: Duration = Duration::from_secs(3);
/// First pause of a server that ends again and again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// An end of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// How long ago.
    pub(super) since: Duration,
    /// Bytes that a restart has to redo.
    pub(super) redo: u64,
    /// Ends within the last minute, this one among them.
    pub(super) crashes: u32,
    /// A restart cures nothing.
    pub(super) incurable: bool,
    /// Whether somebody else can be made the leader.
    pub(super) successors: Successors,
}

/// Whether somebody else can be made the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Successors {
    Some,
    None,
}

/// How long to wait before the start; zero for at once.
pub(super) fn pause(ended: Ended) -> Duration {
    let again = ended.crashes.saturating_sub(1).min(16);
    let slow = if again == 0 { Duration::ZERO } else { FIRST_PAUSE.saturating_mul(2u32.saturating_pow(again - 1)) };
    let word = match ended.successors {
        Successors::None if ended.incurable => LONGEST_PAUSE,
        Successors::None => Duration::ZERO,
        Successors::Some if ended.incurable => LONGEST_PAUSE,
        Successors::Some if estimate(ended.redo) > RESTART_WORTH || ended.crashes > 1 => WORD_WAIT,
        Successors::Some => Duration::ZERO,
    };
    slow.max(word).min(LONGEST_PAUSE).saturating_sub(ended.since)
}

/// How long a restart would take.
fn estimate(redo: u64) -> Duration {
    RESTART_BASE + Duration::from_millis(redo / REDO_PER_MILLISECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Ended =
        Ended { since: Duration::ZERO, redo: 0, crashes: 1, incurable: false, successors: Successors::Some };

    #[test]
    fn little_redo_restarts_at_once_and_much_waits_for_a_word() {
        assert_eq!(pause(FIRST), Duration::ZERO);
        let much = Ended { redo: 600 << 20, ..FIRST };
        assert_eq!(pause(much), WORD_WAIT);
        assert_eq!(pause(Ended { since: WORD_WAIT, ..much }), Duration::ZERO, "nobody said otherwise");
        assert_eq!(pause(Ended { successors: Successors::None, ..much }), Duration::ZERO, "nobody else can lead");
    }

    #[test]
    fn what_ends_again_slows_down_and_what_is_incurable_hardly_restarts() {
        let alone = Ended { successors: Successors::None, ..FIRST };
        assert_eq!(pause(Ended { crashes: 2, ..alone }), FIRST_PAUSE);
        assert_eq!(pause(Ended { crashes: 100, ..alone }), LONGEST_PAUSE);
        assert_eq!(pause(Ended { incurable: true, ..FIRST }), LONGEST_PAUSE);
    }
}
