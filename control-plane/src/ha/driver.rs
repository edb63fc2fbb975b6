//! The loop: what is due is decided in memory, decisions are stored side by side, orders go out after each commit.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_core::{
    Error,
    id::{HostId, InstanceId, ProxyId},
};
use windlass_db::{Guard, ha::ClusterOwner};
use windlass_logic::ha::{Cluster, Phase, ProxySeen};

use super::{
    handle::{Ha, read},
    table::hosts_of,
};
use crate::lease::Ownership;

/// Between two looks when nothing is due.
const IDLE: Duration = Duration::from_millis(250);
/// The hosts are read anew this often.
const FLEET_EVERY: Duration = Duration::from_secs(5);
/// Pause after trouble with the database.
const TROUBLE: Duration = Duration::from_millis(200);

/// What a task of the driver did.
#[derive(Debug)]
enum Done {
    /// Decided, stored or read one cluster.
    Cluster,
    /// Measured the way to the metadata, and read the hosts.
    Fleet,
}

impl Ha {
    /// Decides while this node holds the lease, until shutdown; then lets what is being stored end.
    ///
    /// # Errors
    /// None: trouble is logged, and the decision made anew.
    pub async fn run(self, ownership: Ownership, shutdown: CancellationToken) -> Result<(), Error> {
        let driving = async {
            let mut proxies = self.shared.routes.reports().changed();
            let mut tasks = JoinSet::new();
            let (mut fleet_at, mut reading) = (Instant::now(), false);
            loop {
                if !self.own(&ownership).await {
                    tokio::time::sleep(TROUBLE.min(IDLE)).await;
                    continue;
                }
                if !reading && Instant::now() >= fleet_at {
                    (fleet_at, reading) = (Instant::now() + FLEET_EVERY, true);
                    tasks.spawn(self.clone().survey());
                }
                self.begin(&mut tasks);
                let pause = self.table().next_look().map_or(IDLE, |at| at.saturating_sub(self.now()).min(IDLE));
                tokio::select! {
                    () = self.shared.due.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                    // The sender lives in the routes, which this holds.
                    Ok(()) = proxies.changed() => self.table().hurry_switchovers(self.now()),
                    Some(done) = tasks.join_next() => match done {
                        Ok(Done::Fleet) => reading = false,
                        Ok(Done::Cluster) => {}
                        Err(error) => {
                            tracing::error!(%error, "a task of the replication driver panicked");
                            self.reload_all();
                            reading = false;
                        }
                    },
                }
            }
        };
        tokio::select! {
            () = Box::pin(driving) => {}
            () = Box::pin(self.follow_hints()) => {}
            () = Box::pin(self.tell_waits()) => {}
            () = shutdown.cancelled() => {}
        }
        Ok(())
    }

    /// Everything that is due under this term, by hand: for tests without a running driver.
    #[cfg(test)]
    pub(crate) async fn turn(&self, guard: &Guard) -> Result<(), Error> {
        if self.table().term.as_ref().is_none_or(|term| term.guard != *guard) {
            self.load(guard).await?;
        }
        loop {
            let now = self.now();
            let reload = std::mem::take(&mut self.table().reload);
            for id in &reload {
                self.reload(*id).await?;
            }
            let jobs = self.table().due(now, &|_, _| Vec::new());
            if jobs.is_empty() && reload.is_empty() {
                return Ok(());
            }
            for job in jobs {
                self.store(guard, job).await?;
            }
        }
    }

