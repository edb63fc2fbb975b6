//! What the sagas of instances have in common: reading the instance and its member, and asking the member's host.
//!
//! Waiting is bounded by the host being reachable: an order that must be carried out some day (removing what was made)
//! stays queued for a host that does not answer, and the saga goes on without it.

use jiff::SignedDuration;
use windlass_core::{
    Error, ErrorKind, Reason,
    host::HostState,
    id::{InstanceId, MemberId},
    instance::{LifecycleEvent, Power},
};
use windlass_db::{
    PgConnection,
    events::NewEvent,
    instances::{InstanceRow, instance_lock_tx},
    members::{MemberRow, members_of_tx},
};
use windlass_proto::agent::v1 as pb;

use super::{
    CommandOutcome, NewCommand, Progress, StepContext,
    goal::{self, DataSource},
    observe,
};

/// How long an agent may take to make a member as wanted, a recovery after a crash included.
const APPLY_TIMEOUT: SignedDuration = SignedDuration::from_secs(300);
/// How long an agent may take to stop a member and put its data aside or delete it.
const REMOVE_TIMEOUT: SignedDuration = SignedDuration::from_secs(300);
/// An order that the host has not begun by then is given up: the user gets an answer.
const EXPIRE: SignedDuration = SignedDuration::from_secs(60);
/// How often a waiting step looks whether its host still answers; an answer wakes it at once.
pub(super) const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(2);
/// How often a removal is tried on a host that answers.
const REMOVE_TRIES: i32 = 3;

/// Locks and reads the instance of a saga with its member.
pub(super) async fn load(ctx: &mut StepContext, id: InstanceId) -> Result<(InstanceRow, MemberRow), Error> {
    let instance = lock(ctx.tx(), id).await?;
    let member = member_of(ctx.tx(), id)
        .await?
        .ok_or_else(|| Error::internal(format!("instance {id} has no member; delete it")))?;
    Ok((instance, member))
}

/// Locks and reads an instance that must be there.
pub(super) async fn lock(tx: &mut PgConnection, id: InstanceId) -> Result<InstanceRow, Error> {
    instance_lock_tx(tx, id).await?.ok_or_else(|| Error::not_found("instance", id))
}

/// The member of an instance; an instance has one until it is highly available.
pub(super) async fn member_of(tx: &mut PgConnection, id: InstanceId) -> Result<Option<MemberRow>, Error> {
    Ok(members_of_tx(tx, &[id]).await?.into_iter().next())
}

/// How an apply stands.
pub(super) enum Applied {
    /// The host is at it; what the step waits for.
    Waiting(Progress),
    /// The member is as wanted.
    Done(pb::MemberFacts),
    /// The host could not, or did not answer.
    Failed(Error),
}

/// Asks the member's host to make it as wanted. What the host saw afterwards is stored.
pub(super) async fn apply(
    ctx: &mut StepContext,
    key: &str,
    instance: &InstanceRow,
    member: &MemberRow,
    source: DataSource,
    admin: Option<pb::ApplyObject>,
) -> Result<Applied, Error> {
    let goal = goal::member_goal(instance, member, source, admin);
    let body = pb::command::Body::ApplyMember(pb::ApplyMember { goal: Some(goal) });
    let command = NewCommand { timeout: APPLY_TIMEOUT, expire: Some(EXPIRE), ..order(instance, member, body) };
    Ok(match ctx.command(key, command).await? {
        CommandOutcome::Pending => Applied::Waiting(Progress::Wait(format!("waiting for host {}", member.host_name))),
        CommandOutcome::Failed(error) => Applied::Failed(on_host(error, &member.host_name)),
        CommandOutcome::Succeeded(facts) => {
            observe::facts_tx(ctx.tx(), member, &facts).await?;
            Applied::Done(facts)
        }
    })
}

/// Asks the member's host for `body`, once; gives the outcome.
pub(super) async fn ask(
    ctx: &mut StepContext,
    key: &str,
    instance: &InstanceRow,
    member: &MemberRow,
    body: pb::command::Body,
) -> Result<CommandOutcome, Error> {
    let command = NewCommand { timeout: APPLY_TIMEOUT, expire: Some(EXPIRE), ..order(instance, member, body) };
    Ok(match ctx.command(key, command).await? {
        CommandOutcome::Failed(error) => CommandOutcome::Failed(on_host(error, &member.host_name)),
        other @ (CommandOutcome::Pending | CommandOutcome::Succeeded(_)) => other,
    })
}

