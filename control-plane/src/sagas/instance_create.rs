//! Creating an instance.
//!
//! The creating transaction has reserved quota, a host and a port, and stored the row as PENDING; the saga makes it
//! true. A create that fails leaves no instance: everything is given back and the row goes, so that the name is free
//! again; the operation keeps the error.
//!
//! One order makes the data directory and starts the server, because each round trip to the host costs more than what
//! splitting it would tell. A port that something else holds on the host is set aside for a while and another is tried.
//!
//! Members of a replicated instance are deployed at the same time; then its cluster is founded with the primary alone,
//! and the state machine takes the replicas in. The create ends when every synchronous one acknowledges commits.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use windlass_core::{
    Error, Reason,
    id::{InstanceId, MemberId},
    instance::{Lifecycle, LifecycleEvent},
    member::MemberRole,
    object::{ObjectKind, ObjectState},
    operation::OperationKind,
    size::format_bytes,
};
use windlass_db::{
    events::NewEvent,
    instances::{self, InstanceRow},
    members::MemberRow,
    objects::{ObjectRow, object_set_state_tx, objects_of_tx},
    reservations,
};
use windlass_proto::agent::v1 as pb;

use super::{
    Outcome, Progress, Saga, Step, StepContext, StepFuture,
    goal::{DataSource, member_goal, object_order},
    members::{self, Applied},
    replication::{self, Load},
};

/// Ports tried on one host before giving up.
const PORTS_TRIED: u32 = 3;
/// How long a port that something else holds is not given out.
const PORT_BLOCKED: SignedDuration = SignedDuration::from_mins(10);

/// Creates an instance.
#[derive(Debug)]
pub struct InstanceCreate;

/// State of [`InstanceCreate`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Data {
    /// The instance.
    pub instance: InstanceId,
    /// Ports tried beyond the first, by member.
    #[serde(default)]
    pub ports_tried: BTreeMap<MemberId, u32>,
    /// Until when the replicas must acknowledge; None before they were waited for.
    #[serde(default)]
    pub patience: Option<Timestamp>,
}

impl Data {
    /// A create that is not begun.
    pub const fn new(instance: InstanceId) -> Self {
        Self { instance, ports_tried: BTreeMap::new(), patience: None }
    }
}

impl Saga for InstanceCreate {
    const KIND: OperationKind = OperationKind::InstanceCreate;
    const VERSION: i32 = 1;
    type Data = Data;

    fn steps() -> Vec<Step<Self>> {
        vec![
            Step::undoable("reserve", "Reserving quota, a host and a port", reserve, release),
            Step::undoable("deploy", "Creating the database and starting it", deploy, remove),
            Step::undoable("replicate", "Bringing replicas into step", replicate, unfound),
        ]
    }

    fn finish<'a>(ctx: &'a mut StepContext, data: &'a Data, outcome: &'a Outcome) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let target = ctx.target().to_owned();
            let event = match outcome {
                Outcome::Succeeded => {
                    instances::instance_advance_tx(ctx.tx(), data.instance, LifecycleEvent::Served, None).await?;
                    NewEvent::info("instance.created", target, "the instance was created and serves")
                }
                Outcome::Failed(error) => {
                    NewEvent::error("instance.create_failed", target, format!("it could not be created: {error}"))
                }
                Outcome::Cancelled => {
                    NewEvent::info("instance.create_cancelled", target, "its creation was cancelled and taken back")
                }
            };
            ctx.event(event).await
        })
    }
}

/// The reservations were made with the row; this begins the work on them and tells what they are.
fn reserve<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let members::Team { instance, members } = members::load(ctx, data.instance).await?;
        if instance.lifecycle == Lifecycle::Pending {
            instances::instance_advance_tx(ctx.tx(), instance.id, LifecycleEvent::CreateBegun, None).await?;
        }
        let size = instance.spec.resources;
        Progress::done(format!(
            "{}; {} cores, {} memory, {} disk{}",
            members::places(&members),
            size.cpu_millis as f64 / 1000.0,
            format_bytes(size.memory_bytes),
            format_bytes(size.disk_bytes),
            if members.len() > 1 { " each" } else { "" }
        ))
    })
}

