//! The replicated members of a host, as the link speaks with them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use windlass_core::{Error, id::MemberId};
use windlass_kit::{clock::BootInstant, failpoint::Failpoints};
use windlass_proto::agent::v1 as pb;

use super::{
    echo::Echo,
    machine::Machine,
    seat::{Seat, lock},
};
use crate::{
    host::facts,
    link::ReplicationTarget,
    members::{Keeper, Members, Replica},
};

/// Members come and go by commands, whose end is told; this is for what was missed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The replicated members of this host.
pub struct Replication {
    members: Arc<Members>,
    failpoints: Failpoints,
    boot: Arc<str>,
    seats: RwLock<BTreeMap<MemberId, Arc<Seat>>>,
    heard: Arc<Mutex<BootInstant>>,
    owner: AtomicU64,
    changed: watch::Sender<u64>,
    echo: Echo,
}

impl Replication {
    /// Of these members. Nothing happens before [`Self::run`].
    ///
    /// # Errors
    /// `INTERNAL` when the machine's boot cannot be told.
    pub fn new(members: Arc<Members>, failpoints: Failpoints) -> Result<Arc<Self>, Error> {
        let replication = Arc::new(Self {
            members,
            echo: Echo::new(failpoints.clone()),
            failpoints,
            boot: facts::boot_id()?.into(),
            seats: RwLock::default(),
            heard: Arc::new(Mutex::new(BootInstant::now())),
            owner: AtomicU64::new(0),
            changed: watch::Sender::new(0),
        });
        // Orders may come before the first look.
        for replica in replication.members.replicas() {
            replication.sit(replica)?;
        }
        Ok(replication)
    }

    /// Runs a machine for each replicated member until shutdown; the servers go on. To be called once.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut changes = self.members.changed();
        let mut machines: JoinSet<()> = JoinSet::new();
        while !shutdown.is_cancelled() {
            self.settle(&mut machines, &shutdown);
            tokio::select! {
                () = shutdown.cancelled() => {}
                // The members' sender lives as long as `self`.
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                Some(ended) = machines.join_next(), if !machines.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a member's replication broke off");
                    }
                }
            }
        }
        while machines.join_next().await.is_some() {}
    }

    fn settle(&self, machines: &mut JoinSet<()>, shutdown: &CancellationToken) {
        let replicas = self.members.replicas();
        let gone: Vec<MemberId> = {
            let seats = self.seats.read().unwrap_or_else(PoisonError::into_inner);
            seats.keys().copied().filter(|id| replicas.iter().all(|replica| replica.member != *id)).collect()
        };
        for member in gone {
            self.seats.write().unwrap_or_else(PoisonError::into_inner).remove(&member);
            self.changed.send_modify(|count| *count += 1);
        }
        for replica in replicas {
            let member = replica.member;
            let seat = match self.sit(replica) {
                Ok(seat) => seat,
                Err(error) => {
                    tracing::error!(%member, error = error.chain(), "a member's memory cannot be used");
                    continue;
                }
            };
            if let Some(keeper) = self.members.keep_replica(member) {
                let machine = Machine::new(
                    seat,
                    self.members.clone(),
                    self.failpoints.clone(),
                    keeper.leave.clone(),
                    self.boot.clone(),
                );
                machines.spawn(keep(machine, keeper, shutdown.clone()));
            }
        }
    }

    fn sit(&self, replica: Replica) -> Result<Arc<Seat>, Error> {
        let mut seats = self.seats.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(seat) = seats.get(&replica.member) {
            return Ok(seat.clone());
        }
        let member = replica.member;
        let seat = Arc::new(Seat::open(replica, self.heard.clone(), self.changed.clone())?);
        seats.insert(member, seat.clone());
        self.changed.send_modify(|count| *count += 1);
        Ok(seat)
    }

    /// The seat of a member; of one that was just made too.
    fn seat_of(&self, member: &str) -> Option<Arc<Seat>> {
        let known = self.all().into_iter().find(|seat| seat.member().to_string() == member);
        known.or_else(|| {
            let replica = self.members.replicas().into_iter().find(|replica| replica.member.to_string() == member)?;
            self.sit(replica)
                .inspect_err(|error| tracing::error!(member, error = error.chain(), "a member's memory cannot be used"))
                .ok()
        })
    }

    /// Orders go to their seats; each seat decides whether they are new.
    async fn obey(&self, orders: pb::ReplicationOrders, sent_at: BootInstant) {
        if self.owner.fetch_max(orders.owner_epoch, Ordering::Relaxed) > orders.owner_epoch {
            tracing::warn!(owner_epoch = orders.owner_epoch, "orders of a former owner are ignored");
            return;
        }
        {
            let mut heard = lock(&self.heard);
            *heard = (*heard).max(sent_at);
        }
        for order in &orders.orders {
            if let Some(seat) = self.seat_of(&order.member_id) {
                seat.take(order).await;
            }
        }
    }

    fn all(&self) -> Vec<Arc<Seat>> {
        self.seats.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// Runs a machine; whatever ends it, others may have the server then.
async fn keep(machine: Machine, keeper: Keeper, shutdown: CancellationToken) {
    let _left = keeper.left.clone().drop_guard();
    tokio::select! {
        () = Box::pin(machine.run()) => {}
        () = shutdown.cancelled() => {}
    }
}

#[async_trait]
impl ReplicationTarget for Replication {
    fn facts(&self) -> Vec<pb::ReplicaFacts> {
        self.all().iter().map(|seat| seat.facts()).collect()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    async fn take(&self, orders: pb::ReplicationOrders, sent_at: BootInstant) {
        let again = self.echo.of(&orders, sent_at).await;
        self.obey(orders, sent_at).await;
        for (orders, sent_at) in again {
            self.obey(orders, sent_at).await;
        }
    }

    fn known(&self) -> Vec<pb::KnownOrder> {
        let known = |seat: &Arc<Seat>| {
            let order = seat.record().order?;
            Some(pb::KnownOrder { member_id: order.member_id, epoch: order.epoch, rev: order.rev })
        };
        self.all().iter().filter_map(known).collect()
    }

    fn epochs(&self) -> Vec<pb::InstanceEpoch> {
        let mut epochs: BTreeMap<String, u64> = BTreeMap::new();
        for seat in self.all() {
            let record = seat.record();
            let epoch = epochs.entry(record.instance.to_string()).or_default();
            *epoch = record.max_epoch.max(*epoch);
        }
        epochs.into_iter().map(|(instance_id, epoch)| pb::InstanceEpoch { instance_id, epoch }).collect()
    }

    fn shown(&self, epochs: &[pb::InstanceEpoch]) {
        for seat in self.all() {
            let instance = seat.replica.instance.to_string();
            let shown = epochs.iter().filter(|shown| shown.instance_id == instance).map(|shown| shown.epoch).max();
            if let Some(epoch) = shown.filter(|epoch| *epoch > seat.record().max_epoch) {
                tokio::spawn(async move { seat.shown(epoch).await });
            }
        }
    }
}
