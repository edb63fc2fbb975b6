//! From orders of a decision to those of the agents' protocol. Pure.

use std::time::Duration;

use windlass_core::id::{InstanceId, MemberId};
use windlass_logic::ha::{Address, Goal, Order};
use windlass_proto::agent::v1::{self as pb, replication_order};

/// One member's order.
pub(super) fn write(instance: InstanceId, member: MemberId, order: &Order) -> pb::ReplicationOrder {
    pb::ReplicationOrder {
        instance_id: instance.to_string(),
        member_id: member.to_string(),
        epoch: order.epoch,
        rev: order.rev,
        fence_after: Some(duration(order.fence_after)),
        goal: Some(goal(&order.goal)),
    }
}

fn goal(goal: &Goal) -> replication_order::Goal {
    match goal {
        Goal::Lead { nonce, acks, acks_needed, barrier_rev, members, checkpoint_rev } => {
            replication_order::Goal::Lead(pb::Lead {
                nonce: nonce.to_string(),
                acks: acks.iter().map(ToString::to_string).collect(),
                acks_needed: *acks_needed,
                barrier_rev: *barrier_rev,
                members: members.iter().map(address).collect(),
                checkpoint_rev: *checkpoint_rev,
            })
        }
        Goal::Follow { nonce, leader, may_acknowledge, clone_anew, members, common_lsn } => {
            replication_order::Goal::Follow(pb::Follow {
                nonce: nonce.to_string(),
                leader: Some(address(leader)),
                may_acknowledge: *may_acknowledge,
                clone_anew: *clone_anew,
                members: members.iter().map(address).collect(),
                common_lsn: *common_lsn,
            })
        }
        Goal::Seal => replication_order::Goal::Seal(pb::Seal {}),
        Goal::Drain => replication_order::Goal::Drain(pb::Drain {}),
        Goal::Rest => replication_order::Goal::Rest(pb::Rest {}),
    }
}

fn address(address: &Address) -> pb::MemberAddress {
    pb::MemberAddress {
        member_id: address.member.to_string(),
        address: address.address.clone(),
        port: address.port.into(),
    }
}

/// A duration for the wire.
pub(super) fn duration(duration: Duration) -> pbjson_types::Duration {
    pbjson_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}