fn release<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        if let Some(instance) = instances::instance_lock_tx(ctx.tx(), data.instance).await? {
            reservations::project_instances_add_tx(ctx.tx(), instance.project_id, -1).await?;
            members::forget_members(ctx.tx(), instance.id).await?;
            instances::instance_delete_tx(ctx.tx(), instance.id).await?;
        }
        Progress::done("quota, host and port are given back")
    })
}

fn deploy<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let objects = objects_of_tx(ctx.tx(), data.instance).await?;
        loop {
            let team = members::load(ctx, data.instance).await?;
            let asks = goals(&team, &objects, data);
            return match members::apply_goals(ctx, &team.instance, asks).await? {
                Applied::Waiting(progress) => Ok(progress),
                Applied::Done(_) => {
                    for object in &objects {
                        object_set_state_tx(ctx.tx(), data.instance, &object.key, ObjectState::Ready).await?;
                    }
                    Progress::done(ready(&team))
                }
                Applied::Failed { member, error } if error.reason == Reason::PortTaken => {
                    let tried = data.ports_tried.entry(member.id).or_default();
                    *tried += 1;
                    if *tried == PORTS_TRIED {
                        let message = format!("{error}; {PORTS_TRIED} ports were tried");
                        return Err(Error::precondition(Reason::PortTaken, message));
                    }
                    move_port(ctx, &team.instance, &member, &error).await?;
                    continue;
                }
                Applied::Failed { error, .. } => Err(error),
            };
        }
    })
}

/// What each member shall be: the primary makes the data and has the administrator, replicas copy it.
fn goals<'a>(
    team: &'a members::Team,
    objects: &[ObjectRow],
    data: &Data,
) -> Vec<(&'a MemberRow, String, pb::MemberGoal)> {
    let admin_name = team.instance.spec.engine.descriptor().admin_user;
    let admin = objects
        .iter()
        .find(|object| object.key.kind == ObjectKind::User && object.key.name == admin_name)
        .map(|object| object_order(object, false));
    let goal = |member: &'a MemberRow| {
        let source = members::source_of(member, DataSource::Initialise);
        let admin = admin.clone().filter(|_| member.role == MemberRole::Primary);
        let tried = data.ports_tried.get(&member.id).copied().unwrap_or_default();
        let key = format!("apply-{tried}/{}", member.id);
        (member, key, member_goal(&team.instance, member, team.bond(), source, admin))
    };
    team.members.iter().map(goal).collect()
}

fn ready(team: &members::Team) -> String {
    let spec = &team.instance.spec;
    let what = format!("{} {}", spec.engine.descriptor().title, spec.version);
    let addresses = members::addresses(&team.members);
    if team.replicated() {
        format!("{what} is installed on {addresses}")
    } else {
        format!("{what} accepts connections on {addresses}")
    }
}

fn replicate<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let team = members::load(ctx, data.instance).await?;
        if !team.replicated() {
            return Progress::done("one member");
        }
        replication::found(ctx, &team).await?;
        replication::until_acknowledged(ctx, &team, &mut data.patience, Load::Empty).await
    })
}

fn unfound<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        replication::forget(ctx, data.instance).await?;
        Progress::done("nobody leads it any more")
    })
}

/// Sets the member's port aside and gives it another. The generation grows: it is another goal.
async fn move_port(
    ctx: &mut StepContext,
    instance: &InstanceRow,
    member: &MemberRow,
    error: &Error,
) -> Result<(), Error> {
    let taken = member.port.unwrap_or_default();
    reservations::host_lock_tx(ctx.tx(), member.host_id).await?;
    reservations::port_block_tx(ctx.tx(), member.host_id, taken, PORT_BLOCKED).await?;
    reservations::member_take_port_tx(ctx.tx(), member.id).await?.ok_or_else(|| {
        Error::precondition(
            Reason::PortTaken,
            format!("{error}; host {} has no other free port in its range", member.host_name),
        )
    })?;
    instances::instance_set_spec_tx(ctx.tx(), instance.id, &instance.spec).await?;
    let event = NewEvent::warning(
        "host.port_taken",
        ctx.target().to_owned(),
        format!("port {taken} of host {} is held by something else and set aside: {error}", member.host_name),
    );
    ctx.event(event).await
}

fn remove<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let team = members::load(ctx, data.instance).await?;
        members::take_away_or_leave(ctx, &team.instance, &team.members, &members::remove_with_data()).await
    })
}
