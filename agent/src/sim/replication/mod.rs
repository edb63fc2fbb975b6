//! Replicated members of simulated agents: a model of their databases instead of PostgreSQL, and agents that obey at once.
//!
//! Why: whole failovers of the control plane run in one process within milliseconds. [`SimCluster`] is what all agents of a
//! test share, as real ones share the network; each has its [`SimReplication`]. It outlives the agents' kills.

mod log;
mod node;
mod world;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
pub use node::Repair;
use tokio::sync::watch;
use windlass_core::id::{HostId, MemberId};
use windlass_kit::clock::BootInstant;
use windlass_proto::agent::v1::{self as pb, member_goal::DataSource};

use self::{
    log::Log,
    node::{Node, Server},
    world::World,
};
use crate::link::ReplicationTarget;

/// The databases of all simulated hosts of a test. Clones are the same.
#[derive(Clone, Default)]
pub struct SimCluster(Arc<Shared>);

#[derive(Default)]
struct Shared {
    world: Mutex<World>,
    changed: Mutex<BTreeMap<String, watch::Sender<u64>>>,
}

impl SimCluster {
    /// No host yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The replicated members of one host.
    pub fn host(&self, host: HostId) -> Arc<SimReplication> {
        let changed = watch::Sender::new(0);
        self.0.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_string(), changed.clone());
        Arc::new(SimReplication { host: host.to_string(), cluster: self.clone(), changed })
    }

    /// The server of a member dies. Its agent, if it lives, does not restart it unless it is told to lead or follow.
    pub fn crash(&self, member: MemberId, repair: Repair) {
        self.change(|world| world.crash(&member.to_string(), repair));
    }

    /// A whole host dies: its servers and its agent. Kill its [`super::SimAgent`] too.
    pub fn crash_host(&self, host: HostId) {
        self.change(|world| {
            world.agents.remove(&host.to_string());
            for node in world.nodes.values_mut().filter(|node| node.host == host.to_string()) {
                node.server = Server::Stopped;
            }
        });
    }

    /// Servers of two hosts no longer reach each other.
    pub fn cut(&self, one: HostId, other: HostId) {
        self.change(|world| world.cut(&one.to_string(), &other.to_string()));
    }

    /// What kept a server from being started again is over.
    pub fn repair(&self, member: MemberId) {
        self.change(|world| world.repair(&member.to_string()));
    }

    /// All servers reach each other again.
    pub fn heal(&self) {
        self.change(World::heal);
    }

    /// Tries to commit a transaction; gives its number, or None if the member lets nobody in.
    pub fn write(&self, member: MemberId) -> Option<u64> {
        self.change(|world| world.write(&member.to_string()))
    }

    /// Whether a transaction was acknowledged.
    pub fn is_acknowledged(&self, transaction: u64) -> bool {
        self.world().is_acknowledged(transaction)
    }

    /// Acknowledged transactions of a member's instance that the member does not have. Of a leader, it must be empty.
    pub fn lost_at(&self, member: MemberId) -> Vec<u64> {
        self.world().lost_at(&member.to_string())
    }

    /// What the agent of a member would report.
    pub fn facts(&self, member: MemberId) -> pb::ReplicaFacts {
        self.world().facts(&member.to_string())
    }

    /// Members that let applications in.
    pub fn open(&self) -> Vec<MemberId> {
        let world = self.world();
        let open = world.nodes.iter().filter(|(_, node)| node.state() == pb::ReplicaState::Open);
        open.filter_map(|(id, _)| id.parse().ok()).collect()
    }

    /// Changes the world, does what follows, and wakes the agents that have news.
    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let (outcome, hosts) = {
            let mut world = self.world();
            let before: BTreeMap<_, _> = world.nodes.keys().map(|id| (id.clone(), world.facts(id))).collect();
            let outcome = change(&mut world);
            let mut hosts = world.settle();
            let moved = world.nodes.iter().filter(|(id, _)| before.get(*id) != Some(&world.facts(id)));
            hosts.extend(moved.map(|(_, node)| node.host.clone()));
            (outcome, hosts)
        };
        let changed = self.0.changed.lock().unwrap_or_else(PoisonError::into_inner);
        for host in hosts {
            if let Some(changed) = changed.get(&host) {
                changed.send_modify(|version| *version += 1);
            }
        }
        outcome
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The replicated members of one simulated host.
pub struct SimReplication {
    host: String,
    cluster: SimCluster,
    changed: watch::Sender<u64>,
}

