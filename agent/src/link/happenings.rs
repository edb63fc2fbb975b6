//! What happened without an order, on its way to the control plane's event list.
//!
//! Invariant: sequence numbers grow and never repeat within a session; what is kept is bounded, the oldest goes first.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{
    Notify,
    broadcast::{Receiver, error::RecvError},
};
use windlass_proto::agent::v1 as pb;

/// Most happenings that wait.
const KEPT: usize = 1000;
/// Most happenings in one heartbeat.
const BATCH: usize = 100;

/// Happenings that are not stored by the control plane.
#[derive(Default)]
pub(super) struct Happenings {
    waiting: Mutex<Waiting>,
    added: Notify,
}

#[derive(Default)]
struct Waiting {
    queue: VecDeque<pb::Happening>,
    last_sequence: u64,
}

impl Happenings {
    /// Collects until the source ends.
    pub(super) async fn collect(&self, mut source: Receiver<pb::Happening>) {
        loop {
            match source.recv().await {
                Ok(happening) => self.add(happening),
                Err(RecvError::Lagged(lost)) => tracing::warn!(lost, "happenings came too fast and were lost"),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// The oldest ones, for the next heartbeat.
    pub(super) fn batch(&self) -> Vec<pb::Happening> {
        self.waiting().queue.iter().take(BATCH).cloned().collect()
    }

    /// Drops what the control plane has. A number that was never given is taken as a mistake, not as a wish.
    pub(super) fn stored(&self, sequence: u64) {
        let mut waiting = self.waiting();
        if sequence <= waiting.last_sequence {
            waiting.queue.retain(|happening| happening.sequence > sequence);
        }
    }

    /// Waits until one is added.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }

    fn add(&self, mut happening: pb::Happening) {
        let mut waiting = self.waiting();
        waiting.last_sequence += 1;
        happening.sequence = waiting.last_sequence;
        if waiting.queue.len() == KEPT {
            waiting.queue.pop_front();
        }
        waiting.queue.push_back(happening);
        self.added.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn happenings_wait_until_they_are_stored_and_the_oldest_make_room() {
        let happenings = Happenings::default();
        for _ in 0..KEPT + 5 {
            happenings.add(pb::Happening::default());
        }
        let batch = happenings.batch();
        assert_eq!((batch.len(), batch[0].sequence), (BATCH, 6));
        happenings.stored(10);
        assert_eq!(happenings.batch()[0].sequence, 11);
        happenings.stored(u64::MAX);
        assert_eq!(happenings.batch()[0].sequence, 11, "a number never given drops nothing");
    }
}
