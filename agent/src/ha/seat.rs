//! One replicated member as all of the agent sees it: its memory, the order that holds, and what is told of it.
//!
//! Invariant: an order is in memory only once it is on disk. One writer at a time; readers take the last written record.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{Notify, watch};
use windlass_core::{Error, Reason, id::MemberId};
use windlass_kit::clock::BootInstant;
use windlass_proto::agent::v1 as pb;

use super::{
    order::{Goal, Order},
    state::{Record, Role, Storage},
};
use crate::members::Replica;

/// One replicated member.
pub(super) struct Seat {
    pub(super) replica: Replica,
    /// Held by the one who writes. The storage itself is with the write, which may hang as long as the disk does.
    writing: tokio::sync::Mutex<()>,
    storage: Arc<Mutex<Storage>>,
    record: Mutex<Record>,
    facts: Mutex<pb::ReplicaFacts>,
    /// rev of the order that came since the agent started.
    confirmed: AtomicU64,
    /// The highest epoch heard of, also while it cannot be written.
    challenged: AtomicU64,
    /// When the control plane was heard last.
    heard: Arc<Mutex<BootInstant>>,
    /// Something is new for the machine.
    pub(super) wake: Notify,
    changed: watch::Sender<u64>,
}

impl Seat {
    /// Reads the member's memory. Data without a memory is not trusted: a promise may be forgotten.
    pub(super) fn open(
        replica: Replica,
        heard: Arc<Mutex<BootInstant>>,
        changed: watch::Sender<u64>,
    ) -> Result<Self, Error> {
        let fresh = || Record::new(replica.instance, replica.member);
        let forgotten = |why: &str| Record { distrust: why.to_owned(), ..fresh() };
        let has_data = replica.root.join("data").exists();
        let (storage, record) = match Storage::open(&replica.root) {
            Ok((storage, Some(record))) => (storage, record),
            Ok((mut storage, None)) => {
                let record = if has_data { forgotten("its memory is missing, and it has data") } else { fresh() };
                storage.write(&record)?;
                (storage, record)
            }
            Err(error) if error.reason == Reason::DataDirectoryInvalid => {
                let (mut storage, record) = (Storage::anew(&replica.root), forgotten("its memory cannot be read"));
                storage.write(&record)?;
                (storage, record)
            }
            Err(error) => return Err(error),
        };
        let facts = pb::ReplicaFacts {
            instance_id: replica.instance.to_string(),
            member_id: replica.member.to_string(),
            max_epoch: record.max_epoch,
            applied_rev: record.applied_rev,
            progress_percent: -1,
            ..pb::ReplicaFacts::default()
        };
        Ok(Self {
            replica,
            writing: tokio::sync::Mutex::new(()),
            storage: Arc::new(Mutex::new(storage)),
            record: Mutex::new(record),
            facts: Mutex::new(facts),
            confirmed: AtomicU64::new(0),
            challenged: AtomicU64::new(0),
            heard,
            wake: Notify::new(),
            changed,
        })
    }

    pub(super) fn member(&self) -> MemberId {
        self.replica.member
    }

    /// The record as it is on disk.
    pub(super) fn record(&self) -> Record {
        lock(&self.record).clone()
    }

    /// Changes the record. Afterwards the change is on disk.
    ///
    /// # Errors
    /// `DISK_FULL`, `INTERNAL`; then nothing changed.
    pub(super) async fn update(&self, change: impl FnOnce(&mut Record)) -> Result<(), Error> {
        let _writing = self.writing.lock().await;
        let mut next = self.record();
        change(&mut next);
        if next == *lock(&self.record) {
            return Ok(());
        }
        let storage = self.storage.clone();
        let written = tokio::task::spawn_blocking(move || lock(&storage).write(&next).map(|()| next)).await;
        let next = written.map_err(|error| Error::internal("a write broke off").with_source(error))??;
        *lock(&self.record) = next;
        Ok(())
    }

