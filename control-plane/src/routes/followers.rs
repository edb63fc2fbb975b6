//! How far replicas are behind, as leaders report: in memory, coarse, so that a route changes seldom.

use std::collections::HashMap;

use windlass_core::id::{InstanceId, MemberId};

/// A follower as its leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follower {
    /// Who.
    pub member: MemberId,
    /// The connection stands.
    pub streaming: bool,
    /// Bytes that it has not replayed yet.
    pub lag_bytes: u64,
}

/// The newest of each instance.
#[derive(Debug, Default)]
pub(super) struct Followers(HashMap<InstanceId, HashMap<MemberId, Follower>>);

impl Followers {
    /// Takes a leader's report. Says whether it says anything new, coarsely.
    pub(super) fn put(&mut self, instance: InstanceId, seen: &[Follower]) -> bool {
        let coarse: HashMap<_, _> =
            seen.iter().map(|f| (f.member, Follower { lag_bytes: coarse(f.lag_bytes), ..*f })).collect();
        if self.0.get(&instance) == Some(&coarse) {
            return false;
        }
        self.0.insert(instance, coarse);
        true
    }

    /// What is known of a member.
    pub(super) fn get(&self, instance: InstanceId, member: MemberId) -> Option<Follower> {
        self.0.get(&instance)?.get(&member).copied()
    }

    /// Forgets all instances but these.
    pub(super) fn retain(&mut self, keep: impl Fn(InstanceId) -> bool) {
        self.0.retain(|instance, _| keep(*instance));
    }
}

/// The next of 0, 1 MiB, 4 MiB, 16 MiB, …
fn coarse(bytes: u64) -> u64 {
    let mut step = 1 << 20;
    if bytes < step / 4 {
        return 0;
    }
    while step < bytes && step < 1 << 60 {
        step <<= 2;
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_changes_of_lag_are_no_news() {
        let (instance, member) = (InstanceId::new(), MemberId::new());
        let seen = |lag_bytes| [Follower { member, streaming: true, lag_bytes }];
        let mut followers = Followers::default();
        assert!(followers.put(instance, &seen(0)));
        assert!(!followers.put(instance, &seen(200_000)));
        assert!(followers.put(instance, &seen(2 << 20)));
        assert!(!followers.put(instance, &seen(3 << 20)));
        assert_eq!(followers.get(instance, member).map(|f| f.lag_bytes), Some(4 << 20));
        assert_eq!([coarse(0), coarse(1 << 20), coarse(u64::MAX)], [0, 1 << 20, 1 << 60]);
    }
}
