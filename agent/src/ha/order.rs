//! Orders of the control plane, parsed.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use windlass_core::{Error, id::MemberId, replication::ReplicaGoal};
use windlass_proto::agent::v1::{self as pb, replication_order};

use crate::engines::postgres::replication::{Lsn, Remote};

/// Shortest isolation after which a leader shuts itself, whatever an order says.
const FENCE_MIN: Duration = Duration::from_secs(1);
const FENCE_DEFAULT: Duration = Duration::from_secs(5);

/// What a member is ordered to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) member: MemberId,
    pub(super) epoch: u64,
    pub(super) rev: u64,
    pub(super) fence_after: Duration,
    pub(super) goal: Goal,
}

/// The goal of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Goal {
    Lead(Lead),
    Follow(Follow),
    Seal,
    Drain,
    Rest,
}

/// How to lead. Also on disk: what a leader enforces outlives its orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lead {
    pub(super) epoch: u64,
    /// rev of the order.
    pub(super) rev: u64,
    pub(super) nonce: Uuid,
    pub(super) acks: Vec<MemberId>,
    pub(super) needed: u32,
    pub(super) barrier_rev: u64,
    /// All members but this one.
    pub(super) others: Vec<MemberId>,
    /// A checkpoint is asked for, once for each rev.
    #[serde(default)]
    pub(super) checkpoint_rev: u64,
}

/// Whom to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Follow {
    pub(super) nonce: Uuid,
    pub(super) leader: Remote,
    pub(super) receipts: Receipts,
    pub(super) data: Data,
    pub(super) others: Vec<MemberId>,
    /// Where the member's log ended when it led and stopped in order, if the leader is known to have all of it.
    pub(super) common: Option<Lsn>,
}

/// Whether a follower's receipts may release commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receipts {
    MayCount,
    DoNotCount,
}

/// What becomes of a follower's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    Keep,
    CopyAnew,
}

impl Order {
    /// Parses an order.
    ///
    /// # Errors
    /// `INVALID_FIELD` naming the field.
    pub(super) fn parse(order: &pb::ReplicationOrder) -> Result<Self, Error> {
        let member: MemberId = order.member_id.parse()?;
        let (epoch, rev) = (order.epoch, order.rev);
        if epoch == 0 || rev == 0 {
            return Err(Error::invalid("order.epoch", "epoch and rev count from 1"));
        }
        let others = |members: &[pb::MemberAddress]| -> Result<Vec<MemberId>, Error> {
            let all = members.iter().map(|address| address.member_id.parse::<MemberId>());
            all.filter(|id| id.as_ref().ok() != Some(&member)).collect()
        };
        let nonce = |text: &str| {
            Uuid::parse_str(text).map_err(|_| Error::invalid("order.nonce", format!("{text:?} is not a UUID")))
        };
        let goal = match &order.goal {
            Some(replication_order::Goal::Lead(lead)) => {
                let acks: Vec<MemberId> = lead.acks.iter().map(|id| id.parse()).collect::<Result<_, _>>()?;
                if acks.contains(&member)
                    || (lead.acks_needed as usize) > acks.len()
                    || acks.is_empty() != (lead.acks_needed == 0)
                {
                    let message = format!("{} receipts of {} members", lead.acks_needed, acks.len());
                    return Err(Error::invalid("order.lead.acks", message));
                }
                Goal::Lead(Lead {
                    epoch,
                    rev,
                    nonce: nonce(&lead.nonce)?,
                    acks,
                    needed: lead.acks_needed,
                    barrier_rev: lead.barrier_rev,
                    others: others(&lead.members)?,
                    checkpoint_rev: lead.checkpoint_rev,
                })
            }
            Some(replication_order::Goal::Follow(follow)) => {
                let leader = follow.leader.as_ref();
                let leader = leader.ok_or_else(|| Error::invalid("order.follow.leader", "is missing"))?;
                let remote = Remote {
                    member: leader.member_id.parse()?,
                    address: leader.address.clone(),
                    port: u16::try_from(leader.port)
                        .map_err(|_| Error::invalid("order.follow.leader.port", "is no port"))?,
                };
                if remote.member == member {
                    return Err(Error::invalid("order.follow.leader", "is the follower itself"));
                }
                let mut others = others(&follow.members)?;
                if !others.contains(&remote.member) {
                    others.push(remote.member);
                }
                Goal::Follow(Follow {
                    nonce: nonce(&follow.nonce)?,
                    leader: remote,
                    receipts: if follow.may_acknowledge { Receipts::MayCount } else { Receipts::DoNotCount },
                    data: if follow.clone_anew { Data::CopyAnew } else { Data::Keep },
                    others,
                    common: Some(Lsn(follow.common_lsn)).filter(|common| common.0 > 0),
                })
            }
            Some(replication_order::Goal::Seal(_)) => Goal::Seal,
            Some(replication_order::Goal::Drain(_)) => Goal::Drain,
            Some(replication_order::Goal::Rest(_)) => Goal::Rest,
            None => return Err(Error::invalid("order.goal", "is missing or unknown to this agent")),
        };
        let fence_after = order.fence_after.and_then(|wire| Duration::try_from(wire).ok());
        let fence_after = fence_after.filter(|after| !after.is_zero()).unwrap_or(FENCE_DEFAULT).max(FENCE_MIN);
        Ok(Self { member, epoch, rev, fence_after, goal })
    }
}

impl Goal {
    /// The word for it.
    pub(super) fn word(&self) -> ReplicaGoal {
        match self {
            Self::Lead(_) => ReplicaGoal::Lead,
            Self::Follow(_) => ReplicaGoal::Follow,
            Self::Seal => ReplicaGoal::Seal,
            Self::Drain => ReplicaGoal::Drain,
            Self::Rest => ReplicaGoal::Rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(goal: replication_order::Goal) -> pb::ReplicationOrder {
        pb::ReplicationOrder {
            member_id: MemberId::new().to_string(),
            epoch: 1,
            rev: 1,
            goal: Some(goal),
            ..pb::ReplicationOrder::default()
        }
    }

    #[test]
    fn a_quorum_that_cannot_be_is_refused() {
        let other = MemberId::new().to_string();
        for (acks, acks_needed) in [(vec![other.clone()], 0), (vec![other.clone()], 2), (vec![], 1)] {
            let lead = pb::Lead { nonce: Uuid::new_v4().to_string(), acks, acks_needed, ..pb::Lead::default() };
            let error = Order::parse(&order(replication_order::Goal::Lead(lead))).expect_err("impossible");
            assert_eq!(error.violations[0].field, "order.lead.acks");
        }
    }

    #[test]
    fn nobody_follows_itself() {
        let mut wrong = order(replication_order::Goal::Seal(pb::Seal {}));
        let leader = pb::MemberAddress { member_id: wrong.member_id.clone(), address: "h".into(), port: 1 };
        let follow = pb::Follow { nonce: Uuid::new_v4().to_string(), leader: Some(leader), ..pb::Follow::default() };
        Order::parse(&wrong).expect("a seal");
        wrong.goal = Some(replication_order::Goal::Follow(follow));
        Order::parse(&wrong).expect_err("itself");
    }
}
