//! Stopping an instance: the server ends cleanly, data and reservations stay. Of several members the primary stops
//! first, so that the others have all it wrote, and who leads stays as it was.

use futures::future::BoxFuture;
use windlass_core::{Error, instance::Power, operation::OperationKind};

use super::{
    Outcome, Progress, Saga, Step, StepContext, StepFuture,
    change::{self, Data, Reached, Restart, Words},
};

const WORDS: Words = Words {
    done: "instance.stopped",
    said: "the instance was stopped",
    failed: "instance.stop_failed",
    cancelled: "instance.stop_cancelled",
};

/// Stops an instance.
#[derive(Debug)]
pub struct InstanceStop;

impl Saga for InstanceStop {
    const KIND: OperationKind = OperationKind::InstanceStop;
    const VERSION: i32 = 1;
    type Data = Data;

    fn steps() -> Vec<Step<Self>> {
        vec![
            Step::undoable("rest", "Bringing replicas to rest", rest, open),
            Step::undoable("stop", "Stopping the database", stop, take_back),
        ]
    }

    fn finish<'a>(ctx: &'a mut StepContext, data: &'a Data, outcome: &'a Outcome) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(change::finish(ctx, data, outcome, &WORDS))
    }
}

fn rest<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(change::rest(ctx, data))
}

/// What was wanted before is wanted again, whether the next step was begun or not.
fn open<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        match change::take_back(ctx, data, Restart::No).await? {
            Progress::Done(_) if data.before.power == Power::On => change::open(ctx, data).await,
            waits @ (Progress::Done(_) | Progress::Wait(_) | Progress::Later(..)) => Ok(waits),
        }
    })
}

fn stop<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        match change::apply(ctx, "apply", data).await? {
            Reached::NotYet(progress) => Ok(progress),
            Reached::There(_) => Progress::done("it is at rest; its data is kept"),
        }
    })
}

fn take_back<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(change::take_back(ctx, data, Restart::No))
}