/// Asks the member's host to take something away for good: done when it is gone, or when the host does not answer and
/// the order stays queued for its return.
///
/// # Errors
/// The host's, when it answers and cannot do it.
pub(super) async fn take_away(
    ctx: &mut StepContext,
    instance: &InstanceRow,
    member: &MemberRow,
    body: pb::command::Body,
) -> Result<Progress, Error> {
    let host = &member.host_name;
    let command = NewCommand { timeout: REMOVE_TIMEOUT, expire: None, ..order(instance, member, body) };
    match ctx.command("take-away", command).await? {
        CommandOutcome::Succeeded(_) => Progress::done(format!("gone from host {host}")),
        CommandOutcome::Failed(error) => Err(on_host(error, host)),
        CommandOutcome::Pending if member.host_state != HostState::Online => {
            Progress::done(format!("host {host} does not answer; it is done when the host is back"))
        }
        CommandOutcome::Pending => Ok(Progress::Later(LOOK_AGAIN, format!("waiting for host {host}"))),
    }
}

/// [`take_away`] as an undo: what a host cannot take away even on repeat is left there and told of, so that unwinding
/// ends.
pub(super) async fn take_away_or_leave(
    ctx: &mut StepContext,
    instance: &InstanceRow,
    member: &MemberRow,
    body: pb::command::Body,
) -> Result<Progress, Error> {
    match take_away(ctx, instance, member, body).await {
        Err(error) if error.metadata.contains_key(HOST) && ctx.attempt() + 1 >= REMOVE_TRIES => {
            let left = format!("member {} is left on host {}: {error}", member.id, member.host_name);
            let event = NewEvent::warning("member.left_behind", ctx.target().to_owned(), &left);
            ctx.event(event).await?;
            Progress::done(left)
        }
        other => other,
    }
}

/// What [`on_host`] marks.
const HOST: &str = "host";

/// A host's failure: names the host, and is final when waiting longer would not help.
fn on_host(error: Error, host: &str) -> Error {
    // Expired or poisoned: the user decides whether to ask again.
    let is_final = matches!(error.reason, Reason::CommandExpired | Reason::CommandPoisoned | Reason::CommandSuperseded);
    let error = if is_final {
        Error::new(ErrorKind::FailedPrecondition, error.reason, format!("host {host}: {error}"))
    } else {
        error
    };
    error.with_metadata(HOST, host)
}

fn order(instance: &InstanceRow, member: &MemberRow, body: pb::command::Body) -> NewCommand {
    NewCommand {
        host: member.host_id,
        member: Some(member.id),
        instance: Some(instance.id),
        generation: instance.generation,
        body,
        timeout: APPLY_TIMEOUT,
        expire: Some(EXPIRE),
    }
}

/// Stops a member and puts its data aside.
pub(super) fn put_aside() -> pb::command::Body {
    pb::command::Body::RemoveMember(pb::RemoveMember { purge: false })
}

/// Stops a member and deletes its data.
pub(super) fn remove_with_data() -> pb::command::Body {
    pb::command::Body::RemoveMember(pb::RemoveMember { purge: true })
}

/// Deletes data that was put aside.
pub(super) fn purge() -> pb::command::Body {
    pb::command::Body::PurgeMember(pb::PurgeMember {})
}

/// Gives a member's reservations back and forgets it, if it is there.
pub(super) async fn forget_member(tx: &mut PgConnection, id: InstanceId) -> Result<Option<MemberId>, Error> {
    let member = member_of(tx, id).await?.map(|member| member.id);
    if let Some(member) = member {
        windlass_db::reservations::member_delete_tx(tx, member).await?;
    }
    Ok(member)
}

/// What an instance with this power has come to when its members are as wanted.
pub(super) const fn at_rest_or_serving(power: Power) -> LifecycleEvent {
    match power {
        Power::On => LifecycleEvent::Served,
        Power::Off => LifecycleEvent::CameToRest,
    }
}

/// The error that a cancel leaves on an instance which it left half-way.
pub(super) fn cancelled(message: &str) -> Error {
    Error::new(ErrorKind::Cancelled, Reason::OperationCancelled, message)
}