impl SimReplication {
    /// The agent of the host lives or does not. Without it servers go on, and nobody obeys.
    pub(super) fn set_agent(&self, lives: Lives) {
        self.cluster.change(|world| match lives {
            Lives::Yes => world.agents.insert(self.host.clone()),
            Lives::No => world.agents.remove(&self.host),
        });
    }

    /// A member is applied: its data is made if the goal says so.
    pub(super) fn apply(&self, goal: &pb::MemberGoal) {
        self.cluster.change(|world| {
            world.nodes.entry(goal.member_id.clone()).or_insert_with(|| {
                let log = match goal.data() {
                    DataSource::Initialise => Some(Log::new()),
                    DataSource::Cloned | DataSource::Existing | DataSource::Retained | DataSource::Unspecified => None,
                };
                Node::new(goal.instance_id.clone(), self.host.clone(), log)
            });
        });
    }

    /// A member is taken away.
    pub(super) fn remove(&self, member: &str) {
        self.cluster.change(|world| world.nodes.remove(member));
    }

    /// Whether the server of a member runs; None if it is not replicated. One that was just made runs with its gate shut.
    pub(super) fn runs(&self, member: &str) -> Option<bool> {
        let world = self.cluster.world();
        let node = world.nodes.get(member)?;
        Some(match node.server {
            Server::Leader(_) | Server::Follower(_) => true,
            Server::Stopped => node.memory.order.is_none() && node.log.is_some(),
            Server::Crashed => false,
        })
    }

    fn own<T>(&self, each: impl Fn(&String, &Node, &World) -> T) -> Vec<T> {
        let world = self.cluster.world();
        let own = world.nodes.iter().filter(|(_, node)| node.host == self.host);
        own.map(|(id, node)| each(id, node, &world)).collect()
    }
}

/// Whether an agent lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lives {
    Yes,
    No,
}

#[async_trait]
impl ReplicationTarget for SimReplication {
    fn facts(&self) -> Vec<pb::ReplicaFacts> {
        self.own(|id, _, world| world.facts(id))
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    async fn take(&self, orders: pb::ReplicationOrders, _sent_at: BootInstant) {
        let known = self.known();
        let old = |order: &pb::ReplicationOrder| {
            known.iter().any(|known| known.member_id == order.member_id && known.rev >= order.rev)
        };
        if orders.orders.iter().all(old) {
            return;
        }
        self.cluster.change(|world| {
            for order in &orders.orders {
                if let Some(node) = world.nodes.get_mut(&order.member_id).filter(|node| node.host == self.host) {
                    node.memory.take(order);
                }
            }
        });
    }

    fn known(&self) -> Vec<pb::KnownOrder> {
        let known = self.own(|id, node, _| {
            let order = node.memory.order.as_ref()?;
            Some(pb::KnownOrder { member_id: id.clone(), epoch: order.epoch, rev: order.rev })
        });
        known.into_iter().flatten().collect()
    }

    fn epochs(&self) -> Vec<pb::InstanceEpoch> {
        self.own(|_, node, _| pb::InstanceEpoch { instance_id: node.instance.clone(), epoch: node.memory.max_epoch })
    }

    fn shown(&self, epochs: &[pb::InstanceEpoch]) {
        let higher = |shown: &pb::InstanceEpoch| {
            self.epochs().iter().any(|own| own.instance_id == shown.instance_id && own.epoch < shown.epoch)
        };
        if !epochs.iter().any(higher) {
            return;
        }
        self.cluster.change(|world| {
            for node in world.nodes.values_mut().filter(|node| node.host == self.host) {
                for shown in epochs.iter().filter(|shown| shown.instance_id == node.instance) {
                    node.memory.max_epoch = node.memory.max_epoch.max(shown.epoch);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests;
