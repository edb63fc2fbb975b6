//! Replication as users want it.

use std::collections::BTreeSet;

use windlass_core::{
    id::MemberId,
    replication::{Durability, Replication, Timings},
};
use windlass_proto::api::v1::{self as pb, replication};

use crate::{app::instances::ReplicationChange, ha::ClusterView};

/// What a user wants; numbers that are 0 take the default.
pub(in crate::api) fn wanted(given: pb::Replication) -> Replication {
    let usual = Timings::default();
    let asked = given.timings.unwrap_or_default();
    let or = |asked: u32, usual: u32| if asked == 0 { usual } else { asked };
    Replication {
        replicas: given.replicas,
        asynchronous: given.asynchronous,
        durability: match given.durability() {
            replication::Durability::Unspecified | replication::Durability::Availability => Durability::Availability,
            replication::Durability::Durability => Durability::Durability,
        },
        acknowledgements: given.acknowledgements,
        timings: Timings {
            detect_ms: or(asked.detect_ms, usual.detect_ms),
            shrink_ms: or(asked.shrink_ms, usual.shrink_ms),
            fence_ms: or(asked.fence_ms, usual.fence_ms),
            switchover_ms: or(asked.switchover_ms, usual.switchover_ms),
        },
    }
}

/// The paths that a request without a mask sets, and whether it does.
pub(in crate::api) fn given(given: Option<&pb::Replication>) -> Vec<(&'static str, bool)> {
    let Some(given) = given else { return Vec::new() };
    let timings = given.timings.unwrap_or_default();
    vec![
        ("replication.replicas", given.replicas != 0),
        ("replication.asynchronous", given.asynchronous != 0),
        ("replication.durability", given.durability != 0),
        ("replication.acknowledgements", given.acknowledgements != 0),
        ("replication.timings.detect_ms", timings.detect_ms != 0),
        ("replication.timings.shrink_ms", timings.shrink_ms != 0),
        ("replication.timings.fence_ms", timings.fence_ms != 0),
        ("replication.timings.switchover_ms", timings.switchover_ms != 0),
    ]
}

/// What an update with these paths in its mask sets.
pub(in crate::api) fn change(given: pb::Replication, has: impl Fn(&str) -> bool) -> ReplicationChange {
    let wanted = wanted(given);
    let set = |path: &str, value: u32| has(path).then_some(value);
    ReplicationChange {
        replicas: set("replication.replicas", wanted.replicas),
        asynchronous: set("replication.asynchronous", wanted.asynchronous),
        durability: has("replication.durability").then_some(wanted.durability),
        acknowledgements: set("replication.acknowledgements", wanted.acknowledgements),
        detect_ms: set("replication.timings.detect_ms", wanted.timings.detect_ms),
        shrink_ms: set("replication.timings.shrink_ms", wanted.timings.shrink_ms),
        fence_ms: set("replication.timings.fence_ms", wanted.timings.fence_ms),
        switchover_ms: set("replication.timings.switchover_ms", wanted.timings.switchover_ms),
    }
}

/// What is wanted, for the wire.
pub(in crate::api) fn shown(wanted: &Replication) -> pb::Replication {
    let durability = match wanted.durability {
        Durability::Availability => replication::Durability::Availability,
        Durability::Durability => replication::Durability::Durability,
    };
    pb::Replication {
        replicas: wanted.replicas,
        asynchronous: wanted.asynchronous,
        durability: durability.into(),
        acknowledgements: wanted.acknowledgements,
        timings: Some(pb::ReplicationTimings {
            detect_ms: wanted.timings.detect_ms,
            shrink_ms: wanted.timings.shrink_ms,
            fence_ms: wanted.timings.fence_ms,
            switchover_ms: wanted.timings.switchover_ms,
        }),
    }
}

/// Where an instance stands.
pub(in crate::api) fn status(view: &ClusterView) -> pb::ReplicationStatus {
    let cluster = &view.cluster;
    let ids = |members: &BTreeSet<MemberId>| members.iter().map(ToString::to_string).collect();
    pb::ReplicationStatus {
        epoch: cluster.epoch,
        rev: cluster.rev,
        phase: cluster.phase.word().to_owned(),
        mode: cluster.mode().to_string(),
        primary: cluster.primary().map(|primary| primary.to_string()).unwrap_or_default(),
        acknowledging: ids(&cluster.acks()),
        acknowledgements: cluster.acks_needed(),
        candidates: ids(&cluster.candidates()),
        waits: view.waits.clone(),
    }
}
