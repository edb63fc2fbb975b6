//! Facts from the wire to what decisions take, as the control plane reads them.

use std::time::Duration;

use windlass_core::replication::ReplicaState;
use windlass_logic::ha::{Barrier, Downstream, Enforced, Facts, Lineage, Upstream};
use windlass_proto::agent::v1 as pb;

/// The typed facts.
pub(crate) fn read(wire: &pb::ReplicaFacts) -> Facts {
    let lineage = wire.lineage.clone().unwrap_or_default();
    Facts {
        max_epoch: wire.max_epoch,
        applied_rev: wire.applied_rev,
        state: wire.state().as_str_name().parse().unwrap_or(ReplicaState::New),
        role_epoch: wire.role_epoch,
        lineage: Lineage {
            system: lineage.system,
            timeline: lineage.timeline,
            fork: lineage.fork_lsn,
            nonce: lineage.nonce.parse().ok(),
        },
        barrier: Barrier { epoch: wire.barrier_epoch, rev: wire.barrier_rev },
        flushed: wire.flushed_lsn,
        replayed: wire.replayed_lsn,
        redo_bytes: wire.redo_bytes,
        upstream: wire.upstream.as_ref().map(|up| Upstream {
            member: up.member_id.parse().ok(),
            streaming: up.streaming,
            application_name: up.application_name.clone(),
            silent_for: up.silent_for.and_then(|silent| Duration::try_from(silent).ok()).unwrap_or_default(),
        }),
        downstream: wire
            .downstream
            .iter()
            .filter_map(|down| {
                Some(Downstream {
                    member: down.member_id.parse().ok()?,
                    epoch: down.epoch,
                    streaming: down.streaming,
                    acknowledges: down.acknowledges,
                    flushed: down.flushed_lsn,
                    replayed: down.replayed_lsn,
                })
            })
            .collect(),
        enforced: wire.enforced.as_ref().map(|enforced| Enforced {
            rev: enforced.rev,
            acks: enforced.acks.iter().filter_map(|id| id.parse().ok()).collect(),
            needed: enforced.acks_needed,
            barrier_rev: enforced.barrier_rev,
        }),
        reason: wire.reason.clone(),
        starts: wire.starts,
        crashes: wire.crashes,
        must_not_restart: wire.must_not_restart,
        checkpoint_rev: wire.checkpoint_rev,
        lost_writes: wire.lost_writes.clone(),
        progress_percent: u8::try_from(wire.progress_percent).ok(),
    }
}

/// Facts without what always changes, as the agent tells news from noise.
pub(crate) fn essence(mut facts: pb::ReplicaFacts) -> pb::ReplicaFacts {
    (facts.flushed_lsn, facts.replayed_lsn, facts.redo_bytes) = (0, 0, 0);
    if let Some(upstream) = &mut facts.upstream {
        upstream.silent_for = None;
    }
    for downstream in &mut facts.downstream {
        (downstream.flushed_lsn, downstream.replayed_lsn) = (0, 0);
    }
    facts.reason.clear();
    facts
}
