//! Creating an instance.
//!
//! The creating transaction has reserved quota, a host and a port, and stored the row as PENDING; the saga makes it
//! true. A create that fails leaves no instance: everything is given back and the row goes, so that the name is free
//! again; the operation keeps the error.
//!
//! One order makes the data directory and starts the server, because each round trip to the host costs more than what
//! splitting it would tell. A port that something else holds on the host is set aside for a while and another is tried.

use futures::future::BoxFuture;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use windlass_core::{
    Error, Reason,
    id::InstanceId,
    instance::{Lifecycle, LifecycleEvent},
    object::{ObjectKind, ObjectState},
    operation::OperationKind,
    size::format_bytes,
};
use windlass_db::{
    events::NewEvent,
    instances::{self, InstanceRow},
    members::MemberRow,
    objects::{object_set_state_tx, objects_of_tx},
    reservations,
};

use super::{
    Outcome, Progress, Saga, Step, StepContext, StepFuture,
    goal::{DataSource, object_order},
    members::{self, Applied},
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
    /// Ports tried so far.
    pub ports_tried: u32,
}

impl Saga for InstanceCreate {
    const KIND: OperationKind = OperationKind::InstanceCreate;
    const VERSION: i32 = 1;
    type Data = Data;

    fn steps() -> Vec<Step<Self>> {
        vec![
            Step::undoable("reserve", "Reserving quota, a host and a port", reserve, release),
            Step::undoable("deploy", "Creating the database and starting it", deploy, remove),
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
        let (instance, member) = members::load(ctx, data.instance).await?;
        if instance.lifecycle == Lifecycle::Pending {
            instances::instance_advance_tx(ctx.tx(), instance.id, LifecycleEvent::CreateBegun, None).await?;
        }
        let size = instance.spec.resources;
        Progress::done(format!(
            "host {}, port {}; {} cores, {} memory, {} disk",
            member.host_name,
            member.port.unwrap_or_default(),
            size.cpu_millis as f64 / 1000.0,
            format_bytes(size.memory_bytes),
            format_bytes(size.disk_bytes)
        ))
    })
}

fn release<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        if let Some(instance) = instances::instance_lock_tx(ctx.tx(), data.instance).await? {
            reservations::project_instances_add_tx(ctx.tx(), instance.project_id, -1).await?;
            members::forget_member(ctx.tx(), instance.id).await?;
            instances::instance_delete_tx(ctx.tx(), instance.id).await?;
        }
        Progress::done("quota, host and port are given back")
    })
}

fn deploy<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let (mut instance, mut member) = members::load(ctx, data.instance).await?;
        let objects = objects_of_tx(ctx.tx(), instance.id).await?;
        let admin_name = instance.spec.engine.descriptor().admin_user;
        let admin = objects
            .iter()
            .find(|object| object.key.kind == ObjectKind::User && object.key.name == admin_name)
            .map(|object| object_order(object, false));
        loop {
            let key = format!("apply-{}", data.ports_tried);
            let applied = members::apply(ctx, &key, &instance, &member, DataSource::Initialise, admin.clone()).await?;
            return match applied {
                Applied::Waiting(progress) => Ok(progress),
                Applied::Done(_) => {
                    for object in &objects {
                        object_set_state_tx(ctx.tx(), instance.id, &object.key, ObjectState::Ready).await?;
                    }
                    Progress::done(format!(
                        "{} {} accepts connections on {}:{}",
                        instance.spec.engine.descriptor().title,
                        instance.spec.version,
                        member.host_address,
                        member.port.unwrap_or_default()
                    ))
                }
                Applied::Failed(error) if error.reason == Reason::PortTaken && data.ports_tried + 1 < PORTS_TRIED => {
                    data.ports_tried += 1;
                    (instance, member) = move_port(ctx, &instance, &member, &error).await?;
                    continue;
                }
                Applied::Failed(error) if error.reason == Reason::PortTaken => {
                    Err(Error::precondition(Reason::PortTaken, format!("{error}; {PORTS_TRIED} ports were tried")))
                }
                Applied::Failed(error) => Err(error),
            };
        }
    })
}

/// Sets the member's port aside and gives it another. The generation grows: it is another goal.
async fn move_port(
    ctx: &mut StepContext,
    instance: &InstanceRow,
    member: &MemberRow,
    error: &Error,
) -> Result<(InstanceRow, MemberRow), Error> {
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
    ctx.event(event).await?;
    members::load(ctx, instance.id).await
}

fn remove<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let (instance, member) = members::load(ctx, data.instance).await?;
        members::take_away_or_leave(ctx, &instance, &member, members::remove_with_data()).await
    })
}
