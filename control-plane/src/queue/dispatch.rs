//! The dispatcher: claims for every woken host that is parked here, in one statement, and hands over.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use windlass_core::{Error, id::HostId};
use windlass_db::commands::Delivery;

use super::{hosts::Parcel, poll::Queue, waker::Wakeups};

/// Pause after trouble with the database.
const TROUBLE: Duration = Duration::from_millis(250);

impl Queue {
    pub(super) async fn dispatch(&self, mut wakeups: Wakeups, shutdown: CancellationToken) {
        loop {
            let woken = tokio::select! {
                woken = wakeups.gather() => woken,
                () = shutdown.cancelled() => None,
            };
            let Some(woken) = woken else { break };
            if let Err(error) = self.serve(&woken).await {
                tracing::warn!(error = error.chain(), "commands could not be fetched; trying again");
                tokio::time::sleep(TROUBLE).await;
                self.shared.waker.wake(&woken);
            }
        }
    }

    /// Serves the woken hosts that are parked here; hints to other nodes about the rest.
    async fn serve(&self, woken: &[HostId]) -> Result<(), Error> {
        let shared = &self.shared;
        let (parked, elsewhere) = shared.hosts.split(woken);
        self.hint(elsewhere);
        if parked.is_empty() {
            return Ok(());
        }
        let mut parcels: HashMap<HostId, Parcel> = HashMap::new();
        let busy = shared.hosts.with_commands(parked.iter().map(|poll| poll.host));
        if !busy.is_empty() {
            let mut cancels: HashMap<HostId, Vec<_>> = HashMap::new();
            for command in shared.db.commands_to_cancel(&busy).await? {
                cancels.entry(command.host).or_default().push(command.uid);
            }
            for (host, uids) in cancels {
                let due = shared.hosts.cancels_due(host, uids, Instant::now());
                if !due.is_empty() {
                    parcels.entry(host).or_default().cancels = due;
                }
            }
        }
        for command in shared.db.commands_claim(&parked, shared.config.lease()).await? {
            parcels.entry(command.host).or_default().commands.push(command);
        }
        self.hand_over(parcels).await
    }

    async fn hand_over(&self, parcels: HashMap<HostId, Parcel>) -> Result<(), Error> {
        let mut returned: Vec<Delivery> = Vec::new();
        for (host, parcel) in parcels {
            if let Err(deliveries) = self.shared.hosts.deliver(host, parcel, Instant::now()) {
                returned.extend(deliveries);
            }
        }
        let taken = self.shared.db.commands_take_back(&returned).await?;
        let hosts: Vec<_> = taken.iter().map(|command| command.host).collect();
        self.shared.waker.wake(&hosts);
        Ok(())
    }

    /// Looks for queued commands that nobody woke for, and for deliveries that got lost.
    pub(super) async fn look_after(&self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.shared.config.safety_poll) => {}
                () = shutdown.cancelled() => break,
            }
            if let Err(error) = self.look().await {
                tracing::warn!(error = error.chain(), "the safety poll of the queue failed; trying again");
            }
        }
    }

    async fn look(&self) -> Result<(), Error> {
        let shared = &self.shared;
        let lost = shared.hosts.lost(Instant::now());
        let deliveries: Vec<_> = lost.iter().map(|(_, delivery)| *delivery).collect();
        shared.db.commands_take_back(&deliveries).await?;
        for (host, delivery) in lost {
            tracing::info!(host = %host, command = %delivery.uid, "a command did not reach its host; queued again");
            shared.hosts.settle(host, [delivery.uid]);
        }
        let parked = shared.hosts.parked();
        if parked.is_empty() {
            return Ok(());
        }
        let mut waiting = shared.db.commands_waiting_hosts(&parked).await?;
        waiting.extend(shared.hosts.with_commands(parked));
        shared.waker.wake(&waiting);
        Ok(())
    }
}
