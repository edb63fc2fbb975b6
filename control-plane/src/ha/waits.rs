//! What instances wait for, told to the other nodes, so that any of them can tell an operator.

use std::time::Duration;

use windlass_db::waits::Waits;

use super::handle::Ha;

/// From telling to telling.
const EVERY: Duration = Duration::from_secs(2);

impl Ha {
    /// Tells while this node decides and anything is waited for, for ever. Nothing is stored while nothing is.
    pub(super) async fn tell_waits(&self) {
        let mut told = false;
        loop {
            tokio::time::sleep(EVERY).await;
            let Some(waits) = self.waits() else {
                told = false;
                continue;
            };
            if waits.is_empty() && !told {
                continue;
            }
            match self.shared.db.waits_store(&waits).await {
                Ok(()) => told = !waits.is_empty(),
                Err(error) => tracing::debug!(error = error.chain(), "other nodes do not know what is waited for"),
            }
        }
    }

    /// None where another node decides.
    fn waits(&self) -> Option<Waits> {
        let table = self.table();
        table.term.as_ref()?;
        let waiting = table.clusters.iter().filter(|(_, entry)| !entry.waits.is_empty());
        Some(waiting.map(|(id, entry)| (*id, entry.waits.clone())).collect())
    }
}
