//! What a saga is: a list of steps over one typed state.

use futures::future::BoxFuture;
use jiff::SignedDuration;
use serde::{Serialize, de::DeserializeOwned};
use windlass_core::{Error, operation::OperationKind};

use super::context::StepContext;

/// A multi-step change. The implementing type is only a name for it; its state is [`Saga::Data`].
pub trait Saga: Sized + Send + Sync + 'static {
    /// What it does; the word users see.
    const KIND: OperationKind;
    /// Raised with every change of the steps or of the stored form of the data. Binaries that know another version
    /// leave the saga alone.
    const VERSION: i32;
    /// The state, stored as JSON after each step.
    type Data: Serialize + DeserializeOwned + Send + Sync;

    /// The steps in order. A function of nothing: the same list each time.
    fn steps() -> Vec<Step<Self>>;

    /// Runs in the transaction that ends the saga, whichever way it ends; retried until it succeeds.
    fn finish<'a>(
        ctx: &'a mut StepContext,
        data: &'a Self::Data,
        outcome: &'a Outcome,
    ) -> BoxFuture<'a, Result<(), Error>>;
}

/// What a step gives back, boxed.
pub type StepFuture<'a> = BoxFuture<'a, Result<Progress, Error>>;

/// A step's code, forward or undo. What it did to the data counts only if it returns Ok.
pub type StepFn<S> = for<'a> fn(&'a mut StepContext, &'a mut <S as Saga>::Data) -> StepFuture<'a>;

/// One step.
pub struct Step<S: Saga> {
    /// Stable name, for example `place`.
    pub name: &'static str,
    /// For people, for example `Choosing hosts`.
    pub title: &'static str,
    /// What a failure at or after it means.
    pub kind: StepKind,
    /// Does it. May run many times.
    pub run: StepFn<S>,
    /// Undoes whatever part of it was done, also if that is none.
    pub undo: Option<StepFn<S>>,
}

impl<S: Saga> Step<S> {
    /// A step that `undo` takes back.
    pub const fn undoable(name: &'static str, title: &'static str, run: StepFn<S>, undo: StepFn<S>) -> Self {
        Self { name, title, kind: StepKind::Undoable, run, undo: Some(undo) }
    }

    /// A step with nothing to take back, for the reason `why`.
    pub const fn harmless(name: &'static str, title: &'static str, why: &'static str, run: StepFn<S>) -> Self {
        Self { name, title, kind: StepKind::Harmless(why), run, undo: None }
    }

    /// The point of no return.
    pub const fn pivot(name: &'static str, title: &'static str, run: StepFn<S>) -> Self {
        Self { name, title, kind: StepKind::Pivot, run, undo: None }
    }

    /// A step after the pivot.
    pub const fn forward(name: &'static str, title: &'static str, run: StepFn<S>) -> Self {
        Self { name, title, kind: StepKind::Forward, run, undo: None }
    }
}

/// What a failure at or after a step means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// It can be taken back.
    Undoable,
    /// It leaves nothing to take back, for this reason.
    Harmless(&'static str),
    /// From its beginning on there is no way back: it and all later ones are retried until they succeed.
    Pivot,
    /// After the pivot.
    Forward,
}

/// How far a run of a step came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Done; the text says what came of it.
    Done(String),
    /// Parked until a command of this saga ends; the text says what for. At least one must be open.
    Wait(String),
    /// To be run again after a while; the text says why.
    Later(SignedDuration, String),
}

impl Progress {
    /// Done.
    pub fn done(detail: impl Into<String>) -> Result<Self, Error> {
        Ok(Self::Done(detail.into()))
    }

    /// Parked until a command ends.
    pub fn wait(detail: impl Into<String>) -> Result<Self, Error> {
        Ok(Self::Wait(detail.into()))
    }
}

/// How a saga ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Every step was done.
    Succeeded,
    /// A step failed for this reason, and what could be undone was.
    Failed(Error),
    /// A user asked for it, and what could be undone was.
    Cancelled,
}
