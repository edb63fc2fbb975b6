//! Bringing a deleted instance back, on the host that kept its data.
//!
//! The undeleting transaction has taken quota, room and a port again. If the data cannot be brought back the instance
//! is deleted as before, with the time of its purge unchanged.

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use windlass_core::{
    Error,
    id::InstanceId,
    instance::{Lifecycle, LifecycleEvent, Power},
    operation::OperationKind,
};
use windlass_db::{events::NewEvent, instances, reservations};

use super::{
    Outcome, Progress, Saga, Step, StepContext, StepFuture,
    goal::DataSource,
    members::{self, Applied},
    replication,
};

/// Brings a deleted instance back.
#[derive(Debug)]
pub struct InstanceUndelete;

/// State of [`InstanceUndelete`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Data {
    /// The instance.
    pub instance: InstanceId,
    /// When it was deleted.
    pub deleted: Option<Timestamp>,
    /// When its data would have been purged.
    pub purge: Option<Timestamp>,
    /// Until when the cluster may be waited for.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

impl Saga for InstanceUndelete {
    const KIND: OperationKind = OperationKind::InstanceUndelete;
    const VERSION: i32 = 1;
    type Data = Data;

    fn steps() -> Vec<Step<Self>> {
        vec![
            Step::undoable("reserve", "Reserving quota, room and a port again", reserve, release),
            Step::undoable("restore", "Bringing the data back into service", restore, put_aside),
            Step::undoable("open", "Waiting for the primary", open, rest),
        ]
    }

    fn finish<'a>(ctx: &'a mut StepContext, data: &'a Data, outcome: &'a Outcome) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let target = ctx.target().to_owned();
            let event = match outcome {
                Outcome::Succeeded => {
                    let instance = members::lock(ctx.tx(), data.instance).await?;
                    let reached = members::at_rest_or_serving(instance.spec.power);
                    instances::instance_advance_tx(ctx.tx(), data.instance, reached, None).await?;
                    NewEvent::info("instance.undeleted", target, "the instance was brought back")
                }
                Outcome::Failed(error) => {
                    NewEvent::error("instance.undelete_failed", target, format!("it stays deleted: {error}"))
                }
                Outcome::Cancelled => {
                    NewEvent::info("instance.undelete_cancelled", target, "it stays deleted, as was asked for")
                }
            };
            ctx.event(event).await
        })
    }
}

fn reserve<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let team = members::load(ctx, data.instance).await?;
        Progress::done(members::places(&team.members))
    })
}

fn release<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let members::Team { instance, members } = members::load(ctx, data.instance).await?;
        if instance.lifecycle == Lifecycle::Creating {
            reservations::project_instances_add_tx(ctx.tx(), instance.project_id, -1).await?;
            for member in members {
                reservations::member_retain_tx(ctx.tx(), member.id).await?;
            }
            instances::instance_advance_tx(ctx.tx(), instance.id, LifecycleEvent::Removed, None).await?;
            instances::instance_set_deletion_tx(ctx.tx(), instance.id, data.deleted, data.purge).await?;
        }
        Progress::done("quota, room and port are given back")
    })
}

fn restore<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let team = members::load(ctx, data.instance).await?;
        match members::apply(ctx, "apply", &team, &team.members, DataSource::Retained).await? {
            Applied::Waiting(progress) => Ok(progress),
            Applied::Failed { error, .. } => Err(error),
            Applied::Done(_) => Progress::done(format!("on {}", members::addresses(&team.members))),
        }
    })
}

/// Members have other ports than before; their cluster is told, and goes on where it came to rest.
fn open<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let team = members::load(ctx, data.instance).await?;
        let Some(cluster) = replication::lock(ctx, data.instance).await? else {
            return Progress::done("one member");
        };
        let next = replication::readdressed(&cluster, &team.members);
        replication::save(ctx, data.instance, &cluster, &next).await?;
        match team.instance.spec.power {
            Power::On => replication::resume(ctx, data.instance, &mut data.until).await,
            Power::Off => Progress::done("at rest, as it was"),
        }
    })
}

fn rest<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        if replication::lock(ctx, data.instance).await?.is_none() {
            return Progress::done("one member");
        }
        replication::rest(ctx, data.instance, &mut data.until).await
    })
}

fn put_aside<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let team = members::load(ctx, data.instance).await?;
        members::take_away_or_leave(ctx, &team.instance, &team.members, &members::put_aside()).await
    })
}
