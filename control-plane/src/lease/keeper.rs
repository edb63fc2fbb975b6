//! Takes the lease, renews it, and tells when it is lost.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_core::{Error, Reason};
use windlass_db::{Db, Guard};

use super::ownership::{Ownership, Term};

/// Which lease, for whom, for how long.
#[derive(Debug, Clone)]
pub struct LeaseConfig {
    /// Name of the lease.
    pub name: String,
    /// Stable id of this node. Two running nodes must not share it: each would take the lease from the other.
    pub owner: String,
    /// Life of a renewal; renewed at a third of it, trusted for nine tenths.
    pub ttl: Duration,
}

impl LeaseConfig {
    /// The one lease of this version, with a TTL of 3 s: how long nobody decides on a failover when its owner dies.
    pub fn orchestrator(owner: impl Into<String>) -> Self {
        Self { name: "orchestrator".to_owned(), owner: owner.into(), ttl: Duration::from_secs(3) }
    }
}

/// Keeps the lease.
#[derive(Debug)]
pub struct Keeper {
    db: Db,
    config: LeaseConfig,
    term: watch::Sender<Option<Term>>,
}

impl Keeper {
    /// A keeper that holds nothing yet; run it with [`Keeper::run`].
    pub fn new(db: Db, config: LeaseConfig) -> Self {
        Self { db, config, term: watch::Sender::new(None) }
    }

    /// The view for everybody else.
    pub fn ownership(&self) -> Ownership {
        Ownership::new(self.term.subscribe())
    }

    /// Keeps the lease until shutdown, then gives it up so that another node need not wait.
    ///
    /// # Errors
    /// None: trouble with the database is logged and tried again.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        loop {
            let pause = self.turn().await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => break,
            }
        }
        let held = self.term.send_replace(None);
        if let Some(term) = held
            && let Err(error) = self.db.lease_release(&term.guard, &self.config.owner).await
        {
            tracing::warn!(error = error.chain(), "the lease could not be given up; it will expire");
        }
        Ok(())
    }

    /// One acquisition or renewal; gives the pause until the next.
    async fn turn(&self) -> Duration {
        let held = self.term.borrow().as_ref().map(|term| term.guard.clone());
        let sent = Instant::now();
        let outcome = match &held {
            Some(guard) => self.renew(guard).await,
            None => self.db.lease_acquire(&self.config.name, &self.config.owner, self.config.ttl).await,
        };
        match outcome {
            Ok(Some(guard)) => {
                if held.is_none() {
                    tracing::info!(lease = guard.name, epoch = guard.epoch, "lease taken");
                }
                let trusted_until = sent + self.config.ttl.mul_f64(0.9);
                self.term.send_replace(Some(Term { guard, trusted_until }));
                self.config.ttl / 3
            }
            Ok(None) => {
                if self.term.send_replace(None).is_some() {
                    tracing::warn!(lease = self.config.name, "lease lost: another node has taken it");
                }
                self.config.ttl / 5
            }
            Err(error) => {
                tracing::warn!(error = error.chain(), "the lease could not be renewed; trying again");
                self.config.ttl / 20
            }
        }
    }

    /// None when the term is over.
    async fn renew(&self, guard: &Guard) -> Result<Option<Guard>, Error> {
        match self.db.lease_renew(guard, &self.config.owner, self.config.ttl).await {
            Ok(()) => Ok(Some(guard.clone())),
            Err(error) if error.reason == Reason::Fenced => Ok(None),
            Err(error) => Err(error),
        }
    }
}
