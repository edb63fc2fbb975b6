//! Removing a deleted instance's data for good: when its undelete window is over, or when asked for.
//!
//! Started by the reconciler as `system`. If the host answers and cannot do it, the instance stays deleted and the
//! purge is tried again later; a host that does not answer gets the order when it is back.

use futures::future::BoxFuture;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use windlass_core::{Error, id::InstanceId, operation::OperationKind};
use windlass_db::{events::NewEvent, instances};

use super::{Outcome, Progress, Saga, Step, StepContext, StepFuture, members};

/// After a failure the next try comes so much later.
const TRY_AGAIN: SignedDuration = SignedDuration::from_mins(10);

/// Removes a deleted instance's data.
#[derive(Debug)]
pub struct InstancePurge;

/// State of [`InstancePurge`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Data {
    /// The instance.
    pub instance: InstanceId,
}

impl Saga for InstancePurge {
    const KIND: OperationKind = OperationKind::InstancePurge;
    const VERSION: i32 = 1;
    type Data = Data;

    fn steps() -> Vec<Step<Self>> {
        vec![
            Step::harmless("purge", "Deleting the retained data", "an undelete of less than all data fails", purge),
            Step::pivot("forget", "Giving back the disk", forget),
        ]
    }

    fn finish<'a>(ctx: &'a mut StepContext, data: &'a Data, outcome: &'a Outcome) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let target = ctx.target().to_owned();
            let event = match outcome {
                Outcome::Succeeded => NewEvent::info("instance.purged", target, "its data was removed for good"),
                Outcome::Failed(error) => {
                    later(ctx, data.instance).await?;
                    NewEvent::warning("instance.purge_failed", target, format!("it is tried again later: {error}"))
                }
                Outcome::Cancelled => {
                    later(ctx, data.instance).await?;
                    NewEvent::info("instance.purge_cancelled", target, "it is tried again later")
                }
            };
            ctx.event(event).await
        })
    }
}

async fn later(ctx: &mut StepContext, id: InstanceId) -> Result<(), Error> {
    let Some(instance) = instances::instance_lock_tx(ctx.tx(), id).await? else { return Ok(()) };
    let next = ctx.now() + TRY_AGAIN;
    instances::instance_set_deletion_tx(ctx.tx(), id, instance.delete_time, Some(next)).await
}

fn purge<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let instance = members::lock(ctx.tx(), data.instance).await?;
        let team = members::members_of(ctx.tx(), data.instance).await?;
        if team.is_empty() {
            return Progress::done("it was on no host");
        }
        members::take_away(ctx, &instance, &team, &members::purge()).await
    })
}

fn forget<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        members::forget_members(ctx.tx(), data.instance).await?;
        instances::instance_delete_tx(ctx.tx(), data.instance).await?;
        Progress::done("its disk is free again")
    })
}
