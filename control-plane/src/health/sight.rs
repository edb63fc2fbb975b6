//! Whom other nodes hear: told to the node that judges silence.
//!
//! Why: agents may connect to any node, and only the lease's owner declares a host OFFLINE. Without this it would take
//! every host for silent that talks to another node.

use std::time::{Duration, Instant};

use windlass_core::Error;

use super::Health;
use crate::lease::Ownership;

/// Between two tellings, at most; a quarter of the silence that counts, if that is less.
const TELL_EVERY: Duration = Duration::from_secs(3);

impl Health {
    /// How often to tell.
    pub(super) fn tell_every(&self) -> Duration {
        TELL_EVERY.min(self.shared.config.offline_after / 4)
    }

    /// The owner of the lease reads what the other nodes tell, and each of those tells.
    ///
    /// # Errors
    /// Those of the database; the next time tells what is new since then.
    pub(super) async fn share_sight(&self, ownership: &Ownership) -> Result<(), Error> {
        if ownership.current().is_none() {
            let hosts = self.table().take_untold();
            return if hosts.is_empty() { Ok(()) } else { self.shared.db.sight_store(self.shared.node, &hosts).await };
        }
        let sights = self.shared.db.sights(self.shared.config.offline_after).await?;
        let now = Instant::now();
        let mut table = self.table();
        for sight in sights {
            let Some(at) = now.checked_sub(sight.age) else { continue };
            for host in sight.hosts {
                table.heard_elsewhere(host, at);
            }
        }
        Ok(())
    }
}
