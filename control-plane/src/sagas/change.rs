//! What start, stop, restart and update have in common: the new spec is stored with the operation, the saga brings the
//! members to it, and a failure brings the old spec back.
//!
//! A host that does not answer cannot be asked to go back either. The old spec is then wanted again, which is enough:
//! the reconciler brings the member to it when the host is back. Only a host that answers and cannot restore leaves the
//! instance in ERROR.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use windlass_core::{
    Error, Reason,
    host::HostState,
    id::InstanceId,
    instance::{InstanceSpec, Lifecycle, LifecycleEvent},
};
use windlass_db::{
    events::NewEvent,
    instances::{self, InstanceRow},
    reservations,
};
use windlass_proto::agent::v1 as pb;

use super::{
    Outcome, Progress, StepContext,
    goal::{DataSource, primary_first},
    members::{self, Applied},
    observe, replication,
};

/// State of a change.
#[derive(Debug, Serialize, Deserialize)]
pub struct Data {
    /// The instance.
    pub instance: InstanceId,
    /// The spec before the change.
    pub before: InstanceSpec,
    /// The lifecycle before the change.
    pub was: Lifecycle,
    /// Why it was ERROR, if it was.
    pub fault: Option<Error>,
    /// How far the way back came.
    pub back: WayBack,
    /// Until when the cluster may be waited for.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

/// How far a failed change was taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum WayBack {
    /// Not begun.
    Ahead,
    /// The old spec is wanted again.
    Wanted,
    /// The host says that it cannot restore it.
    Broken(Error),
}

impl Data {
    /// A change that is not begun, of this instance as it was before.
    pub fn new(before: &InstanceRow) -> Self {
        Self {
            instance: before.id,
            before: before.spec.clone(),
            was: before.lifecycle,
            fault: before.error.clone(),
            back: WayBack::Ahead,
            until: None,
        }
    }
}

/// The events of a kind of change.
pub(super) struct Words {
    /// Event of a success.
    pub(super) done: &'static str,
    /// What it says.
    pub(super) said: &'static str,
    /// Event of a failure.
    pub(super) failed: &'static str,
    /// Event of a cancel.
    pub(super) cancelled: &'static str,
}

/// Brings the members to the spec, replicas first, but for what a replica needs at least as much of as its primary:
/// what grows is in force there then, and a restart of all interrupts writes once, at its end. A replica whose host does not answer gets the spec
/// from the reconciler when it is back.
///
/// # Errors
/// The host's.
pub(super) async fn apply(ctx: &mut StepContext, key: &str, data: &Data) -> Result<Reached, Error> {
    let team = members::load(ctx, data.instance).await?;
    // A delete that failed half-way may have put the data aside.
    let source = if data.was == Lifecycle::Error { DataSource::Retained } else { DataSource::Existing };
    let mut seen = Vec::new();
    let mut order = members::reachable(team.replicas());
    let primary = team.primary()?.clone();
    if primary_first(&data.before, &team.instance.spec) {
        order.insert(0, primary);
    } else {
        order.push(primary);
    }
    // One after the other, so that commits never lack more than one replica.
    for member in &order {
        match members::apply(ctx, key, &team, std::slice::from_ref(member), source).await? {
            Applied::Waiting(progress) => return Ok(Reached::NotYet(progress)),
            Applied::Failed { error, .. } => return Err(error),
            Applied::Done(facts) => seen.extend(facts),
        }
    }
    Ok(Reached::There(seen))
}

/// Brings the members of a replicated instance to rest in order, so that nobody fails over.
pub(super) async fn rest(ctx: &mut StepContext, data: &mut Data) -> Result<Progress, Error> {
    if replication::lock(ctx, data.instance).await?.is_none() {
        return Progress::done("one member");
    }
    replication::rest(ctx, data.instance, &mut data.until).await
}

/// Undoes [`rest`], and starts what is at rest: waits until a member takes writes.
pub(super) async fn open(ctx: &mut StepContext, data: &mut Data) -> Result<Progress, Error> {
    if replication::lock(ctx, data.instance).await?.is_none() {
        return Progress::done("one member");
    }
    replication::resume(ctx, data.instance, &mut data.until).await
}

/// How far an apply came.
pub(super) enum Reached {
    /// The host is at it.
    NotYet(Progress),
    /// The members are as wanted.
    There(Vec<pb::MemberFacts>),
}

