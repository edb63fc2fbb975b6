//! Hints between nodes: "this host may have something to fetch", for hosts that poll elsewhere.
//!
//! A NOTIFY serialises commits, so it is never sent in a writing transaction, and many become one.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use windlass_core::{Error, id::HostId};

use super::poll::Queue;

/// The channel.
const CHANNEL: &str = "windlass_hosts";
/// Hints gather for so long before they are sent.
const GATHER: Duration = Duration::from_millis(10);
/// Host ids in one payload, which may have at most 8,000 bytes.
const PAYLOAD: usize = 200;
/// Pause after trouble with the database.
const TROUBLE: Duration = Duration::from_secs(1);

/// Hosts to tell other nodes about.
#[derive(Debug, Default)]
pub(super) struct Hints {
    hosts: Mutex<BTreeSet<HostId>>,
    fresh: Notify,
}

impl Hints {
    fn add(&self, hosts: Vec<HostId>) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).extend(hosts);
        self.fresh.notify_one();
    }

    fn take(&self) -> Vec<HostId> {
        std::mem::take(&mut *self.hosts.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
    }
}

impl Queue {
    /// Tells other nodes, a little later, that these hosts may have something to fetch.
    pub(super) fn hint(&self, hosts: Vec<HostId>) {
        if !hosts.is_empty() {
            self.shared.hints.add(hosts);
        }
    }

    /// Sends gathered hints.
    pub(super) async fn send_hints(&self, shutdown: CancellationToken) {
        let sending = async {
            loop {
                self.shared.hints.fresh.notified().await;
                tokio::time::sleep(GATHER).await;
                for part in self.shared.hints.take().chunks(PAYLOAD) {
                    let payload: Vec<_> = part.iter().map(HostId::to_string).collect();
                    if let Err(error) = self.shared.db.notify(CHANNEL, &payload.join(",")).await {
                        tracing::debug!(error = error.chain(), "a hint to other nodes was not sent");
                    }
                }
            }
        };
        tokio::select! {
            () = sending => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Follows the hints of other nodes.
    pub(super) async fn follow_hints(&self, shutdown: CancellationToken) {
        let following = async {
            loop {
                if let Err(error) = self.follow().await {
                    tracing::debug!(error = error.chain(), "hints of other nodes are not heard; trying again");
                }
                tokio::time::sleep(TROUBLE).await;
            }
        };
        tokio::select! {
            () = following => {}
            () = shutdown.cancelled() => {}
        }
    }

    async fn follow(&self) -> Result<(), Error> {
        let mut hints = self.shared.db.listen(CHANNEL).await?;
        loop {
            // Whoever is not parked here is not our business: waking it would only send the hint on.
            let hosts = match hints.next().await? {
                Some(payload) => payload.split(',').filter_map(|id| id.parse().ok()).collect(),
                None => self.shared.hosts.parked(),
            };
            let (parked, _elsewhere) = self.shared.hosts.split(&hosts);
            let parked: Vec<_> = parked.iter().map(|poll| poll.host).collect();
            self.shared.waker.wake(&parked);
        }
    }
}
