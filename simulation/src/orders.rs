//! Orders as they go over the wire, as the control plane writes them.

use std::time::Duration;

use windlass_core::id::InstanceId;
use windlass_logic::ha::{Address, Cluster, Goal, orders};
use windlass_proto::agent::v1::{self as pb, replication_order::Goal as Wire};

/// All orders of a cluster.
pub(crate) fn of(instance: InstanceId, cluster: &Cluster) -> Vec<pb::ReplicationOrder> {
    let write = |(member, order): (_, &windlass_logic::ha::Order)| pb::ReplicationOrder {
        instance_id: instance.to_string(),
        member_id: windlass_core::id::MemberId::to_string(member),
        epoch: order.epoch,
        rev: order.rev,
        fence_after: Some(duration(order.fence_after)),
        goal: Some(goal(&order.goal)),
    };
    orders(cluster).iter().map(write).collect()
}

fn goal(goal: &Goal) -> Wire {
    match goal {
        Goal::Lead { nonce, acks, acks_needed, barrier_rev, members, checkpoint_rev } => Wire::Lead(pb::Lead {
            nonce: nonce.to_string(),
            acks: acks.iter().map(ToString::to_string).collect(),
            acks_needed: *acks_needed,
            barrier_rev: *barrier_rev,
            members: members.iter().map(address).collect(),
            checkpoint_rev: *checkpoint_rev,
        }),
        Goal::Follow { nonce, leader, may_acknowledge, clone_anew, members, common_lsn } => Wire::Follow(pb::Follow {
            nonce: nonce.to_string(),
            leader: Some(address(leader)),
            may_acknowledge: *may_acknowledge,
            clone_anew: *clone_anew,
            members: members.iter().map(address).collect(),
            common_lsn: *common_lsn,
        }),
        Goal::Seal => Wire::Seal(pb::Seal {}),
        Goal::Drain => Wire::Drain(pb::Drain {}),
        Goal::Rest => Wire::Rest(pb::Rest {}),
    }
}

fn address(address: &Address) -> pb::MemberAddress {
    pb::MemberAddress {
        member_id: address.member.to_string(),
        address: address.address.clone(),
        port: address.port.into(),
    }
}

fn duration(duration: Duration) -> pbjson_types::Duration {
    pbjson_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}
