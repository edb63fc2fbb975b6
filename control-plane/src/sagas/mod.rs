//! Sagas: multi-step changes that survive crashes, one file each, on the thin durable layer in [`runtime`].
//!
//! A new operation is a type that implements [`Saga`] in a file here and a line in the registry.

pub mod runtime;

pub use runtime::{
    advance::Advance,
    cancel::{cancel, cancellable},
    command::{CommandOutcome, NewCommand},
    context::StepContext,
    executor::{Executor, Tuning, Waker},
    registry::{Registry, StepInfo},
    saga::{Outcome, Progress, Saga, Step, StepFn, StepFuture, StepKind},
    start::{Request, start},
    watch::{OperationWatch, Until},
};
