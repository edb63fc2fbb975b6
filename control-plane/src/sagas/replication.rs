//! What sagas ask of a replicated instance's cluster, and waiting for what the state machine makes of it.
//!
//! A saga never changes a role: it stores an intent, a member or a policy by compare-and-set in its own transaction and
//! looks again until the state machine has come to it. The driver is told after the commit and wakes the saga after each
//! decision. Invariant: the cluster's row is locked last (instance, host, member, cluster), as the driver does.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;
use windlass_core::{
    Error, Reason,
    error::ErrorKind,
    id::{InstanceId, MemberId, OperationId},
    member::MemberRole,
};
use windlass_db::{
    ha::{ClusterRow, cluster_delete_tx, cluster_insert_tx, cluster_lock_tx, cluster_swap_tx, member_roles_tx},
    members::MemberRow,
};
use windlass_logic::ha::{Cluster, Kind, Member, Stay};

use super::{Progress, StepContext, members::Team};
use crate::ha::{read, write};

/// Between two looks that nobody woke.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(1);
/// How long replicas may take until they acknowledge, if nothing is told of their progress.
const PATIENCE: SignedDuration = SignedDuration::from_mins(30);

/// A member as its cluster knows it.
pub(super) fn member(row: &MemberRow) -> Member {
    Member {
        host: row.host_id,
        host_name: row.host_name.clone(),
        address: row.host_address.clone(),
        port: row.port.unwrap_or_default(),
        kind: if row.asynchronous { Kind::Asynchronous } else { Kind::Synchronous },
        priority: 0,
        stay: Stay::Staying,
        clone_anew: false,
        order_rev: 0,
    }
}

/// The cluster of an instance, its row locked.
pub(super) async fn lock(ctx: &mut StepContext, id: InstanceId) -> Result<Option<Cluster>, Error> {
    match cluster_lock_tx(ctx.tx(), id).await? {
        Some(row) => Ok(Some(read(&row)?)),
        None => Ok(None),
    }
}

/// The cluster of an instance that must be replicated, its row locked.
pub(super) async fn locked(ctx: &mut StepContext, id: InstanceId) -> Result<Cluster, Error> {
    lock(ctx, id).await?.ok_or_else(|| Error::precondition(Reason::StateForbids, "the instance has no replicas"))
}

/// Stores what became of a locked cluster, and tells the driver after the commit. Nothing happens if nothing changed.
pub(super) async fn save(ctx: &mut StepContext, id: InstanceId, before: &Cluster, next: &Cluster) -> Result<(), Error> {
    if before == next {
        return Ok(());
    }
    let (old, new): (ClusterRow, ClusterRow) = (write(id, before)?, write(id, next)?);
    if !cluster_swap_tx(ctx.tx(), (old.epoch, old.rev), &new).await? {
        return Err(Error::internal("a locked cluster was changed"));
    }
    ctx.cluster_changed(id);
    Ok(())
}

/// Founds the cluster of an instance whose members are deployed, if it has none: the primary alone, the others follow.
pub(super) async fn found(ctx: &mut StepContext, team: &Team) -> Result<(), Error> {
    let id = team.instance.id;
    if lock(ctx, id).await?.is_some() {
        return Ok(());
    }
    let primary = team.primary()?.id;
    let members: BTreeMap<MemberId, Member> = team.members.iter().map(|row| (row.id, member(row))).collect();
    let cluster = Cluster::found(members, primary, team.instance.spec.replication.clone(), Uuid::new_v4());
    member_roles_tx(ctx.tx(), id, Some(primary)).await?;
    cluster_insert_tx(ctx.tx(), &write(id, &cluster)?, team.instance.shard).await?;
    ctx.cluster_changed(id);
    Ok(())
}

/// Forgets the cluster: nobody is ordered anything any more.
pub(super) async fn forget(ctx: &mut StepContext, id: InstanceId) -> Result<(), Error> {
    cluster_delete_tx(ctx.tx(), id).await?;
    ctx.cluster_changed(id);
    Ok(())
}

