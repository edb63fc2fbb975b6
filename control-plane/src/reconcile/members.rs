//! Members that are not as wanted get their goal again, or are put aside.

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use uuid::Builder;
use windlass_core::{
    Error,
    host::HostState,
    id::{CommandId, InstanceId, MemberId},
    member::MemberRole,
};
use windlass_db::{
    Guard,
    commands::{Enqueued, NewCommand, command_enqueue_tx},
    drift::member_drift_tx,
    events::{NewEvent, event_add_tx},
    instances::instance_lock_tx,
    members::members_of_tx,
};
use windlass_logic::reconcile::{MemberView, Remedy, remedy};
use windlass_proto::agent::v1 as pb;

use super::Reconciler;
use crate::sagas::{
    goal::{Bond, DataSource, member_goal},
    runtime::command,
};

/// The most members of one look.
const AT_ONCE: i64 = 100;
/// The same remedy for the same goal is given at most once in this time, so that what it cannot heal is not hammered.
const PATIENCE: i64 = 30;
/// How long an agent may take.
const TIMEOUT: SignedDuration = SignedDuration::from_secs(300);
/// Not begun by then: a later look decides anew.
const EXPIRE: SignedDuration = SignedDuration::from_secs(60);

/// Mends what drifts. Gives how many members got something to do.
pub(super) async fn mend(reconciler: &Reconciler, guard: &Guard) -> Result<usize, Error> {
    let mut mended = 0;
    for (instance, member) in reconciler.db.members_drifting(AT_ONCE).await? {
        mended += usize::from(mend_one(reconciler, guard, instance, member).await?);
    }
    Ok(mended)
}

async fn mend_one(
    reconciler: &Reconciler,
    guard: &Guard,
    instance: InstanceId,
    member: MemberId,
) -> Result<bool, Error> {
    let mut tx = reconciler.db.guarded(guard).await?;
    // Under the lock no operation can begin; whatever began before is seen by the statements after it.
    let Some(instance) = instance_lock_tx(&mut tx, instance).await? else { return Ok(false) };
    let Some(drift) = member_drift_tx(&mut tx, member).await? else { return Ok(false) };
    let members = members_of_tx(&mut tx, &[instance.id]).await?;
    let bond = Bond::of(&members);
    let Some(row) = members.into_iter().find(|row| row.id == member) else { return Ok(false) };
    let view = MemberView {
        lifecycle: drift.lifecycle,
        power: drift.spec.power,
        generation: drift.generation,
        observed_generation: drift.observed_generation,
        process: drift.process,
        online: drift.host_state == HostState::Online,
        operation: drift.operation,
        command: drift.command,
        replicated: bond == Bond::Replicated,
    };
    let (body, why) = match remedy(&view) {
        Remedy::Nothing => return Ok(false),
        Remedy::Apply(why) => {
            let source = match row.role {
                MemberRole::Primary => DataSource::Existing,
                MemberRole::Replica => DataSource::Cloned,
            };
            let goal = member_goal(&instance, &row, bond, source, None);
            (pb::command::Body::ApplyMember(pb::ApplyMember { goal: Some(goal) }), why)
        }
        Remedy::PutAside => (
            pb::command::Body::RemoveMember(pb::RemoveMember { purge: false }),
            "its host has it although its instance was deleted",
        ),
    };
    let kind = command::kind(&body);
    let now = Timestamp::now();
    let new = NewCommand {
        uid: uid(member, drift.generation, kind.as_str(), now),
        shard: instance.shard,
        host: row.host_id,
        instance: Some(instance.id),
        member: Some(member),
        saga: None,
        epoch: guard.epoch,
        generation: drift.generation,
        kind,
        args: command::args(body)?,
        timeout: TIMEOUT,
        expire: Some(EXPIRE),
    };
    if command_enqueue_tx(&mut tx, &new).await? == Enqueued::Known {
        return Ok(false);
    }
    let message = format!("its member on host {} is brought into line: {why}", row.host_name);
    let event = NewEvent {
        project: Some(instance.project_id),
        host: Some(row.host_id),
        instance: Some(instance.id),
        ..NewEvent::warning("member.reconciled", instance.path(), message)
    };
    event_add_tx(&mut tx, event).await?;
    tx.commit().await?;
    reconciler.hosts.wake(&[row.host_id]);
    Ok(true)
}

/// The same for every node and every look within [`PATIENCE`].
fn uid(member: MemberId, generation: i64, kind: &str, now: Timestamp) -> CommandId {
    let mut hash = Sha256::new();
    hash.update(member.0.as_bytes());
    hash.update(format!("/{generation}/{kind}/{}", now.as_second().div_euclid(PATIENCE)));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    CommandId(Builder::from_custom_bytes(bytes).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_is_the_same_command_for_a_while() {
        let member = MemberId::new();
        let at = |second| uid(member, 3, "member.apply", Timestamp::from_second(second).expect("in range"));
        assert_eq!(at(60), at(89));
        assert_ne!(at(60), at(90));
        assert_ne!(at(60), uid(member, 4, "member.apply", Timestamp::from_second(60).expect("in range")));
    }
}
