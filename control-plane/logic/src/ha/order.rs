//! Orders to agents: a pure projection of the stored cluster, so a crash between storing and sending loses nothing.
//!
//! Invariants: an order's epoch is the cluster's, its rev is the one at which this very order last changed (P10), so
//! that members who are not concerned see nothing new; a leader is ordered only what is stored in its reign (P2).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use uuid::Uuid;
use windlass_core::{id::MemberId, replication::ReplicaGoal};

use super::{
    cluster::{Cluster, Stay},
    phase::{Phase, RestStep, SwitchStep},
};

/// What one member is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Order {
    /// Epoch.
    pub epoch: u64,
    /// rev at which it last changed.
    pub rev: u64,
    /// Rule F2: isolation after which a leader in quorum shuts its gate.
    pub fence_after: Duration,
    /// What to be.
    pub goal: Goal,
}

/// What a member is told to be. Explained in the agent's protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Goal {
    /// Lead the epoch.
    Lead {
        /// Of the epoch.
        nonce: Uuid,
        /// Members whose receipt releases a commit; empty: alone.
        acks: BTreeSet<MemberId>,
        /// How many of them.
        acks_needed: u32,
        /// rev of the last change of the set.
        barrier_rev: u64,
        /// All members.
        members: Vec<Address>,
        /// A checkpoint is asked for, once for each rev; 0 if not.
        checkpoint_rev: u64,
    },
    /// Follow the leader of the epoch.
    Follow {
        /// Of the epoch.
        nonce: Uuid,
        /// Whom.
        leader: Address,
        /// Its receipts may count.
        may_acknowledge: bool,
        /// Throw the data away and copy anew.
        clone_anew: bool,
        /// All members.
        members: Vec<Address>,
        /// Where its log ended when it led, if the leader is proven to have all of it; 0 if not.
        common_lsn: u64,
    },
    /// Follow nobody of a lower epoch.
    Seal,
    /// Stop in order and report the end.
    Drain,
    /// Do not run.
    Rest,
}

impl Goal {
    /// Its word.
    pub const fn word(&self) -> ReplicaGoal {
        match self {
            Self::Lead { .. } => ReplicaGoal::Lead,
            Self::Follow { .. } => ReplicaGoal::Follow,
            Self::Seal => ReplicaGoal::Seal,
            Self::Drain => ReplicaGoal::Drain,
            Self::Rest => ReplicaGoal::Rest,
        }
    }
}

/// Where a member is reached by its peers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Who.
    pub member: MemberId,
    /// Host name or IP address.
    pub address: String,
    /// Port.
    pub port: u16,
}

/// The newest order of each member. Empty while the cluster is being rebuilt: agents keep what they have.
pub fn orders(cluster: &Cluster) -> BTreeMap<MemberId, Order> {
    let fence_after = Duration::from_millis(cluster.timings().fence_ms.into());
    goals(cluster)
        .into_iter()
        .map(|(id, goal)| {
            let rev = cluster.members.get(&id).map_or(cluster.rev, |member| member.order_rev);
            (id, Order { epoch: cluster.epoch, rev, fence_after, goal })
        })
        .collect()
}

/// What each member is told to be, without the numbers of the order.
pub(super) fn goals(cluster: &Cluster) -> BTreeMap<MemberId, Goal> {
    if cluster.phase == Phase::Reconciling {
        return BTreeMap::new();
    }
    let addresses: Vec<_> = cluster.members.keys().filter_map(|id| address(cluster, *id)).collect();
    cluster.members.keys().filter_map(|id| Some((*id, goal(cluster, *id, &addresses)?))).collect()
}

fn goal(cluster: &Cluster, id: MemberId, members: &[Address]) -> Option<Goal> {
    let member = cluster.members.get(&id)?;
    let leads = cluster.reign.leader == id;
    let at_work = || {
        if leads {
            let set = cluster.reign.ordered();
            return Some(Goal::Lead {
                nonce: cluster.reign.nonce,
                acks: set.members.clone(),
                acks_needed: set.needed,
                barrier_rev: set.rev,
                members: members.to_vec(),
                checkpoint_rev: if let Phase::Switchover(switch) = &cluster.phase { switch.checkpoint_rev } else { 0 },
            });
        }
        if member.stay == Stay::Leaving && !cluster.acks().contains(&id) {
            return Some(Goal::Rest);
        }
        Some(Goal::Follow {
            nonce: cluster.reign.nonce,
            leader: address(cluster, cluster.reign.leader)?,
            // One that leaves goes on acknowledging until the leader no longer waits for it.
            may_acknowledge: member.counts() || cluster.acks().contains(&id),
            clone_anew: member.clone_anew,
            members: members.to_vec(),
            common_lsn: cluster.reign.handed_over.filter(|over| over.from == id).map_or(0, |over| over.end),
        })
    };
    match &cluster.phase {
        Phase::Steady | Phase::Promoting(_) => at_work(),
        Phase::Electing(_) => Some(Goal::Seal),
        Phase::Switchover(switch) => match switch.step {
            SwitchStep::Draining if leads => Some(Goal::Drain),
            SwitchStep::Preparing | SwitchStep::Pausing | SwitchStep::Draining => at_work(),
        },
        Phase::Resting(RestStep::Leader) if !leads => at_work(),
        Phase::Resting(_) => Some(Goal::Rest),
        Phase::Reconciling => None,
    }
}

fn address(cluster: &Cluster, id: MemberId) -> Option<Address> {
    let member = cluster.members.get(&id)?;
    Some(Address { member: id, address: member.address.clone(), port: member.port })
}
