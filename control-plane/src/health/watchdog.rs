//! The part of health that acts by itself: declares silent hosts OFFLINE, stores signs of life, refreshes revocations.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use windlass_core::{Error, host::HostState, id::HostId};
use windlass_db::{
    agents::{HostTouch, hosts_move_tx, instances_on_hosts_tx},
    events::{NewEvent, event_add_tx},
};

use super::{Health, liveness::Silence};
use crate::{lease::Ownership, sagas::observe};

/// Between two looks at the table.
const EVERY: Duration = Duration::from_secs(1);
/// Between two refreshes of revocations.
const REFRESH_EVERY: Duration = Duration::from_secs(2);
/// Between two readings of all hosts, for those that only other nodes have heard of.
const LEARN_EVERY: Duration = Duration::from_secs(60);

impl Health {
    /// Watches until shutdown. Only the lease's owner declares hosts OFFLINE.
    ///
    /// # Errors
    /// None: trouble is logged and tried again.
    pub async fn run(self, ownership: Ownership, shutdown: CancellationToken) -> Result<(), Error> {
        let mut touched = Instant::now();
        let (mut refreshed, mut learnt, mut told): (Option<Instant>, Option<Instant>, Option<Instant>) =
            (None, None, None);
        let due = |last: Option<Instant>, every| last.is_none_or(|at| at.elapsed() >= every);
        loop {
            if due(refreshed, REFRESH_EVERY) {
                match self.refresh_revocations().await {
                    Ok(()) => refreshed = Some(Instant::now()),
                    Err(error) => tracing::warn!(error = error.chain(), "revocations could not be read; trying again"),
                }
            }
            if due(learnt, LEARN_EVERY) {
                match self.learn_all().await {
                    Ok(()) => learnt = Some(Instant::now()),
                    Err(error) => tracing::warn!(error = error.chain(), "hosts could not be read; trying again"),
                }
            }
            if due(told, self.tell_every()) {
                match self.share_sight(&ownership).await {
                    Ok(()) => told = Some(Instant::now()),
                    Err(error) => {
                        tracing::warn!(error = error.chain(), "whom other nodes hear is not known; trying again")
                    }
                }
            }
            if let Err(error) = self.watch(&ownership).await {
                tracing::warn!(error = error.chain(), "silent hosts could not be noted; trying again");
            }
            if touched.elapsed() >= self.shared.config.touch_every {
                touched = Instant::now();
                self.touch().await;
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = shutdown.cancelled() => return Ok(()),
            }
        }
    }

    async fn refresh_revocations(&self) -> Result<(), Error> {
        self.shared.admission.refresh(self.shared.db.hosts_revoked().await?);
        Ok(())
    }

    async fn learn_all(&self) -> Result<(), Error> {
        let alive = self.shared.db.hosts_alive().await?;
        let mut table = self.table();
        for life in alive {
            table.learn(life.id, &life.name, life.state, Instant::now());
        }
        Ok(())
    }

    async fn watch(&self, ownership: &Ownership) -> Result<(), Error> {
        let Some(guard) = ownership.current() else { return Ok(()) };
        let silence = self.table().silence(Instant::now(), self.shared.config.offline_after);
        match silence {
            Silence::None | Silence::MassGoesOn => Ok(()),
            Silence::MassBegins { silent, of } => {
                let message = format!(
                    "{silent} of {of} hosts fell silent at once; they are not declared offline for a while, because \
                     the fault may be on the side of the control plane"
                );
                self.shared.db.event_add(NewEvent::error("host.mass_silence", "hosts", message)).await.map(drop)
            }
            Silence::Gone(hosts) => {
                let mut tx = self.shared.db.guarded(&guard).await?;
                let instances = instances_on_hosts_tx(&mut tx, &hosts).await?;
                for life in hosts_move_tx(&mut tx, &hosts, HostState::Offline).await? {
                    let message = format!("host {} has not been heard for too long; its databases go on", life.name);
                    let event = NewEvent {
                        host: Some(life.id),
                        ..NewEvent::warning("host.offline", format!("hosts/{}", life.name), message)
                    };
                    event_add_tx(&mut tx, event).await?;
                }
                observe::refresh_tx(&mut tx, &instances).await?;
                tx.commit().await?;
                self.note_offline(&hosts);
                Ok(())
            }
        }
    }

    fn note_offline(&self, hosts: &[HostId]) {
        let mut table = self.table();
        for host in hosts {
            table.stored(*host, HostState::Offline);
        }
    }

    async fn touch(&self) {
        let fresh = self.table().take_fresh();
        let hosts: Vec<_> = fresh.into_iter().map(|(id, load)| HostTouch { id, load }).collect();
        if let Err(error) = self.shared.db.hosts_touch(&hosts).await {
            tracing::warn!(error = error.chain(), "signs of life could not be stored; the next batch has them");
        }
    }
}