    /// Follows the lease. True while this node decides.
    async fn own(&self, ownership: &Ownership) -> bool {
        let held = ownership.current();
        let term = self.table().term.as_ref().map(|term| term.guard.clone());
        match (held, term) {
            (Some(held), Some(term)) if held == term => true,
            (Some(held), _) => match self.load(&held).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(error = error.chain(), "replicated instances could not be read; trying again");
                    false
                }
            },
            // Without the metadata nothing can be decided, but leaders are still told that somebody is there.
            (None, Some(_)) if !ownership.is_elsewhere() => false,
            (None, Some(_)) => {
                self.table().end();
                false
            }
            (None, None) => false,
        }
    }

    /// Begins a term with what is stored.
    async fn load(&self, guard: &Guard) -> Result<(), Error> {
        let fleet = self.shared.db.peer_hosts().await?;
        let mut rows = Vec::new();
        for (row, owner) in self.shared.db.clusters().await? {
            match read(&row) {
                Ok(cluster) => rows.push((row.instance, cluster, owner)),
                // Left alone: agents keep their orders, and a newer node may know what it means.
                Err(error) => tracing::error!(error = error.chain(), "a cluster is left alone"),
            }
        }
        let now = self.now();
        let mut table = self.table();
        table.set_fleet(fleet);
        table.begin(now, guard.clone(), rows);
        Ok(())
    }

    /// Starts what is due.
    fn begin(&self, tasks: &mut JoinSet<Done>) {
        let now = self.now();
        let proxies = |id: InstanceId, cluster: &Cluster| self.proxies(id, cluster);
        let (jobs, reload, noticed, running, guard) = {
            let mut table = self.table();
            table.survey();
            let jobs = table.due(now, &proxies);
            let Some(guard) = table.term.as_ref().map(|term| term.guard.clone()) else { return };
            let reload = table.take_reloads();
            let (noticed, running) = (std::mem::take(&mut table.noticed), std::mem::take(&mut table.running));
            (jobs, reload, noticed, running, guard)
        };
        for job in jobs {
            let (ha, guard) = (self.clone(), guard.clone());
            tasks.spawn(async move {
                let id = job.instance;
                if let Err(error) = ha.store(&guard, job).await {
                    tracing::warn!(instance = %id, error = error.chain(), "a decision could not be stored; made anew");
                    let again = ha.now() + TROUBLE;
                    let mut table = ha.table();
                    table.reload.insert(id);
                    table.failed(id, again);
                }
                Done::Cluster
            });
        }
        if !running.is_empty() {
            let ha = self.clone();
            tasks.spawn(async move {
                let running: Vec<_> = running.into_iter().collect();
                if let Err(error) = ha.note_running(&running).await {
                    tracing::debug!(error = error.chain(), "that servers came up is known with their next heartbeat");
                }
                Done::Cluster
            });
        }
        if !noticed.is_empty() {
            let ha = self.clone();
            tasks.spawn(async move {
                for event in noticed {
                    if let Err(error) = ha.shared.db.event_add(event).await {
                        tracing::warn!(error = error.chain(), "an event of replication was not stored");
                    }
                }
                Done::Cluster
            });
        }
        for id in reload {
            let ha = self.clone();
            tasks.spawn(async move {
                if let Err(error) = ha.reload(id).await {
                    tracing::warn!(instance = %id, error = error.chain(), "a cluster could not be read; trying again");
                    tokio::time::sleep(TROUBLE).await;
                    ha.changed(id);
                }
                Done::Cluster
            });
        }
    }

    /// Reads one cluster anew.
    async fn reload(&self, id: InstanceId) -> Result<(), Error> {
        let found = match self.shared.db.cluster(id).await? {
            Some((row, owner)) => Some((read(&row)?, owner)),
            None => None,
        };
        let elsewhere = self.known(id, found);
        self.shared.due.notify_one();
        self.hint(elsewhere).await;
        Ok(())
    }

    /// Takes a cluster as it was read. Gives the hosts that another node is to tell.
    fn known(&self, id: InstanceId, found: Option<(Cluster, ClusterOwner)>) -> Vec<HostId> {
        let now = self.now();
        let mut table = self.table();
        if table.term.is_none() {
            return Vec::new();
        }
        let hosts = match &found {
            Some((cluster, _)) => hosts_of(cluster),
            None => table.clusters.get(&id).map(|entry| hosts_of(&entry.cluster)).unwrap_or_default(),
        };
        match found {
            // A decision is being stored, before or after what was read: it is read again when that is done.
            _ if table.clusters.get(&id).is_some_and(|entry| entry.busy) => drop(table.reload.insert(id)),
            Some((cluster, owner)) => table.put(now, id, cluster, owner),
            None => table.forget(id),
        }
        table.elsewhere(&hosts)
    }

    fn reload_all(&self) {
        let mut table = self.table();
        let all: Vec<_> = table.clusters.keys().copied().collect();
        table.reload.extend(all);
    }

    /// Reads the hosts, and measures how long the metadata takes to answer.
    async fn survey(self) -> Done {
        let sent = Instant::now();
        match self.shared.db.peer_hosts().await {
            Ok(fleet) => {
                let mut table = self.table();
                table.round_trip = sent.elapsed();
                table.set_fleet(fleet);
                table.survey();
            }
            Err(error) => {
                tracing::warn!(error = error.chain(), "hosts could not be read; trying again");
                self.table().round_trip = Duration::MAX;
            }
        }
        Done::Fleet
    }

    /// What proxies say of an instance now.
    fn proxies(&self, id: InstanceId, cluster: &Cluster) -> Vec<ProxySeen> {
        let reports = self.shared.routes.reports();
        let leader = cluster.reign.leader;
        let within = Duration::from_millis(cluster.timings().detect_ms.into());
        let pausing = matches!(cluster.phase, Phase::Switchover(_));
        let pauses = if pausing { reports.pauses(id) } else { Vec::new() };
        let evidence = reports.evidence(id, within);
        // Without a pause or evidence, which proxies there are decides nothing.
        if !pausing && evidence.is_empty() {
            return Vec::new();
        }
        let seen = |(proxy, session): (ProxyId, String)| {
            let of = evidence.iter().filter(|of| of.proxy == proxy && of.member == leader);
            let (failed, done) = of.fold((0, 0), |(failed, done), of| (failed + of.failed, done + of.done));
            let paused = pauses.iter().filter(|pause| pause.proxy == proxy && pause.session == session);
            ProxySeen {
                proxy,
                age: Duration::ZERO,
                paused_rev: paused.map(|pause| pause.rev).max(),
                connects_failed: failed,
                connects_done: done,
            }
        };
        reports.connected().into_iter().map(seen).collect()
    }
}
