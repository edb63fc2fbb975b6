//! Moving the primary to a replica in order. The saga writes the wish and waits; the state machine pauses clients, stops
//! the old primary, proves that the new one has everything, and promotes it, or gives up within its budget.
//!
//! A failed or cancelled switchover leaves the old primary in service. Once the new one is chosen there is only forward,
//! and a cancel waits for the end.

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use windlass_core::{
    Error,
    id::{InstanceId, MemberId},
    operation::OperationKind,
};
use windlass_db::events::NewEvent;
use windlass_logic::ha::{Cluster, Patience};

use super::{Outcome, Progress, Saga, Step, StepContext, StepFuture, replication};

/// Moves the primary.
#[derive(Debug)]
pub struct InstanceSwitchover;

/// State of [`InstanceSwitchover`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Data {
    /// The instance.
    pub instance: InstanceId,
    /// Who takes over; None: the best candidate.
    pub to: Option<MemberId>,
    /// What happens to open transactions.
    pub patience: Patience,
    /// Until when it may be waited for.
    pub until: Option<Timestamp>,
}

impl Saga for InstanceSwitchover {
    const KIND: OperationKind = OperationKind::InstanceSwitchover;
    const VERSION: i32 = 1;
    type Data = Data;

    fn steps() -> Vec<Step<Self>> {
        vec![
            Step::undoable("ask", "Asking for the switchover", ask, withdraw),
            Step::undoable("move", "Moving the primary", wait, withdraw),
        ]
    }

    fn finish<'a>(ctx: &'a mut StepContext, _: &'a Data, outcome: &'a Outcome) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let target = ctx.target().to_owned();
            let event = match outcome {
                Outcome::Succeeded => NewEvent::info("switchover.done", target, "the primary was moved"),
                Outcome::Failed(error) => {
                    NewEvent::warning("switchover.failed", target, format!("the primary was not moved: {error}"))
                }
                Outcome::Cancelled => NewEvent::info("switchover.cancelled", target, "it was cancelled"),
            };
            ctx.event(event).await
        })
    }
}

fn ask<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let (operation, to, patience) = (ctx.operation(), data.to, data.patience);
        let change = |cluster: &Cluster| cluster.switchover(operation, to, patience);
        match replication::ask(ctx, data.instance, &mut data.until, change).await? {
            Some(waits) => Ok(waits),
            None => Progress::done(""),
        }
    })
}

fn wait<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(replication::until_moved(ctx, data.instance, &mut data.until))
}

fn withdraw<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(replication::withdraw(ctx, data.instance))
}
