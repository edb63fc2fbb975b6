//! Sagas: multi-step changes that survive crashes, one file each, on the thin durable layer in [`runtime`].
//!
//! A new operation is a type that implements [`Saga`] in a file here and a line in the registry.

pub mod runtime;

pub use runtime::{
    command::{CommandOutcome, NewCommand},
    context::StepContext,
    registry::Registry,
    saga::{Outcome, Progress, Saga, Step, StepFn, StepFuture, StepKind},
    start::{Request, start},
};
