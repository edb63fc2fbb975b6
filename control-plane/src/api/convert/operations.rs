//! Operations.

use windlass_core::{
    Error,
    id::OperationId,
    name::split_path,
    operation::{OperationState, StepState},
};
use windlass_db::operations::StepRow;
use windlass_proto::api::v1::{
    self as pb,
    operation::{State, Step, step},
};

use super::{common::failure, time};
use crate::{app::operations::OperationView, sagas::StepInfo};

/// An operation for the wire.
pub(in crate::api) fn operation(view: OperationView) -> pb::Operation {
    let OperationView { row, steps, plan, cancellable } = view;
    pb::Operation {
        name: full(row.id),
        uid: row.id.to_string(),
        kind: row.kind,
        target: row.target,
        state: state(row.state).into(),
        done: row.state.done(),
        steps: all_steps(&plan, steps),
        error: row.error.as_ref().map(failure),
        cancellable,
        create_time: Some(time(row.create_time)),
        end_time: row.end_time.map(time),
        revision: row.revision.unsigned_abs(),
        actor: row.actor,
    }
}

/// Full name of an operation.
pub(in crate::api) fn full(id: OperationId) -> String {
    format!("operations/{id}")
}

/// The id in an operation's name.
///
/// # Errors
/// `INVALID_FIELD`.
pub(in crate::api) fn id(name: &str) -> Result<OperationId, Error> {
    let [id] = split_path("name", name, ["operations"])?;
    id.parse().map_err(|error: Error| Error::invalid("name", error.message))
}

/// The plan with what has begun of it. A saga that this binary does not know shows what has begun only.
fn all_steps(plan: &[StepInfo], begun: Vec<StepRow>) -> Vec<Step> {
    let seen = begun.len();
    let mut steps: Vec<Step> = begun.into_iter().map(begun_step).collect();
    steps.extend(plan.iter().skip(seen).map(|info| Step {
        name: info.name.to_owned(),
        title: info.title.to_owned(),
        state: step::State::Pending.into(),
        ..Step::default()
    }));
    steps
}

fn begun_step(row: StepRow) -> Step {
    Step {
        name: row.name,
        title: row.title,
        state: step_state(row.state).into(),
        attempt: row.attempt.unsigned_abs(),
        detail: row.detail,
        start_time: Some(time(row.start_time)),
        end_time: row.end_time.map(time),
    }
}

fn state(state: OperationState) -> State {
    match state {
        OperationState::Pending => State::Pending,
        OperationState::Running => State::Running,
        OperationState::Unwinding => State::Unwinding,
        OperationState::Stuck => State::Stuck,
        OperationState::Succeeded => State::Succeeded,
        OperationState::Failed => State::Failed,
        OperationState::Cancelled => State::Cancelled,
    }
}

fn step_state(state: StepState) -> step::State {
    match state {
        StepState::Running => step::State::Running,
        StepState::Waiting => step::State::Waiting,
        StepState::Done => step::State::Done,
        StepState::Failed => step::State::Failed,
        StepState::Undoing => step::State::Undoing,
        StepState::Undone => step::State::Undone,
    }
}
