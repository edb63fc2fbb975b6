//! Results on their way to the control plane.
//!
//! Invariants: a result leaves only when it is acknowledged; it is sent again after every reconnect. One that was answered
//! without an acknowledgement was delivered under an attempt that no longer counts: it waits for the next delivery.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use windlass_proto::agent::v1 as pb;

/// Most results in one report.
const BATCH: usize = 256;

/// Results that are not acknowledged. Clones share them.
#[derive(Clone, Default)]
pub struct Outbox(Arc<Shared>);

#[derive(Default)]
struct Shared {
    slots: Mutex<BTreeMap<String, Slot>>,
    added: Notify,
    answered: Notify,
}

struct Slot {
    result: pb::CommandResult,
    standing: Standing,
}

#[derive(PartialEq)]
enum Standing {
    /// To be reported.
    Waiting,
    /// Reported, and not acknowledged.
    Refused,
}

impl Outbox {
    /// Puts a result in, in the place of an older one of the same command.
    pub fn add(&self, result: pb::CommandResult) {
        self.slots().insert(result.uid.clone(), Slot { result, standing: Standing::Waiting });
        self.0.added.notify_one();
    }

    /// The results to report now; waits until there are some.
    pub async fn batch(&self) -> Vec<pb::CommandResult> {
        loop {
            let batch: Vec<_> = self
                .slots()
                .values()
                .filter(|s| s.standing == Standing::Waiting)
                .take(BATCH)
                .map(|s| s.result.clone())
                .collect();
            if !batch.is_empty() {
                return batch;
            }
            self.0.added.notified().await;
        }
    }

    /// Takes in the answer to a report. A result that was replaced meanwhile stays.
    pub fn answered(&self, batch: &[pb::CommandResult], acknowledged: &[String]) {
        let mut slots = self.slots();
        for uid in acknowledged {
            if slots.get(uid).is_some_and(|slot| batch.contains(&slot.result)) {
                slots.remove(uid);
            }
        }
        for result in batch {
            if let Some(slot) = slots.get_mut(&result.uid).filter(|slot| slot.result == *result) {
                slot.standing = Standing::Refused;
            }
        }
        drop(slots);
        self.0.answered.notify_one();
    }

    /// Waits until nothing is left to be reported. For one waiter.
    pub async fn emptied(&self) {
        while !self.waiting().is_empty() {
            self.0.answered.notified().await;
        }
    }

    /// Reports everything once more: after a reconnect nobody knows what the other side has.
    pub fn again(&self) {
        for slot in self.slots().values_mut() {
            slot.standing = Standing::Waiting;
        }
        self.0.added.notify_one();
    }

    /// Uids whose results are to be reported: for the control plane they are as good as running.
    pub fn waiting(&self) -> Vec<String> {
        let slots = self.slots();
        slots.iter().filter(|(_, slot)| slot.standing == Standing::Waiting).map(|(uid, _)| uid.clone()).collect()
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(uid: &str, attempt: u32) -> pb::CommandResult {
        pb::CommandResult { uid: uid.to_owned(), attempt, outcome: None }
    }

    #[tokio::test]
    async fn a_result_leaves_when_it_is_acknowledged_and_waits_for_a_new_attempt_when_it_is_not() {
        let outbox = Outbox::default();
        outbox.add(result("a", 1));
        outbox.add(result("b", 1));
        let batch = outbox.batch().await;
        outbox.answered(&batch, &["a".to_owned()]);
        assert!(outbox.waiting().is_empty(), "b is refused: not running, so that it is delivered again");
        outbox.add(result("b", 2));
        assert_eq!(outbox.batch().await, [result("b", 2)]);
        outbox.answered(&[result("b", 1)], &["b".to_owned()]);
        assert_eq!(outbox.waiting(), ["b"], "the answer was to an older attempt");
        outbox.answered(&[result("b", 2)], &[]);
        outbox.again();
        assert_eq!(outbox.batch().await, [result("b", 2)], "sent again after a reconnect");
    }
}
