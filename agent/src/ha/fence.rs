//! Rule F2: a leader that is cut off from everybody shuts itself.
//!
//! Only a leader whose commits wait for others, that heard no control plane for as long as its order says and has no
//! acknowledging follower either. Its commits hang anyway; shutting ends stale reads. A control plane that is silent is
//! never a reason by itself, and a leader alone never fences: nobody else can have been made a leader. Pure: spans are
//! measured by the caller, on a clock that goes on in sleep.

use std::time::Duration;

/// Followers may be away for this long before they count as lost.
const FOLLOWERS_GONE: Duration = Duration::from_secs(3);

/// A follower that was seen this recently is there.
const FOLLOWER_THERE: Duration = Duration::from_millis(500);

/// How a leader stands to the rest of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Isolation {
    /// Since the request to which the control plane's last answer came.
    pub(super) control_plane_silent: Duration,
    /// Since a follower whose receipts count was last seen streaming.
    pub(super) followers_gone: Duration,
}

/// Whether a leader whose commits wait for others is to shut itself.
pub(super) fn is_cut_off(isolation: Isolation, fence_after: Duration) -> bool {
    isolation.control_plane_silent >= fence_after && isolation.followers_gone >= FOLLOWERS_GONE.min(fence_after)
}

/// Whether a follower whose receipt counts is there now.
pub(super) fn has_follower(isolation: Isolation) -> bool {
    isolation.followers_gone < FOLLOWER_THERE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_off(control_plane: u64, followers: u64) -> bool {
        let isolation = Isolation {
            control_plane_silent: Duration::from_millis(control_plane),
            followers_gone: Duration::from_millis(followers),
        };
        is_cut_off(isolation, Duration::from_secs(5))
    }

    #[test]
    fn both_have_to_be_silent() {
        assert!(!cut_off(3_600_000, 2_999), "a control plane that is away changes nothing");
        assert!(!cut_off(4_999, 3_600_000), "followers that are away are the control plane's to judge");
        assert!(cut_off(5_000, 3_000));
    }
}
