//! Sagas: multi-step changes that survive crashes, one file each, on the thin durable layer in [`runtime`].
//!
//! A new operation is a type that implements [`Saga`] in a file here and a line in the registry.

mod all;
pub mod change;
pub(crate) mod goal;
pub mod instance_create;
pub mod instance_delete;
pub mod instance_failover;
pub mod instance_purge;
pub mod instance_restart;
pub mod instance_start;
pub mod instance_stop;
pub mod instance_switchover;
pub mod instance_undelete;
pub mod instance_update;
mod members;
pub mod object_apply;
pub mod observe;
pub mod replica_add;
pub mod replica_remove;
#[cfg(test)]
mod replicated_tests;
mod replication;
pub mod runtime;
#[cfg(test)]
mod tests;

pub use all::registry;

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
