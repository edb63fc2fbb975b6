//! What the sagas of instances have in common: reading the instance and its members, and asking the members' hosts.
//!
//! Waiting is bounded by the host being reachable: an order that must be carried out some day (removing what was made)
//! stays queued for a host that does not answer, and the saga goes on without it.

use jiff::SignedDuration;
use windlass_core::{
    Error, ErrorKind, Reason,
    host::HostState,
    id::InstanceId,
    instance::{LifecycleEvent, Power},
    member::MemberRole,
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
    goal::{self, Bond, DataSource},
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

/// An instance, its row locked, with its members.
pub(super) struct Team {
    /// The instance.
    pub(super) instance: InstanceRow,
    /// Its members, the primary first.
    pub(super) members: Vec<MemberRow>,
}

impl Team {
    /// The member that takes writes. While nobody leads, the first.
    ///
    /// # Errors
    /// `INTERNAL` when the instance has no member.
    pub(super) fn primary(&self) -> Result<&MemberRow, Error> {
        self.members
            .first()
            .ok_or_else(|| Error::internal(format!("instance {} has no member; delete it", self.instance.id)))
    }

    /// The members that follow.
    pub(super) fn replicas(&self) -> &[MemberRow] {
        self.members.get(1..).unwrap_or_default()
    }

    /// Whether it has several members.
    pub(super) fn replicated(&self) -> bool {
        self.bond() == Bond::Replicated
    }

    pub(super) fn bond(&self) -> Bond {
        Bond::of(&self.members)
    }
}

/// Locks and reads the instance of a saga with its members.
pub(super) async fn load(ctx: &mut StepContext, id: InstanceId) -> Result<Team, Error> {
    let instance = lock(ctx.tx(), id).await?;
    let members = members_of(ctx.tx(), id).await?;
    let team = Team { instance, members };
    team.primary()?;
    Ok(team)
}

/// Locks and reads an instance that must be there.
pub(super) async fn lock(tx: &mut PgConnection, id: InstanceId) -> Result<InstanceRow, Error> {
    instance_lock_tx(tx, id).await?.ok_or_else(|| Error::not_found("instance", id))
}

/// The members of an instance, the primary first.
pub(super) async fn members_of(tx: &mut PgConnection, id: InstanceId) -> Result<Vec<MemberRow>, Error> {
    let mut members = members_of_tx(tx, &[id]).await?;
    members.sort_by_key(|member| (member.role != MemberRole::Primary, member.asynchronous, member.id));
    Ok(members)
}

/// How an apply stands.
pub(super) enum Applied {
    /// A host is at it; what the step waits for.
    Waiting(Progress),
    /// Every member is as wanted.
    Done(Vec<pb::MemberFacts>),
    /// A host could not, or did not answer.
    Failed {
        /// Which member.
        member: Box<MemberRow>,
        /// Why.
        error: Error,
    },
}

/// Asks the hosts of `members` at the same time to make them as wanted: the primary from `source`, replicas by what
/// the primary has. What the hosts saw afterwards is stored.
pub(super) async fn apply(
    ctx: &mut StepContext,
    key: &str,
    team: &Team,
    members: &[MemberRow],
    source: DataSource,
) -> Result<Applied, Error> {
    let key_of = |member: &MemberRow| format!("{key}/{}", member.id);
    let mut asks = Vec::new();
    for member in members {
        let source = source_of(member, source);
        let goal = goal::member_goal(&team.instance, member, team.bond(), source, None);
        asks.push((member, key_of(member), goal));
    }
    apply_goals(ctx, &team.instance, asks).await
}

/// Where the data of a member comes from, if the primary's comes from `source`.
pub(super) fn source_of(member: &MemberRow, source: DataSource) -> DataSource {
    match (member.role, source) {
        (MemberRole::Primary, source) | (_, source @ DataSource::Retained) => source,
        (
            MemberRole::Replica,
            DataSource::Unspecified | DataSource::Existing | DataSource::Initialise | DataSource::Cloned,
        ) => DataSource::Cloned,
    }
}

/// Asks hosts at the same time to bring members to goals, each under a key of its own.
pub(super) async fn apply_goals(
    ctx: &mut StepContext,
    instance: &InstanceRow,
    asks: Vec<(&MemberRow, String, pb::MemberGoal)>,
) -> Result<Applied, Error> {
    let (mut waiting, mut done) = (Vec::new(), Vec::new());
    for (member, key, goal) in asks {
        let body = pb::command::Body::ApplyMember(pb::ApplyMember { goal: Some(goal) });
        let command = NewCommand { timeout: APPLY_TIMEOUT, expire: Some(EXPIRE), ..order(instance, member, body) };
        match ctx.command(&key, command).await? {
            CommandOutcome::Pending => waiting.push(member.host_name.as_str()),
            CommandOutcome::Failed(error) => {
                let error = on_host(error, &member.host_name);
                return Ok(Applied::Failed { member: Box::new(member.clone()), error });
            }
            CommandOutcome::Succeeded(facts) => {
                observe::facts_tx(ctx.tx(), member, &facts).await?;
                done.push(facts);
            }
        }
    }
    Ok(match &waiting[..] {
        [] => Applied::Done(done),
        [host] => Applied::Waiting(Progress::Wait(format!("waiting for host {host}"))),
        hosts => Applied::Waiting(Progress::Wait(format!("waiting for hosts {}", hosts.join(", ")))),
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

/// Asks the hosts of these members to take something away for good: done when it is gone, or when a host does not
/// answer and the order stays queued for its return.
///
/// # Errors
/// A host's, when it answers and cannot do it.
pub(super) async fn take_away(
    ctx: &mut StepContext,
    instance: &InstanceRow,
    members: &[MemberRow],
    body: &pb::command::Body,
) -> Result<Progress, Error> {
    let (mut waiting, mut away, mut gone, mut failed) = (Vec::new(), Vec::new(), Vec::new(), None);
    for member in members {
        let host = member.host_name.as_str();
        let command = NewCommand { timeout: REMOVE_TIMEOUT, expire: None, ..order(instance, member, body.clone()) };
        match ctx.command(&format!("take-away/{}", member.id), command).await? {
            CommandOutcome::Succeeded(_) => gone.push(host),
            CommandOutcome::Failed(error) => failed = failed.or(Some(on_host(error, host))),
            CommandOutcome::Pending if member.host_state != HostState::Online => away.push(host),
            CommandOutcome::Pending => waiting.push(host),
        }
    }
    // Each is asked before one is waited for, so that no failure keeps another host from beginning.
    if !waiting.is_empty() {
        return Ok(Progress::Later(LOOK_AGAIN, format!("waiting for {}", hosts(&waiting))));
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let mut said = Vec::new();
    if !gone.is_empty() {
        said.push(format!("gone from {}", hosts(&gone)));
    }
    if !away.is_empty() {
        said.push(format!("{} does not answer; it is done when it is back", hosts(&away)));
    }
    Progress::done(said.join("; "))
}

/// `host a`, or `hosts a, b`.
fn hosts(names: &[&str]) -> String {
    match names {
        [one] => format!("host {one}"),
        several => format!("hosts {}", several.join(", ")),
    }
}

/// [`take_away`] as an undo: what a host cannot take away even on repeat is left there and told of, so that unwinding
/// ends.
pub(super) async fn take_away_or_leave(
    ctx: &mut StepContext,
    instance: &InstanceRow,
    members: &[MemberRow],
    body: &pb::command::Body,
) -> Result<Progress, Error> {
    match take_away(ctx, instance, members, body).await {
        Err(error) if error.metadata.contains_key(HOST) && ctx.attempt() + 1 >= REMOVE_TRIES => {
            let left = format!("something is left on host {}: {error}", error.metadata[HOST]);
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

/// Gives back what the members of an instance reserve and forgets them.
pub(super) async fn forget_members(tx: &mut PgConnection, id: InstanceId) -> Result<(), Error> {
    for member in members_of(tx, id).await? {
        windlass_db::reservations::member_delete_tx(tx, member.id).await?;
    }
    Ok(())
}

/// Those whose hosts answer. The others get what is wanted from the reconciler when they are back.
pub(super) fn reachable(members: &[MemberRow]) -> Vec<MemberRow> {
    members.iter().filter(|member| member.host_state == HostState::Online).cloned().collect()
}

/// Hosts and ports, for people.
pub(super) fn places(members: &[MemberRow]) -> String {
    let places: Vec<_> =
        members.iter().map(|m| format!("host {}, port {}", m.host_name, m.port.unwrap_or_default())).collect();
    places.join("; ")
}

/// Addresses and ports, for people.
pub(super) fn addresses(members: &[MemberRow]) -> String {
    let places: Vec<_> = members.iter().map(|m| format!("{}:{}", m.host_address, m.port.unwrap_or_default())).collect();
    places.join(", ")
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
