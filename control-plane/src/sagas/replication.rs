//! What sagas ask of a replicated instance's cluster, and waiting for what the state machine makes of it.
//!
//! A saga never changes a role: it stores an intent, a member or a policy by compare-and-set in its own transaction and
//! looks again until the state machine has come to it. The driver is told after the commit and wakes the saga after each
//! decision. Invariant: the cluster's row is locked last (instance, host, member, cluster), as the driver does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;
use windlass_core::{
    Error, Reason,
    error::ErrorKind,
    id::{InstanceId, MemberId},
    replication::{ReplicaState, Replication},
};
use windlass_db::{
    ha::{ClusterRow, cluster_delete_tx, cluster_insert_tx, cluster_lock_tx, cluster_swap_tx, member_roles_tx},
    members::MemberRow,
};
use windlass_logic::ha::{Cluster, Intent, Kind, Member, Phase, RestStep, Stay};

use super::{Progress, StepContext, members::Team};
use crate::ha::{ClusterView, read, write};

/// Between two looks that nobody woke.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(1);
/// How long replicas may take until they acknowledge: a large database is copied meanwhile.
const PATIENCE: SignedDuration = SignedDuration::from_hours(24);
/// How long replicas of a new instance may take, which have next to nothing to copy.
const FOUNDS: SignedDuration = SignedDuration::from_mins(5);
/// How long something else may be under way before an operation gives up.
const SETTLES: SignedDuration = SignedDuration::from_secs(60);
/// How long a change of the leader may take; a switchover has a budget of its own.
const MOVES: SignedDuration = SignedDuration::from_mins(5);
/// How long members may take to leave the ack set.
const LEAVES: SignedDuration = SignedDuration::from_mins(5);
/// How long members may take to stop.
const RESTS: SignedDuration = SignedDuration::from_mins(5);
/// How long a member may take to lead, a recovery after a crash included.
const OPENS: SignedDuration = SignedDuration::from_mins(10);

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

/// How much there is to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// The instance is new.
    Empty,
    /// It is in service.
    Full,
}

/// Waits until every synchronous member acknowledges commits, and every other one streams. `until` keeps since when it is waited.
///
/// # Errors
/// `DEADLINE_EXCEEDED` when it takes too long, saying where each replica stands.
pub(super) async fn until_acknowledged(
    ctx: &mut StepContext,
    team: &Team,
    until: &mut Option<Timestamp>,
    load: Load,
) -> Result<Progress, Error> {
    let cluster = locked(ctx, team.instance.id).await?;
    let heard = ctx.heard(team.instance.id);
    let missing: Vec<_> = team.members.iter().filter(|row| !in_place(&cluster, heard.as_ref(), row.id)).collect();
    if missing.is_empty() && cluster.primary().is_some() {
        return done(until, in_step(&cluster, team));
    }
    let doing = |row: &&MemberRow| {
        let doing = heard.as_ref().map_or_else(|| "not heard yet".to_owned(), |heard| heard.doing(row.id));
        format!("{} on {}: {doing}", row.role, row.host_name)
    };
    let mut said: Vec<_> = missing.iter().map(doing).collect();
    said.extend(heard.iter().flat_map(|heard| heard.waits.iter().take(1).cloned()));
    let patience = match load {
        Load::Empty => FOUNDS,
        Load::Full => PATIENCE,
    };
    wait(ctx, until, patience, said.join("; "))
}

/// Whether a member is where it shall be: it leads, it acknowledges for sure, or, if it never does, it streams.
fn in_place(cluster: &Cluster, heard: Option<&ClusterView>, member: MemberId) -> bool {
    let Some(known) = cluster.members.get(&member) else { return false };
    if cluster.primary() == Some(member) {
        return true;
    }
    if known.counts() {
        return cluster.reign.sets.len() == 1 && cluster.reign.ordered().members.contains(&member);
    }
    let leader = heard.and_then(|heard| heard.members.get(&cluster.reign.leader));
    leader.and_then(|leader| leader.facts.downstream_of(member)).is_some_and(|down| down.streaming)
}

fn in_step(cluster: &Cluster, team: &Team) -> String {
    let set = cluster.reign.ordered();
    match (team.instance.spec.replication.synchronous(), set.needed) {
        (0, _) => "replicas follow; commits wait for none".to_owned(),
        (_, needed) => format!("commits wait for {needed} of {}", cluster.names(&set.members)),
    }
}

