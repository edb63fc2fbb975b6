//! What commands act on: the members of this host, or a fake of them in simulated agents.

use async_trait::async_trait;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use windlass_core::Error;
use windlass_proto::agent::v1 as pb;

use super::Order;
use crate::members::{Disposal, InstalledEngine, Members};

/// The members of a host. Every change is idempotent: it may be asked for again after a crash.
#[async_trait]
pub trait CommandTarget: Send + Sync + 'static {
    /// Brings a member to the goal.
    ///
    /// # Errors
    /// As [`Members::apply`]; of kind `Cancelled` only if nothing half-done is left.
    async fn apply(
        &self,
        order: &Order,
        goal: pb::MemberGoal,
        cancel: &CancellationToken,
    ) -> Result<pb::MemberFacts, Error>;

    /// Takes a member away.
    ///
    /// # Errors
    /// As [`Members::remove`].
    async fn remove(&self, order: &Order, disposal: Disposal) -> Result<pb::MemberFacts, Error>;

    /// Deletes data that was put aside.
    ///
    /// # Errors
    /// As [`Members::purge`].
    async fn purge(&self, order: &Order) -> Result<pb::MemberFacts, Error>;

    /// Creates, changes or drops a user, database or extension.
    ///
    /// # Errors
    /// As [`Members::apply_object`].
    async fn apply_object(&self, order: &Order, object: pb::ApplyObject) -> Result<pb::MemberFacts, Error>;

    /// What is known of every member.
    fn facts(&self) -> Vec<pb::MemberFacts>;

    /// Names of data directories that no goal owns.
    fn orphans(&self) -> Vec<String>;

    /// Engine versions of this host.
    fn engines(&self) -> Vec<InstalledEngine>;

    /// What happened without an order, from now on.
    fn happenings(&self) -> broadcast::Receiver<pb::Happening>;

    /// Changes when facts changed in a way worth an early heartbeat.
    fn changed(&self) -> watch::Receiver<u64>;
}

#[async_trait]
impl CommandTarget for Members {
    async fn apply(
        &self,
        _order: &Order,
        goal: pb::MemberGoal,
        cancel: &CancellationToken,
    ) -> Result<pb::MemberFacts, Error> {
        self.apply(goal, cancel).await
    }

    async fn remove(&self, order: &Order, disposal: Disposal) -> Result<pb::MemberFacts, Error> {
        self.remove(order.member, disposal).await
    }

    async fn purge(&self, order: &Order) -> Result<pb::MemberFacts, Error> {
        self.purge(order.member).await
    }

    async fn apply_object(&self, order: &Order, object: pb::ApplyObject) -> Result<pb::MemberFacts, Error> {
        self.apply_object(order.member, object).await
    }

    fn facts(&self) -> Vec<pb::MemberFacts> {
        self.facts()
    }

    fn orphans(&self) -> Vec<String> {
        self.orphans()
    }

    fn engines(&self) -> Vec<InstalledEngine> {
        self.engines()
    }

    fn happenings(&self) -> broadcast::Receiver<pb::Happening> {
        self.happenings()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed()
    }
}
