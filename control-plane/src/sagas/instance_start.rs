//! Starting an instance that is stopped, or one in ERROR.
//!
//! A start that fails leaves the instance as it was: stopped, with the operation telling why.

use futures::future::BoxFuture;
use windlass_core::{Error, instance::Power, operation::OperationKind};

use super::{
    Outcome, Progress, Saga, Step, StepContext, StepFuture,
    change::{self, Data, Reached, Restart, Words},
};

const WORDS: Words = Words {
    done: "instance.started",
    said: "the instance was started",
    failed: "instance.start_failed",
    cancelled: "instance.start_cancelled",
};

/// Starts an instance.
#[derive(Debug)]
pub struct InstanceStart;

impl Saga for InstanceStart {
    const KIND: OperationKind = OperationKind::InstanceStart;
    const VERSION: i32 = 1;
    type Data = Data;

    fn steps() -> Vec<Step<Self>> {
        vec![
            Step::undoable("start", "Starting the database", start, take_back),
            Step::undoable("open", "Waiting for the primary", open, rest),
        ]
    }

    fn finish<'a>(ctx: &'a mut StepContext, data: &'a Data, outcome: &'a Outcome) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(change::finish(ctx, data, outcome, &WORDS))
    }
}

fn start<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        match change::apply(ctx, "apply", data).await? {
            Reached::NotYet(progress) => Ok(progress),
            Reached::There(_) => Progress::done("it accepts connections"),
        }
    })
}

fn open<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(change::open(ctx, data))
}

fn rest<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        match data.before.power {
            Power::Off => change::rest(ctx, data).await,
            Power::On => Progress::done("it shall run, as before"),
        }
    })
}

fn take_back<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(change::take_back(ctx, data, Restart::No))
}
