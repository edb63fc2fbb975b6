//! The pace that the control plane sets in its answers.

use std::time::Duration;

use windlass_proto::agent::v1 as pb;

/// How often and how long. Each answer of the control plane replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cadence {
    /// From heartbeat to heartbeat.
    pub(super) heartbeat_every: Duration,
    /// How long a poll is held by the server.
    pub(super) poll_hold: Duration,
    /// The first reconnect is spread over this.
    pub(super) reconnect_spread: Duration,
    /// The node is going away.
    pub(super) drain: bool,
}

impl Default for Cadence {
    fn default() -> Self {
        Self {
            heartbeat_every: Duration::from_secs(15),
            poll_hold: Duration::from_secs(30),
            reconnect_spread: Duration::from_secs(5),
            drain: false,
        }
    }
}

impl Cadence {
    /// What an answer says; what it leaves out or sets beyond reason stays sane.
    pub(super) fn from_wire(wire: pb::Cadence) -> Self {
        let usual = Self::default();
        let bounded = |given: Option<pbjson_types::Duration>, usual: Duration, least: u64, most: u64| {
            given
                .and_then(|given| Duration::try_from(given).ok())
                .unwrap_or(usual)
                .clamp(Duration::from_millis(least), Duration::from_secs(most))
        };
        Self {
            heartbeat_every: bounded(wire.heartbeat_every, usual.heartbeat_every, 100, 3600),
            poll_hold: bounded(wire.poll_hold, usual.poll_hold, 0, 3600),
            reconnect_spread: bounded(wire.reconnect_spread, usual.reconnect_spread, 0, 600),
            drain: wire.drain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_cadences_are_bounded() {
        let absurd = pb::Cadence {
            heartbeat_every: Some(pbjson_types::Duration { seconds: 0, nanos: 0 }),
            poll_hold: Some(pbjson_types::Duration { seconds: i64::MAX, nanos: 0 }),
            reconnect_spread: Some(pbjson_types::Duration { seconds: -5, nanos: 0 }),
            drain: true,
        };
        let cadence = Cadence::from_wire(absurd);
        assert_eq!(cadence.heartbeat_every, Duration::from_millis(100), "no busy loop");
        assert_eq!(cadence.poll_hold, Duration::from_secs(3600));
        assert_eq!(cadence.reconnect_spread, Cadence::default().reconnect_spread);
        assert!(cadence.drain);
        assert_eq!(Cadence::from_wire(pb::Cadence::default()), Cadence::default());
    }
}
