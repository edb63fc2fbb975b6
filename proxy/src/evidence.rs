//! What happens to real traffic, gathered for the control plane: connections to databases made and failed.
//!
//! Why: a proxy often knows first that a primary does not answer. It only reports; the control plane decides.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;
use windlass_core::id::{InstanceId, MemberId};
use windlass_proto::proxy::v1 as pb;

/// Longest text of an error that is sent.
const TEXT: usize = 200;

/// Gathers since the last report.
#[derive(Debug, Default)]
pub struct Evidence {
    seen: Mutex<HashMap<(InstanceId, MemberId), Seen>>,
    failed: Notify,
}

#[derive(Debug, Default)]
struct Seen {
    failed: u32,
    done: u32,
    error: String,
}

impl Evidence {
    /// A connection to the member was made.
    pub fn connected(&self, instance: InstanceId, member: MemberId) {
        self.lock().entry((instance, member)).or_default().done += 1;
    }

    /// A connection to the member could not be made, or one in use broke.
    pub fn failed(&self, instance: InstanceId, member: MemberId, error: &str) {
        let mut seen = self.lock();
        let seen = seen.entry((instance, member)).or_default();
        seen.failed += 1;
        seen.error = error.chars().take(TEXT).collect();
        self.failed.notify_one();
    }

    /// Waits for a failure since the last wait.
    pub(crate) async fn until_failed(&self) {
        self.failed.notified().await;
    }

    /// Takes what was gathered.
    pub(crate) fn take(&self) -> Vec<pb::BackendEvidence> {
        std::mem::take(&mut *self.lock())
            .into_iter()
            .map(|((instance, member), seen)| pb::BackendEvidence {
                instance_id: instance.to_string(),
                member_id: member.to_string(),
                connects_failed: seen.failed,
                connects_done: seen.done,
                last_error: seen.error,
            })
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(InstanceId, MemberId), Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
