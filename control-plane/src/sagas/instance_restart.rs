//! Restarting an instance. A restart is desired state (a number that grows), not a message that can be lost.
//!
//! Of several members the replicas restart first, one after the other, then the primary in its place. It cannot be undone; if the server does not come up again, the instance is in ERROR with the reason.

use futures::future::BoxFuture;
use windlass_core::{Error, operation::OperationKind};

use super::{
    Outcome, Progress, Saga, Step, StepContext, StepFuture,
    change::{self, Data, Reached, Restart, Words},
};

const WORDS: Words = Words {
    done: "instance.restarted",
    said: "the instance was restarted",
    failed: "instance.restart_failed",
    cancelled: "instance.restart_cancelled",
};

/// Restarts an instance.
#[derive(Debug)]
pub struct InstanceRestart;

impl Saga for InstanceRestart {
    const KIND: OperationKind = OperationKind::InstanceRestart;
    const VERSION: i32 = 1;
    type Data = Data;

    fn steps() -> Vec<Step<Self>> {
        vec![
            Step::undoable("restart", "Restarting the database", restart, take_back),
            Step::harmless("open", "Waiting for the primary", "it only waits", open),
        ]
    }

    fn finish<'a>(ctx: &'a mut StepContext, data: &'a Data, outcome: &'a Outcome) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(change::finish(ctx, data, outcome, &WORDS))
    }
}

fn restart<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        match change::apply(ctx, "apply", data).await? {
            Reached::NotYet(progress) => Ok(progress),
            Reached::There(_) => Progress::done("it accepts connections again"),
        }
    })
}

fn open<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(change::open(ctx, data))
}

fn take_back<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(change::take_back(ctx, data, Restart::No))
}
