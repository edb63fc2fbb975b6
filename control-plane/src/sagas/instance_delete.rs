//! Deleting an instance: stopped, taken off its host, its data kept for the undelete window (or deleted at once).
//!
//! Processor, memory, port, name and the place in the project's number of instances are given back at once; the disk
//! when the data is purged. A host that does not answer holds nothing up: its order waits for its return. A host that
//! answers and cannot do it leaves the instance in ERROR, to be deleted again.

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use windlass_core::{
    Error, Reason,
    id::InstanceId,
    instance::{Lifecycle, LifecycleEvent},
    operation::OperationKind,
};
use windlass_db::{events::NewEvent, instances, reservations};

use super::{Outcome, Progress, Saga, Step, StepContext, StepFuture, members, replication};

/// What becomes of a deleted instance's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disposal {
    /// Kept for the undelete window.
    Retain,
    /// Deleted with the instance.
    Purge,
}

/// Deletes an instance.
#[derive(Debug)]
pub struct InstanceDelete;

/// State of [`InstanceDelete`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Data {
    /// The instance.
    pub instance: InstanceId,
    /// What becomes of its data.
    pub disposal: Disposal,
    /// How long the data is kept.
    pub window: SignedDuration,
    /// Until when replicas may take to come to rest.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

impl Saga for InstanceDelete {
    const KIND: OperationKind = OperationKind::InstanceDelete;
    const VERSION: i32 = 1;
    type Data = Data;

    fn steps() -> Vec<Step<Self>> {
        vec![
            Step::harmless("rest", "Bringing replicas to rest", "a start opens it again", rest),
            Step::harmless(
                "remove",
                "Stopping the database and taking it off its host",
                "a member that was put aside is brought back by deleting again or by a start",
                remove,
            ),
            Step::pivot("release", "Giving back what it reserved", release),
        ]
    }

    fn finish<'a>(ctx: &'a mut StepContext, data: &'a Data, outcome: &'a Outcome) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let target = ctx.target().to_owned();
            let error = match outcome {
                Outcome::Succeeded => {
                    let what = match data.disposal {
                        Disposal::Retain => "the instance was deleted; it can be undeleted until its data is purged",
                        Disposal::Purge => "the instance was deleted with its data",
                    };
                    return ctx.event(NewEvent::info("instance.deleted", target, what)).await;
                }
                Outcome::Failed(error) => error.clone(),
                Outcome::Cancelled => members::cancelled("its deletion was cancelled half-way; delete it again"),
            };
            instances::instance_advance_tx(ctx.tx(), data.instance, LifecycleEvent::Failed, Some(&error)).await?;
            let event = NewEvent::error("instance.delete_failed", target, format!("it could not be deleted: {error}"));
            ctx.event(event).await
        })
    }
}

/// So that nobody fails over while members are taken away. What does not come to rest is stopped all the same.
fn rest<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let in_service = replication::lock(ctx, data.instance).await?.is_some_and(|cluster| !cluster.is_at_rest());
        if !in_service || data.disposal == Disposal::Purge {
            return Progress::done("");
        }
        match replication::rest(ctx, data.instance, &mut data.until).await {
            Err(error) if error.reason == Reason::DeadlineExceeded => Progress::done(error.message),
            other => other,
        }
    })
}

fn remove<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let instance = members::lock(ctx.tx(), data.instance).await?;
        let team = members::members_of(ctx.tx(), data.instance).await?;
        if team.is_empty() {
            return Progress::done("it was on no host");
        }
        if data.disposal == Disposal::Purge {
            replication::forget(ctx, data.instance).await?;
        }
        let body = match data.disposal {
            Disposal::Retain => members::put_aside(),
            Disposal::Purge => members::remove_with_data(),
        };
        members::take_away(ctx, &instance, &team, &body).await
    })
}

fn release<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let Some(instance) = instances::instance_lock_tx(ctx.tx(), data.instance).await? else {
            return Progress::done("it is gone");
        };
        if instance.lifecycle != Lifecycle::Deleting {
            return Progress::done("it was released before");
        }
        reservations::project_instances_add_tx(ctx.tx(), instance.project_id, -1).await?;
        match data.disposal {
            Disposal::Purge => {
                members::forget_members(ctx.tx(), instance.id).await?;
                instances::instance_delete_tx(ctx.tx(), instance.id).await?;
                Progress::done("all that it reserved is free again")
            }
            Disposal::Retain => {
                for member in members::members_of(ctx.tx(), instance.id).await? {
                    reservations::member_retain_tx(ctx.tx(), member.id).await?;
                }
                instances::instance_advance_tx(ctx.tx(), instance.id, LifecycleEvent::Removed, None).await?;
                let now = ctx.now();
                let purge = now + data.window;
                instances::instance_set_deletion_tx(ctx.tx(), instance.id, Some(now), Some(purge)).await?;
                Progress::done(format!("its disk stays reserved until its data is purged at {purge:.0}"))
            }
        }
    })
}
