//! What the link reports of and gives orders to.

use async_trait::async_trait;
use tokio::sync::watch;
use windlass_kit::clock::BootInstant;
use windlass_proto::agent::v1 as pb;

/// The replicated members of a host.
#[async_trait]
pub trait ReplicationTarget: Send + Sync + 'static {
    /// What is true of each member now, from memory: it is asked several times a second.
    fn facts(&self) -> Vec<pb::ReplicaFacts>;

    /// Changes when facts changed in a way worth an immediate report.
    fn changed(&self) -> watch::Receiver<u64>;

    /// Takes orders that answer a request sent at `sent_at`, which is when the lease in them begins. Returns as soon as
    /// what is new is on disk; acting on it is not waited for. May be called by several tasks at a time, with orders out
    /// of order, repeated, or of members that this host does not have.
    async fn take(&self, orders: pb::ReplicationOrders, sent_at: BootInstant);

    /// The order that each member took last. One that was refused is not known.
    fn known(&self) -> Vec<pb::KnownOrder>;

    /// The highest epoch seen of each instance.
    fn epochs(&self) -> Vec<pb::InstanceEpoch>;

    /// Another agent showed these epochs. A leader of a lower one has to step down, whoever says so.
    fn shown(&self, epochs: &[pb::InstanceEpoch]);
}

/// A host that replicates nothing.
#[derive(Debug)]
pub struct NoReplication(watch::Sender<u64>);

impl Default for NoReplication {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

#[async_trait]
impl ReplicationTarget for NoReplication {
    fn facts(&self) -> Vec<pb::ReplicaFacts> {
        Vec::new()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    async fn take(&self, _orders: pb::ReplicationOrders, _sent_at: BootInstant) {}

    fn known(&self) -> Vec<pb::KnownOrder> {
        Vec::new()
    }

    fn epochs(&self) -> Vec<pb::InstanceEpoch> {
        Vec::new()
    }

    fn shown(&self, _epochs: &[pb::InstanceEpoch]) {}
}
