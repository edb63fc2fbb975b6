//! The driver as its users see it: reports in, watches that park, views.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use windlass_core::{
    Error,
    id::{HostId, InstanceId},
};
use windlass_db::Db;
use windlass_logic::ha::Cluster;
use windlass_proto::agent::v1 as pb;

use super::{
    answer::{self, Known},
    facts::followers,
    table::{Pace, Table},
};
use crate::{routes::Routes, sagas::Waker};

/// Timing of the driver.
#[derive(Debug, Clone, Copy)]
pub struct HaConfig {
    /// How long a watch is held when there is nothing.
    pub hold: Duration,
}

impl Default for HaConfig {
    fn default() -> Self {
        Self { hold: Duration::from_secs(20) }
    }
}

/// A watch of an agent.
#[derive(Debug)]
pub struct Watch {
    /// Who watches.
    pub host: HostId,
    /// Which run of its agent.
    pub session: String,
    /// The orders that it has taken.
    pub known: Vec<pb::KnownOrder>,
}

/// The driver of a node. Clones are the same.
#[derive(Debug, Clone)]
pub struct Ha {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) db: Db,
    pub(super) config: HaConfig,
    pub(super) sagas: Waker,
    pub(super) routes: Routes,
    pub(super) due: Notify,
    began: Instant,
    table: Mutex<Table>,
}

/// What is told to those who report to a node that does not decide.
pub const NOT_HERE: &str = "another node of the control plane decides; report to that one";

impl Ha {
    /// Knows nothing yet and decides nothing; see [`Ha::run`].
    pub fn new(db: Db, config: HaConfig, sagas: Waker, routes: Routes) -> Self {
        let (due, began, table) = (Notify::new(), Instant::now(), Mutex::default());
        Self { shared: Arc::new(Shared { db, config, sagas, routes, due, began, table }) }
    }

    /// The row of this cluster was made, changed or deleted by somebody else. Call it after the commit; a signal that
    /// is lost costs what its waiter's own patience is.
    pub fn changed(&self, instance: InstanceId) {
        self.table().reload.insert(instance);
        self.shared.due.notify_one();
    }

    /// Whether this node decides. What is reported to another one is not seen by who does.
    pub fn decides(&self) -> bool {
        self.table().term.is_some()
    }

    /// Takes a report of a host in, by whichever way it came. The answer is that host's.
    ///
    /// # Errors
    /// `UNAVAILABLE` when another node decides: facts must get there.
    pub fn report(&self, host: HostId, report: pb::ReplicationReport) -> Result<pb::ReplicationOrders, Error> {
        let now = self.now();
        let mut table = self.table();
        let session = report.session_id.clone();
        let followers = followers(&report);
        let news = table.report(now, host, report);
        let Some(epoch) = table.term.as_ref().map(|term| term.guard.epoch) else {
            return Err(Error::unavailable(NOT_HERE));
        };
        let (answer, pace) = answer::answer(&table, host, epoch);
        table.host(host).told = Some((session, pace));
        drop(table);
        followers.iter().for_each(|(instance, seen)| self.shared.routes.followers(*instance, seen));
        if news {
            self.shared.due.notify_one();
        }
        Ok(answer)
    }

    /// Answers as soon as there is an order that the host has not taken, or another pace; else when the hold time is
    /// over or `drain` is cancelled.
    ///
    /// # Errors
    /// Those of the database, on a node that does not decide.
    pub async fn watch(&self, watch: Watch, drain: &CancellationToken) -> Result<pb::ReplicationOrders, Error> {
        let known = Known::read(watch.known);
        let mut woken = self.table().host(watch.host).wake.subscribe();
        let until = tokio::time::Instant::now() + self.shared.config.hold;
        loop {
            woken.mark_unchanged();
            let (answer, pace) = self.answer_now(watch.host).await?;
            let told = Some((watch.session.clone(), pace));
            let over = tokio::time::Instant::now() >= until || drain.is_cancelled();
            let news = {
                let mut table = self.table();
                let host = table.host(watch.host);
                let news = over || known.lacks(&answer) || host.told != told;
                if news {
                    host.told = told;
                }
                news
            };
            if news {
                return Ok(answer);
            }
            tokio::select! {
                // The sender lives in the table, which this borrows.
                _ = woken.changed() => {}
                () = tokio::time::sleep_until(until) => {}
                () = drain.cancelled() => {}
            }
        }
    }

    async fn answer_now(&self, host: HostId) -> Result<(pb::ReplicationOrders, Pace), Error> {
        {
            let table = self.table();
            if let Some(term) = &table.term {
                return Ok(answer::answer(&table, host, term.guard.epoch));
            }
        }
        let rows = self.shared.db.clusters_on_host(host).await?;
        let clusters: Vec<_> = rows.into_iter().filter_map(|row| Some((row.instance, read(&row).ok()?))).collect();
        let epoch = self.shared.db.lease_by_name(LEASE).await?.map_or(0, |lease| lease.epoch);
        let mut table = self.table();
        let known = table.host(host).told.clone().map(|(_, pace)| pace);
        let pace = known.unwrap_or(Pace { reports: !clusters.is_empty(), peers: Vec::new() });
        Ok((answer::stored(&clusters, host, &pace, epoch), pace))
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        // Valid after a panic: a cluster that was half changed is read anew when its next decision is refused.
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since the start of this node.
    pub(super) fn now(&self) -> Duration {
        self.shared.began.elapsed()
    }
}

/// The lease under which decisions are made.
const LEASE: &str = "orchestrator";

/// A cluster as it is stored.
///
/// # Errors
/// `INTERNAL` when this version cannot read it.
pub(crate) fn read(row: &windlass_db::ha::ClusterRow) -> Result<Cluster, Error> {
    serde_json::from_value(row.state.clone()).map_err(|error| {
        Error::internal(format!("the cluster of instance {} cannot be read", row.instance)).with_source(error)
    })
}

/// A cluster as it is to be stored.
///
/// # Errors
/// `INTERNAL` when it cannot be written.
pub(crate) fn write(instance: InstanceId, cluster: &Cluster) -> Result<windlass_db::ha::ClusterRow, Error> {
    let state = serde_json::to_value(cluster).map_err(|error| {
        Error::internal(format!("the cluster of instance {instance} cannot be written")).with_source(error)
    })?;
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Ok(windlass_db::ha::ClusterRow { instance, epoch: number(cluster.epoch), rev: number(cluster.rev), state })
}