/// Wants the old spec again and brings the members to it, as far as their hosts answer. `restart` makes the old
/// parameters take effect.
pub(super) async fn take_back(ctx: &mut StepContext, data: &mut Data, restart: Restart) -> Result<Progress, Error> {
    let mut team = members::load(ctx, data.instance).await?;
    if data.back == WayBack::Ahead {
        let extra = match restart {
            Restart::Again => 1,
            Restart::No => 0,
        };
        // The number of restarts only grows: the agents have seen the present one.
        let restarts = team.instance.spec.restarts + extra;
        team.instance.spec = InstanceSpec { restarts, ..data.before.clone() };
        let id = team.instance.id;
        team.instance.generation = instances::instance_set_spec_tx(ctx.tx(), id, &team.instance.spec).await?;
        data.back = WayBack::Wanted;
    }
    let mut said = Vec::new();
    for member in &team.members {
        let host = &member.host_name;
        let one = std::slice::from_ref(member);
        match members::apply(ctx, "restore", &team, one, DataSource::Existing).await? {
            Applied::Waiting(_) if member.host_state != HostState::Online => {
                said.push(format!("host {host} does not answer; it gets the old settings when it is back"));
            }
            Applied::Waiting(_) => {
                let waits = format!("waiting for host {host} to take the old settings");
                return Ok(Progress::Later(members::LOOK_AGAIN, waits));
            }
            Applied::Done(_) => {}
            Applied::Failed { error, .. } if never_begun(&error) => {
                said.push(format!("host {host} gets the old settings when it answers"));
            }
            Applied::Failed { error, .. } => {
                said.push(format!("the old settings could not be restored: {error}"));
                data.back = WayBack::Broken(error);
            }
        }
    }
    Progress::done(if said.is_empty() { "as before".to_owned() } else { said.join("; ") })
}

/// Whether restoring includes a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    /// The change made one: another one takes its effect away.
    Again,
    /// Not needed.
    No,
}

fn never_begun(error: &Error) -> bool {
    matches!(error.reason, Reason::CommandExpired | Reason::CommandSuperseded)
}

/// Ends a change: the lifecycle becomes what is true now.
pub(super) async fn finish(ctx: &mut StepContext, data: &Data, outcome: &Outcome, words: &Words) -> Result<(), Error> {
    let target = ctx.target().to_owned();
    let instance = members::lock(ctx.tx(), data.instance).await?;
    let (reached, why, event) = match outcome {
        Outcome::Succeeded => {
            let reached = members::at_rest_or_serving(instance.spec.power);
            (reached, None, NewEvent::info(words.done, target, words.said))
        }
        Outcome::Failed(error) => {
            (as_before(data), Some(error), NewEvent::error(words.failed, target, format!("it failed: {error}")))
        }
        Outcome::Cancelled => {
            let event = NewEvent::info(words.cancelled, target, "it was cancelled and taken back");
            (as_before(data), data.fault.as_ref(), event)
        }
    };
    let why = match &data.back {
        WayBack::Broken(error) => Some(error),
        WayBack::Ahead | WayBack::Wanted => why,
    };
    instances::instance_advance_tx(ctx.tx(), instance.id, reached, why).await?;
    // What was reserved for the larger of old and new is settled to what is wanted.
    for member in members::members_of(ctx.tx(), instance.id).await? {
        reservations::member_resize_tx(ctx.tx(), member.id, instance.spec.resources).await?;
    }
    observe::refresh_tx(ctx.tx(), &[instance.id]).await?;
    ctx.event(event).await
}

fn as_before(data: &Data) -> LifecycleEvent {
    match (&data.back, data.was) {
        (WayBack::Broken(_), _) | (_, Lifecycle::Error) => LifecycleEvent::Failed,
        (_, Lifecycle::Stopped) => LifecycleEvent::CameToRest,
        (_, Lifecycle::Suspended) => LifecycleEvent::FellAsleep,
        (
            _,
            Lifecycle::Running
            | Lifecycle::Pending
            | Lifecycle::Creating
            | Lifecycle::Modifying
            | Lifecycle::Stopping
            | Lifecycle::Deleting
            | Lifecycle::Deleted,
        ) => LifecycleEvent::Served,
    }
}