/// Waits until every synchronous member acknowledges commits and every other one is known to follow. `until` keeps
/// since when it is waited.
///
/// # Errors
/// `DEADLINE_EXCEEDED` when it takes too long, saying where each replica stands.
pub(super) async fn until_acknowledged(
    ctx: &mut StepContext,
    team: &Team,
    until: &mut Option<Timestamp>,
) -> Result<Progress, Error> {
    let cluster = locked(ctx, team.instance.id).await?;
    let missing: Vec<_> = team.members.iter().filter(|row| !acknowledges(&cluster, row.id)).collect();
    if missing.is_empty() && cluster.primary().is_some() {
        return Progress::done(in_step(&cluster, team));
    }
    let heard = ctx.heard(team.instance.id);
    let doing = |row: &&MemberRow| {
        let doing = heard.as_ref().map_or_else(|| "not heard yet".to_owned(), |heard| heard.doing(row.id));
        format!("{} on {}: {doing}", row.role, row.host_name)
    };
    let mut said: Vec<_> = missing.iter().map(doing).collect();
    said.extend(heard.iter().flat_map(|heard| heard.waits.iter().take(1).cloned()));
    wait(ctx, until, PATIENCE, said.join("; "))
}

/// Whether a member is where it shall be: it leads, it acknowledges for sure, or it never does.
pub(super) fn acknowledges(cluster: &Cluster, member: MemberId) -> bool {
    let Some(known) = cluster.members.get(&member) else { return false };
    cluster.primary() == Some(member)
        || !known.counts()
        || (cluster.reign.sets.len() == 1 && cluster.reign.ordered().members.contains(&member))
}

fn in_step(cluster: &Cluster, team: &Team) -> String {
    let set = cluster.reign.ordered();
    match (team.instance.spec.replication.synchronous(), set.needed) {
        (0, _) => "replicas follow; commits wait for none".to_owned(),
        (_, needed) => format!("commits wait for {needed} of {}", cluster.names(&set.members)),
    }
}

/// Another look a little later, for at most `patience` in all.
///
/// # Errors
/// `DEADLINE_EXCEEDED` with what was waited for.
pub(super) fn wait(
    ctx: &StepContext,
    until: &mut Option<Timestamp>,
    patience: SignedDuration,
    what: String,
) -> Result<Progress, Error> {
    let deadline = *until.get_or_insert(ctx.now() + patience);
    if ctx.now() >= deadline {
        return Err(Error::new(
            ErrorKind::FailedPrecondition,
            Reason::DeadlineExceeded,
            format!("it took longer than {} s: {what}", patience.as_secs()),
        ));
    }
    Ok(Progress::Later(LOOK_AGAIN, what))
}

/// Waits for what came of this operation's intent.
///
/// # Errors
/// Why it was not reached; `DEADLINE_EXCEEDED`.
pub(super) async fn until_outcome(
    ctx: &mut StepContext,
    id: InstanceId,
    operation: OperationId,
    until: &mut Option<Timestamp>,
    patience: SignedDuration,
) -> Result<Progress, Error> {
    let cluster = locked(ctx, id).await?;
    match cluster.outcome_of(operation) {
        Some(outcome) if outcome.failure.is_empty() => {
            let leader = cluster.primary().map_or_else(|| "nobody".to_owned(), |leader| cluster.name(leader));
            Progress::done(format!("{leader} leads"))
        }
        Some(outcome) => Err(Error::precondition(Reason::StateForbids, outcome.failure.clone())),
        None => {
            let heard = ctx.heard(id);
            let waits = heard.and_then(|heard| heard.waits.first().cloned());
            let what = waits.unwrap_or_else(|| cluster.phase.word().to_lowercase());
            wait(ctx, until, patience, what)
        }
    }
}

/// The members with the role that each has in the cluster.
pub(super) fn role(cluster: &Cluster, member: MemberId) -> MemberRole {
    if cluster.primary() == Some(member) { MemberRole::Primary } else { MemberRole::Replica }
}