/// Done; what is waited for next has a patience of its own.
fn done(until: &mut Option<Timestamp>, detail: impl Into<String>) -> Result<Progress, Error> {
    *until = None;
    Progress::done(detail)
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

/// Stores a change that an operation asks for, unless it was stored before. None when it is; else what it waits for: while
/// something else is under way in the cluster it is asked again.
///
/// # Errors
/// Why the change cannot be; `DEADLINE_EXCEEDED`.
pub(super) async fn ask(
    ctx: &mut StepContext,
    id: InstanceId,
    until: &mut Option<Timestamp>,
    change: impl FnOnce(&Cluster) -> Result<Cluster, Error>,
) -> Result<Option<Progress>, Error> {
    let cluster = locked(ctx, id).await?;
    match change(&cluster) {
        Ok(next) => {
            save(ctx, id, &cluster, &next).await?;
            if next != cluster {
                *until = None;
            }
            Ok(None)
        }
        Err(error) if unsettled(&cluster) => wait(ctx, until, SETTLES, error.message).map(Some),
        Err(error) => Err(error),
    }
}

/// Something is under way that ends by itself.
fn unsettled(cluster: &Cluster) -> bool {
    match cluster.phase {
        Phase::Steady | Phase::Resting(RestStep::Done) => cluster.intent != Intent::None,
        Phase::Electing(_)
        | Phase::Promoting(_)
        | Phase::Switchover(_)
        | Phase::Reconciling
        | Phase::Resting(RestStep::Leader | RestStep::Followers) => true,
    }
}

/// Waits for what came of this operation's intent to change the leader, and until the new one takes writes.
///
/// # Errors
/// Why it was not reached; `DEADLINE_EXCEEDED`.
pub(super) async fn until_moved(
    ctx: &mut StepContext,
    id: InstanceId,
    until: &mut Option<Timestamp>,
) -> Result<Progress, Error> {
    let cluster = locked(ctx, id).await?;
    match cluster.outcome_of(ctx.operation()) {
        Some(outcome) if !outcome.failure.is_empty() => {
            Err(Error::precondition(Reason::StateForbids, outcome.failure.clone()))
        }
        Some(_) if cluster.phase == Phase::Steady => done(until, format!("{} takes writes", leader(&cluster))),
        Some(_) | None => {
            let what = waiting_for(ctx, id, &cluster);
            wait(ctx, until, MOVES, what)
        }
    }
}

/// Takes an intent of this operation back, or, if the state machine has begun with it, waits until it has ended.
pub(super) async fn withdraw(ctx: &mut StepContext, id: InstanceId) -> Result<Progress, Error> {
    let Some(cluster) = lock(ctx, id).await? else { return Progress::done("nothing to take back") };
    let next = cluster.withdraw(ctx.operation());
    save(ctx, id, &cluster, &next).await?;
    let mine = match &next.phase {
        Phase::Switchover(switch) => switch.id == ctx.operation(),
        Phase::Steady | Phase::Electing(_) | Phase::Promoting(_) | Phase::Reconciling | Phase::Resting(_) => {
            next.intent.id() == Some(ctx.operation())
        }
    };
    if mine {
        return Ok(Progress::Later(LOOK_AGAIN, waiting_for(ctx, id, &next)));
    }
    Progress::done(format!("{} leads", leader(&next)))
}

/// Stops all members in order, so that nobody fails over while they are at rest.
///
/// # Errors
/// `DEADLINE_EXCEEDED` when they do not come to rest.
pub(super) async fn rest(
    ctx: &mut StepContext,
    id: InstanceId,
    until: &mut Option<Timestamp>,
) -> Result<Progress, Error> {
    let operation = ctx.operation();
    let asked = |cluster: &Cluster| match cluster.phase {
        Phase::Resting(_) => Ok(cluster.clone()),
        Phase::Steady | Phase::Electing(_) | Phase::Promoting(_) | Phase::Switchover(_) | Phase::Reconciling => {
            cluster.rest(operation)
        }
    };
    if let Some(waits) = ask(ctx, id, until, asked).await? {
        return Ok(waits);
    }
    let cluster = locked(ctx, id).await?;
    if cluster.is_at_rest() {
        return done(until, "all members are at rest");
    }
    let what = waiting_for(ctx, id, &cluster);
    wait(ctx, until, RESTS, what)
}

/// Starts members that are at rest, and waits until one takes writes.
///
/// # Errors
/// `DEADLINE_EXCEEDED` when none does.
pub(super) async fn resume(
    ctx: &mut StepContext,
    id: InstanceId,
    until: &mut Option<Timestamp>,
) -> Result<Progress, Error> {
    let cluster = locked(ctx, id).await?;
    let next = cluster.resume();
    save(ctx, id, &cluster, &next).await?;
    until_open(ctx, id, until).await
}

/// Waits until a member takes writes.
///
/// # Errors
/// `DEADLINE_EXCEEDED` when none does.
pub(super) async fn until_open(
    ctx: &mut StepContext,
    id: InstanceId,
    until: &mut Option<Timestamp>,
) -> Result<Progress, Error> {
    let cluster = locked(ctx, id).await?;
    // A restart in place leaves the cluster steady all the time: what the primary's agent says decides.
    let heard = ctx.heard(id);
    let primary = heard.as_ref().and_then(|heard| heard.members.get(&cluster.reign.leader));
    let detect = Duration::from_millis(cluster.timings().detect_ms.into());
    let state = primary.filter(|seen| seen.age < detect).map(|seen| seen.facts.state);
    if cluster.phase == Phase::Steady && state == Some(ReplicaState::Open) {
        return done(until, format!("{} takes writes", leader(&cluster)));
    }
    let what = match state {
        Some(state) if cluster.phase == Phase::Steady => format!("{} is {state}", leader(&cluster)),
        Some(_) | None => waiting_for(ctx, id, &cluster),
    };
    wait(ctx, until, OPENS, what)
}

/// What the state machine waits for.
fn waiting_for(ctx: &StepContext, id: InstanceId, cluster: &Cluster) -> String {
    let said = ctx.heard(id).and_then(|heard| heard.waits.into_iter().next());
    said.unwrap_or_else(|| format!("it is {}", cluster.phase.word().to_lowercase()))
}

fn leader(cluster: &Cluster) -> String {
    cluster.primary().map_or_else(|| "nobody".to_owned(), |leader| cluster.name(leader))
}

/// The addresses and kinds of members as they are stored now.
pub(super) fn readdressed(cluster: &Cluster, rows: &[MemberRow]) -> Cluster {
    let mut next = cluster.clone();
    for row in rows {
        if let Some(known) = next.members.get_mut(&row.id) {
            known.host_name.clone_from(&row.host_name);
            known.address.clone_from(&row.host_address);
            known.port = row.port.unwrap_or_default();
        }
    }
    if next == *cluster {
        return next;
    }
    // Every order names every member's address, so each is a new one.
    next.rev += 1;
    for member in next.members.values_mut() {
        member.order_rev = next.rev;
    }
    next
}

/// Takes members out of the ack set, and waits until none of their receipts counts any more.
///
/// # Errors
/// If one leads; `DEADLINE_EXCEEDED`.
pub(super) async fn until_out(
    ctx: &mut StepContext,
    id: InstanceId,
    going: &BTreeSet<MemberId>,
    until: &mut Option<Timestamp>,
) -> Result<Progress, Error> {
    let removed = |cluster: &Cluster| going.iter().try_fold(cluster.clone(), |next, member| next.remove(*member));
    if let Some(waits) = ask(ctx, id, until, removed).await? {
        return Ok(waits);
    }
    let cluster = locked(ctx, id).await?;
    if going.iter().all(|member| cluster.is_out(*member)) {
        return done(until, format!("commits wait for {}", cluster.names(&cluster.acks())));
    }
    let what = waiting_for(ctx, id, &cluster);
    wait(ctx, until, LEAVES, what)
}

/// Undoes [`until_out`]: the members follow again and acknowledge when they have caught up.
pub(super) async fn readmit(ctx: &mut StepContext, id: InstanceId, rows: &[MemberRow]) -> Result<Progress, Error> {
    let Some(cluster) = lock(ctx, id).await? else { return Progress::done("nobody leads it") };
    let mut next = cluster.clone();
    for row in rows {
        let leaving = next.members.get(&row.id).is_some_and(|known| known.stay == Stay::Leaving);
        if leaving && !next.is_out(row.id) {
            let what = waiting_for(ctx, id, &cluster);
            return Ok(Progress::Later(LOOK_AGAIN, what));
        }
        if leaving {
            next = next.forget(row.id)?.add(row.id, member(row))?;
        }
    }
    save(ctx, id, &cluster, &next).await?;
    Progress::done("it follows again")
}

/// Forgets members that are out. A cluster of one member stays one: its epochs go on.
pub(super) async fn dismiss(
    ctx: &mut StepContext,
    id: InstanceId,
    gone: &BTreeSet<MemberId>,
    policy: &Replication,
) -> Result<(), Error> {
    let Some(cluster) = lock(ctx, id).await? else { return Ok(()) };
    let mut next = cluster.with_policy(policy.clone());
    for member in gone {
        next = next.forget(*member)?;
    }
    save(ctx, id, &cluster, &next).await
}

/// Undoes the joining of members: out of the ack set, then forgotten, and the policy as it was.
pub(super) async fn expel(
    ctx: &mut StepContext,
    id: InstanceId,
    members: &BTreeSet<MemberId>,
    policy: &Replication,
) -> Result<Progress, Error> {
    let Some(cluster) = lock(ctx, id).await? else { return Progress::done("it has no cluster") };
    let known = members.iter().filter(|member| cluster.members.contains_key(member));
    let next = known.clone().try_fold(cluster.clone(), |next, member| next.remove(*member));
    match next {
        Ok(next) => save(ctx, id, &cluster, &next).await?,
        // It was promoted meanwhile; then it stays until somebody moves the primary.
        Err(error) => return Ok(Progress::Later(LOOK_AGAIN, error.message)),
    }
    let cluster = locked(ctx, id).await?;
    if !members.iter().all(|member| cluster.is_out(*member)) {
        let what = waiting_for(ctx, id, &cluster);
        return Ok(Progress::Later(LOOK_AGAIN, what));
    }
    dismiss(ctx, id, members, policy).await?;
    Progress::done("commits do not wait for it any more")
}
