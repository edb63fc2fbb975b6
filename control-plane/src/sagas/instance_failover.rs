//! Promoting a replica without the old primary, because an operator says so.
//!
//! With `allow_data_loss` the operator vouches that the old primary is dead, and acknowledged commits may be given up;
//! that is audited where it is asked for. Once members are sealed there is only forward, so only a wish that has not
//! begun can be taken back.

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use windlass_core::{
    Error,
    id::{InstanceId, MemberId},
    operation::OperationKind,
};
use windlass_db::events::NewEvent;
use windlass_logic::ha::{Cluster, Loss};

use super::{Outcome, Progress, Saga, Step, StepContext, StepFuture, replication};

/// Promotes a replica.
#[derive(Debug)]
pub struct InstanceFailover;

/// State of [`InstanceFailover`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Data {
    /// The instance.
    pub instance: InstanceId,
    /// Who takes over; None: the best.
    pub to: Option<MemberId>,
    /// Whether acknowledged commits may be given up.
    pub loss: Loss,
    /// Until when it may be waited for.
    pub until: Option<Timestamp>,
}

impl Saga for InstanceFailover {
    const KIND: OperationKind = OperationKind::InstanceFailover;
    const VERSION: i32 = 1;
    type Data = Data;

    fn steps() -> Vec<Step<Self>> {
        vec![
            Step::undoable("ask", "Asking for the failover", ask, withdraw),
            Step::undoable("promote", "Promoting a replica", wait, withdraw),
        ]
    }

    fn finish<'a>(ctx: &'a mut StepContext, _: &'a Data, outcome: &'a Outcome) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let target = ctx.target().to_owned();
            let event = match outcome {
                Outcome::Succeeded => NewEvent::info("failover.done", target, "a replica was promoted as ordered"),
                Outcome::Failed(error) => {
                    NewEvent::warning("failover.failed", target, format!("nobody was promoted: {error}"))
                }
                Outcome::Cancelled => NewEvent::info("failover.cancelled", target, "it was cancelled"),
            };
            ctx.event(event).await
        })
    }
}

fn ask<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let (operation, to, loss) = (ctx.operation(), data.to, data.loss);
        let change = |cluster: &Cluster| cluster.failover(operation, to, loss);
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
