//! Hints between nodes: "these hosts may have new orders", for hosts that are parked elsewhere.
//!
//! As in the queue: a NOTIFY is never sent in a writing transaction, and one that is lost costs a watch's hold time.

use std::time::Duration;

use windlass_core::{Error, id::HostId};

use super::handle::Ha;

/// The channel.
const CHANNEL: &str = "windlass_orders";
/// Host ids in one payload, which may have at most 8,000 bytes.
const PAYLOAD: usize = 200;
/// Pause after trouble with the database.
const TROUBLE: Duration = Duration::from_secs(1);

impl Ha {
    /// Tells other nodes.
    pub(super) async fn hint(&self, hosts: Vec<HostId>) {
        for part in hosts.chunks(PAYLOAD) {
            let payload: Vec<_> = part.iter().map(HostId::to_string).collect();
            if let Err(error) = self.shared.db.notify(CHANNEL, &payload.join(",")).await {
                tracing::debug!(error = error.chain(), "a hint to other nodes was not sent");
            }
        }
    }

    /// Follows the hints of other nodes, for ever.
    pub(super) async fn follow_hints(&self) {
        loop {
            if let Err(error) = self.follow().await {
                tracing::debug!(error = error.chain(), "hints of other nodes are not heard; trying again");
            }
            tokio::time::sleep(TROUBLE).await;
        }
    }

    async fn follow(&self) -> Result<(), Error> {
        let mut hints = self.shared.db.listen(CHANNEL).await?;
        loop {
            let hint = hints.next().await?;
            let mut table = self.table();
            let hosts = match hint {
                Some(payload) => payload.split(',').filter_map(|id| id.parse().ok()).collect(),
                // Whatever was sent while the connection was lost concerns anybody.
                None => table.hosts.keys().copied().collect(),
            };
            table.wake(&hosts);
        }
    }
}