    /// Takes an order if it is new. A repeat confirms it; one of a lower epoch, or one that is not newer, is refused.
    pub(super) async fn take(&self, wire: &pb::ReplicationOrder) {
        let order = match Order::parse(wire) {
            Ok(order) => order,
            Err(error) => {
                tracing::error!(member = %self.member(), error = error.chain(), "an order cannot be understood");
                return;
            }
        };
        if self.record().holds(&order) {
            // The same again: it still holds.
            if self.confirmed.swap(order.rev, Ordering::Relaxed) != order.rev {
                self.wake.notify_one();
            }
            return;
        }
        if !matches!(order.goal, Goal::Lead(_)) {
            self.challenge(order.epoch);
        }
        let mut taken = false;
        let written = self.update(|record| taken = record.take(wire, &order)).await;
        match written {
            Ok(()) if taken => {
                tracing::info!(member = %self.member(), epoch = order.epoch, rev = order.rev, goal = %order.goal.word(), "order");
                self.confirmed.store(order.rev, Ordering::Relaxed);
                self.wake.notify_one();
            }
            Ok(()) => {
                tracing::debug!(member = %self.member(), epoch = order.epoch, rev = order.rev, "an order that is old");
            }
            Err(error) => {
                tracing::error!(member = %self.member(), error = error.chain(), "an order was not taken");
            }
        }
    }

    /// Somebody has seen this epoch of the instance.
    pub(super) async fn shown(&self, epoch: u64) {
        if epoch <= self.record().max_epoch {
            return;
        }
        self.challenge(epoch);
        let written = self.update(|record| record.max_epoch = record.max_epoch.max(epoch)).await;
        match written {
            Ok(()) if matches!(self.record().role, Role::Leader(led) if led < epoch) => {
                tracing::warn!(member = %self.member(), epoch, "somebody leads a higher epoch");
            }
            Ok(()) => {}
            Err(error) => tracing::error!(member = %self.member(), error = error.chain(), "cannot remember an epoch"),
        }
        self.wake.notify_one();
    }

    /// Notes an epoch before it is on disk: a leader of a lower one ends its server even if its disk hangs.
    fn challenge(&self, epoch: u64) {
        if self.challenged.fetch_max(epoch, Ordering::Relaxed) < epoch {
            self.wake.notify_one();
        }
    }

    /// The highest epoch heard of.
    pub(super) fn challenged(&self) -> u64 {
        self.challenged.load(Ordering::Relaxed)
    }

    /// Whether the order of this rev came since the agent started.
    pub(super) fn is_confirmed(&self, rev: u64) -> bool {
        self.confirmed.load(Ordering::Relaxed) == rev
    }

    /// When the control plane was heard last.
    pub(super) fn heard(&self) -> BootInstant {
        *lock(&self.heard)
    }

    /// What is known of it.
    pub(super) fn facts(&self) -> pb::ReplicaFacts {
        lock(&self.facts).clone()
    }

    /// Tells facts; at once if something but a position is new.
    pub(super) fn tell(&self, facts: pb::ReplicaFacts) {
        let news = {
            let mut known = lock(&self.facts);
            let news = essence(&known) != essence(&facts);
            *known = facts;
            news
        };
        if news {
            self.changed.send_modify(|count| *count += 1);
        }
    }
}

/// Facts without what always changes.
fn essence(facts: &pb::ReplicaFacts) -> pb::ReplicaFacts {
    let mut facts = facts.clone();
    (facts.flushed_lsn, facts.replayed_lsn, facts.redo_bytes) = (0, 0, 0);
    if let Some(upstream) = &mut facts.upstream {
        upstream.silent_for = None;
    }
    for downstream in &mut facts.downstream {
        // That it has told a position for the first time is news: it may acknowledge from then on.
        (downstream.flushed_lsn, downstream.replayed_lsn) = (downstream.flushed_lsn.min(1), 0);
    }
    facts.reason.clear();
    facts
}

/// What is held here is replaced in one step, so a panic elsewhere leaves it whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
