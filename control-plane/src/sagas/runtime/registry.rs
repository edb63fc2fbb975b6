//! The sagas that this binary knows, with their types erased.

use std::{collections::HashMap, fmt, marker::PhantomData};

use async_trait::async_trait;
use serde_json::Value;
use windlass_core::{Error, operation::Direction};

use super::{
    context::StepContext,
    saga::{Outcome, Progress, Saga, Step, StepKind},
};

/// What is known of a step without its saga's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepInfo {
    /// Stable name.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// What a failure at or after it means.
    pub kind: StepKind,
}

/// A saga with its type erased: data is JSON.
#[async_trait]
pub(crate) trait AnySaga: Send + Sync {
    fn steps(&self) -> &[StepInfo];
    /// Runs or undoes a step; the data is changed only on success.
    async fn run(
        &self,
        ctx: &mut StepContext,
        index: usize,
        direction: Direction,
        data: &mut Value,
    ) -> Result<Progress, Error>;
    async fn finish(&self, ctx: &mut StepContext, data: &Value, outcome: &Outcome) -> Result<(), Error>;
}

struct Erased<S: Saga> {
    infos: Vec<StepInfo>,
    steps: Vec<Step<S>>,
    saga: PhantomData<S>,
}

#[async_trait]
impl<S: Saga> AnySaga for Erased<S> {
    fn steps(&self) -> &[StepInfo] {
        &self.infos
    }

    async fn run(
        &self,
        ctx: &mut StepContext,
        index: usize,
        direction: Direction,
        data: &mut Value,
    ) -> Result<Progress, Error> {
        let step = &self.steps[index];
        let code = match (direction, step.undo) {
            (Direction::Forward, _) => step.run,
            (Direction::Unwind, Some(undo)) => undo,
            (Direction::Unwind, None) => return Progress::done(""),
        };
        let mut typed = read::<S>(data)?;
        let progress = code(ctx, &mut typed).await?;
        *data = serde_json::to_value(typed).map_err(|error| {
            Error::internal(format!("the state of {} cannot be written", S::KIND)).with_source(error)
        })?;
        Ok(progress)
    }

    async fn finish(&self, ctx: &mut StepContext, data: &Value, outcome: &Outcome) -> Result<(), Error> {
        S::finish(ctx, &read::<S>(data)?, outcome).await
    }
}

fn read<S: Saga>(data: &Value) -> Result<S::Data, Error> {
    serde_json::from_value(data.clone())
        .map_err(|error| Error::internal(format!("the state of {} cannot be read", S::KIND)).with_source(error))
}

/// All sagas of a binary, by kind and version.
#[derive(Default)]
pub struct Registry {
    sagas: HashMap<(&'static str, i32), Box<dyn AnySaga>>,
}

impl Registry {
    /// Knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns a saga.
    ///
    /// # Panics
    /// When the list of steps breaks a rule: names twice, more than one pivot, a step that must be undone but cannot
    /// be, undoable steps after the pivot. That is a bug which the first start of the binary shows.
    #[must_use]
    pub fn with<S: Saga>(mut self) -> Self {
        let steps = S::steps();
        let infos: Vec<_> = steps.iter().map(|s| StepInfo { name: s.name, title: s.title, kind: s.kind }).collect();
        let undo = steps.iter().find(|step| (step.kind == StepKind::Undoable) != step.undo.is_some());
        let rule = undo.map(|step| format!("{} must have an undo exactly if it is undoable", step.name));
        if let Some(rule) = rule.or_else(|| check(&infos).err()) {
            panic!("saga {} breaks a rule: {rule}", S::KIND);
        }
        self.sagas.insert((S::KIND.as_str(), S::VERSION), Box::new(Erased { infos, steps, saga: PhantomData }));
        self
    }

    /// The steps of a saga in order; None when it is not known.
    pub fn steps(&self, kind: &str, version: i32) -> Option<&[StepInfo]> {
        self.get(kind, version).map(AnySaga::steps)
    }

    pub(crate) fn get(&self, kind: &str, version: i32) -> Option<&dyn AnySaga> {
        self.sagas.iter().find(|((k, v), _)| *k == kind && *v == version).map(|(_, saga)| &**saga)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.sagas.keys()).finish()
    }
}

/// Whether a failure at this step is unwound: it is before the pivot, or there is none.
pub(crate) fn unwindable(steps: &[StepInfo], cursor: i32) -> bool {
    let pivot = steps.iter().position(|step| step.kind == StepKind::Pivot).unwrap_or(steps.len());
    usize::try_from(cursor).is_ok_and(|cursor| cursor < pivot)
}

fn check(steps: &[StepInfo]) -> Result<(), String> {
    let mut after_pivot = false;
    for (index, step) in steps.iter().enumerate() {
        if steps[..index].iter().any(|other| other.name == step.name) {
            return Err(format!("two steps are called {}", step.name));
        }
        match (step.kind, after_pivot) {
            (StepKind::Pivot, true) => return Err(format!("{} is a second pivot", step.name)),
            (StepKind::Undoable, true) => return Err(format!("{} is undoable after the pivot", step.name)),
            (StepKind::Forward, false) => return Err(format!("{} is forward without a pivot before it", step.name)),
            (StepKind::Pivot, false) => after_pivot = true,
            (StepKind::Undoable | StepKind::Harmless(_), _) | (StepKind::Forward, true) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(kinds: &[StepKind]) -> Vec<StepInfo> {
        let names = ["a", "b", "c", "d"];
        kinds.iter().zip(names).map(|(kind, name)| StepInfo { name, title: name, kind: *kind }).collect()
    }

    #[test]
    fn the_rules_of_a_list_of_steps_are_checked() {
        use StepKind::{Forward, Harmless, Pivot, Undoable};
        let ok = steps(&[Undoable, Harmless("reads"), Pivot, Forward]);
        check(&ok).expect("legal");
        for (wrong, what) in [
            (steps(&[Pivot, Pivot]), "second pivot"),
            (steps(&[Pivot, Undoable]), "undoable after"),
            (steps(&[Undoable, Forward]), "without a pivot"),
        ] {
            assert!(check(&wrong).expect_err(what).contains(what));
        }
        let mut twice = steps(&[Undoable, Undoable]);
        twice[1].name = "a";
        assert!(check(&twice).expect_err("twice").contains("two steps"));
    }

    #[test]
    fn what_is_before_the_pivot_can_be_unwound() {
        use StepKind::{Forward, Pivot, Undoable};
        let with = steps(&[Undoable, Pivot, Forward]);
        assert_eq!([0, 1, 2, 3].map(|cursor| unwindable(&with, cursor)), [true, false, false, false]);
        let without = steps(&[Undoable, Undoable]);
        assert_eq!([0, 1, 2].map(|cursor| unwindable(&without, cursor)), [true, true, false]);
    }
}
