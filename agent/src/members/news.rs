//! What the rest of the agent is told without asking.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use tokio::sync::{broadcast, watch};
use windlass_core::id::MemberId;
use windlass_proto::agent::v1 as pb;

/// Happenings that a slow reader may lag behind before it misses the oldest.
const KEPT: usize = 256;

/// Happenings and a counter of changes.
pub(super) struct News {
    happenings: broadcast::Sender<pb::Happening>,
    sequence: AtomicU64,
    changed: watch::Sender<u64>,
}

impl News {
    pub(super) fn new() -> Self {
        Self { happenings: broadcast::Sender::new(KEPT), sequence: AtomicU64::new(0), changed: watch::Sender::new(0) }
    }

    /// Tells what happened to a member, in the log too.
    pub(super) fn happened(&self, kind: &str, member: MemberId, message: String) {
        tracing::info!(kind, %member, message, "happening");
        let happening = pb::Happening {
            time: Some(timestamp(Timestamp::now())),
            kind: kind.to_owned(),
            member_id: member.to_string(),
            message,
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
        };
        // No reader yet: the log has it.
        let _ = self.happenings.send(happening);
        self.changed();
    }

    /// Facts changed in a way worth an early heartbeat.
    pub(super) fn changed(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    pub(super) fn happenings(&self) -> broadcast::Receiver<pb::Happening> {
        self.happenings.subscribe()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// A time as the wire has it.
pub(super) fn timestamp(time: Timestamp) -> pbjson_types::Timestamp {
    pbjson_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}
