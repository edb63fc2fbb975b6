//! One transition of one saga: lock it, run what it stands at, store what came of it, commit.
//!
//! A transition that fails leaves nothing; its failure is then stored by a transition of its own. Whatever happens
//! between, the saga is where its row says.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use windlass_core::{
    Error, Reason,
    error::ErrorKind,
    id::OperationId,
    operation::{Direction, OperationState, StepState},
};
use windlass_db::{
    Db, Guard, PgConnection, Tx,
    commands::{commands_cancel_tx, commands_open_tx},
    events::{NewEvent, event_add_tx},
    operations::operation_move_tx,
    sagas::{SagaRow, StepProgress, Wake, saga_lock_tx, saga_save_tx, saga_step_put_tx},
};
use windlass_kit::failpoint::Failpoints;

use super::{
    context::{News, StepContext},
    policy::{Failure, Verdict, decide},
    registry::{AnySaga, Registry, StepInfo, unwindable},
    saga::{Outcome, Progress, StepKind},
    watch::OperationWatch,
};
use crate::{ha::Ha, queue::HostWaker, routes::Routes};

/// How long a saga that this binary does not know is left alone before another look.
const UNKNOWN_PAUSE: SignedDuration = SignedDuration::from_secs(30);

/// What a transition needs.
#[derive(Debug, Clone)]
pub struct Advance {
    /// The metadata.
    pub db: Db,
    /// The sagas that this binary knows.
    pub registry: Arc<Registry>,
    /// Tells the queue of new commands.
    pub hosts: HostWaker,
    /// Tells the driver of replication of changed clusters, and steps of what is heard.
    pub ha: Ha,
    /// Tells waiters of progress.
    pub watch: OperationWatch,
    /// Tells proxies of instances that changed.
    pub routes: Routes,
    /// `saga.step` (a step's run fails), `saga.before_commit`, `saga.after_commit` (the node dies there).
    pub failpoints: Failpoints,
}

/// What to do next with a saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Advance it again at once.
    Again,
    /// Nothing until it is woken: it is parked, has ended, or somebody else has it.
    Parked,
    /// It is due after a while.
    After(SignedDuration),
}

impl From<Wake> for Next {
    fn from(wake: Wake) -> Self {
        match wake {
            Wake::Now => Self::Again,
            Wake::After(delay) => Self::After(delay),
            Wake::OnCommand | Wake::Done => Self::Parked,
        }
    }
}

/// A transition about to be committed.
struct Transition {
    tx: Tx,
    saga: SagaRow,
    wake: Wake,
    state: OperationState,
    error: Option<Error>,
    news: News,
}

impl Advance {
    /// Makes one transition if the saga is due.
    ///
    /// # Errors
    /// `FENCED` when the lease is lost; those of the database. The saga is then where it was, or, if only the answer
    /// of the commit was lost, one transition further.
    pub async fn once(&self, guard: &Guard, id: OperationId) -> Result<Next, Error> {
        let mut tx = self.db.guarded(guard).await?;
        let Some(saga) = saga_lock_tx(&mut tx, id).await? else {
            return Ok(Next::Parked);
        };
        let Some(known) = self.registry.get(&saga.kind, saga.version) else {
            return self.leave_alone(tx, saga, guard).await;
        };
        let steps = known.steps();
        let forward = saga.direction == Direction::Forward;
        if forward && saga.cancel_requested && unwindable(steps, saga.cursor) {
            let error = Error::new(ErrorKind::Cancelled, Reason::OperationCancelled, "cancelled by request");
            return self.turn_back(tx, saga, steps, error, guard).await;
        }
        let (cursor, attempt, direction) = (saga.cursor, saga.attempt, saga.direction);
        let outcome = match usize::try_from(cursor).ok().filter(|index| *index < steps.len()) {
            Some(index) => self.step(tx, saga, known, index, guard).await,
            None => self.end(tx, saga, known, guard).await,
        };
        match outcome {
            Err(error) if error.reason == Reason::Fenced => Err(error),
            Err(error) => {
                let mut tx = self.db.guarded(guard).await?;
                match saga_lock_tx(&mut tx, id).await? {
                    // The failure is of the place where it still stands: not of a commit whose answer was lost.
                    Some(saga) if (saga.cursor, saga.attempt, saga.direction) == (cursor, attempt, direction) => {
                        self.failed(tx, saga, steps, error, guard).await
                    }
                    Some(_) | None => Ok(Next::Again),
                }
            }
            Ok(transition) => self.commit(transition, guard).await,
        }
    }

    async fn step(
        &self,
        tx: Tx,
        mut saga: SagaRow,
        known: &dyn AnySaga,
        index: usize,
        guard: &Guard,
    ) -> Result<Transition, Error> {
        let mut ctx = StepContext::new(tx, guard, &saga, Timestamp::now(), self.ha.clone());
        let wake = match self.run_step(&mut ctx, &mut saga, known, index).await {
            Ok(wake) => wake,
            Err(error) => {
                ctx.abandon().await;
                return Err(error);
            }
        };
        let (tx, news) = ctx.into_parts();
        let state = under_way(saga.direction);
        Ok(Transition { tx, saga, wake, state, error: None, news })
    }

    /// Runs the step and notes its progress; moves the saga on if it is done.
    async fn run_step(
        &self,
        ctx: &mut StepContext,
        saga: &mut SagaRow,
        known: &dyn AnySaga,
        index: usize,
    ) -> Result<Wake, Error> {
        let mut data = saga.data.clone();
        let run = AssertUnwindSafe(known.run(ctx, index, saga.direction, &mut data)).catch_unwind().await;
        let progress = run.unwrap_or_else(|_| Err(Error::internal("the step panicked; the log has the details")))?;
        self.failpoints.hit("saga.step").await?;
        saga.data = data;
        let step = known.steps()[index];
        let (wake, detail) = match progress {
            Progress::Done(detail) => (Wake::Now, detail),
            Progress::Later(delay, detail) => (Wake::After(delay), detail),
            Progress::Wait(detail) => {
                if commands_open_tx(ctx.tx(), saga.id).await? == 0 {
                    return Err(Error::internal(format!("step {} waits although no command is open", step.name)));
                }
                (Wake::OnCommand, detail)
            }
        };
        let done = wake == Wake::Now;
        let state = match (saga.direction, done) {
            (Direction::Forward, true) => StepState::Done,
            (Direction::Forward, false) => StepState::Waiting,
            (Direction::Unwind, true) => StepState::Undone,
            (Direction::Unwind, false) => StepState::Undoing,
        };
        put_step(ctx.tx(), saga, step, state, &detail).await?;
        if done {
            saga.attempt = 0;
            saga.cursor = match saga.direction {
                Direction::Forward => saga.cursor + 1,
                Direction::Unwind => undoable_before(known.steps(), saga.cursor),
            };
            if let (Direction::Forward, Some(next)) = (saga.direction, known.steps().get(index + 1)) {
                put_step(ctx.tx(), saga, *next, StepState::Running, "").await?;
            }
        }
        Ok(wake)
    }

    async fn end(&self, tx: Tx, saga: SagaRow, known: &dyn AnySaga, guard: &Guard) -> Result<Transition, Error> {
        let outcome = match (saga.direction, &saga.error) {
            (Direction::Forward, _) => Outcome::Succeeded,
            (Direction::Unwind, Some(error)) if saga.cancel_requested && cancelled(error) => Outcome::Cancelled,
            (Direction::Unwind, Some(error)) => Outcome::Failed(error.clone()),
            (Direction::Unwind, None) => Outcome::Failed(Error::internal("the reason of the failure is not known")),
        };
        let mut ctx = StepContext::new(tx, guard, &saga, Timestamp::now(), self.ha.clone());
        let run = AssertUnwindSafe(known.finish(&mut ctx, &saga.data, &outcome)).catch_unwind().await;
        if let Err(error) = run.unwrap_or_else(|_| Err(Error::internal("the ending panicked; the log has the details")))
        {
            ctx.abandon().await;
            return Err(error);
        }
        let (tx, news) = ctx.into_parts();
        let state = match outcome {
            Outcome::Succeeded => OperationState::Succeeded,
            Outcome::Failed(_) => OperationState::Failed,
            Outcome::Cancelled => OperationState::Cancelled,
        };
        Ok(Transition { tx, saga, wake: Wake::Done, state, error: None, news })
    }

    /// Stores that the step failed and what follows.
    async fn failed(
        &self,
        mut tx: Tx,
        mut saga: SagaRow,
        steps: &[StepInfo],
        error: Error,
        guard: &Guard,
    ) -> Result<Next, Error> {
        let step = usize::try_from(saga.cursor).ok().and_then(|index| steps.get(index)).copied();
        let name = step.map_or("finish", |step| step.name);
        tracing::info!(saga = %saga.id, kind = saga.kind, step = name, error = error.chain(), "a step failed");
        saga.attempt += 1;
        let verdict = decide(Failure {
            direction: saga.direction,
            unwindable: unwindable(steps, saga.cursor),
            failures: saga.attempt,
            retryable: error.retryable(),
        });
        let delay = match verdict {
            Verdict::Unwind => {
                let error = error.with_metadata("step", name);
                return self.turn_back(tx, saga, steps, error, guard).await;
            }
            Verdict::Retry(delay) => delay,
            Verdict::RetryAndTell(delay) => {
                let message =
                    format!("{} has failed {} times at {name} and is tried again: {error}", saga.kind, saga.attempt);
                tell(&mut tx, &saga, "operation.stalled", message).await?;
                delay
            }
        };
        let state = under_way(saga.direction);
        if let Some(step) = step {
            let shown = if saga.direction == Direction::Forward { StepState::Running } else { StepState::Undoing };
            put_step(&mut tx, &saga, step, shown, &format!("failed, trying again: {error}")).await?;
        }
        self.commit(Transition { tx, saga, wake: Wake::After(delay), state, error: None, news: News::default() }, guard)
            .await
    }

    /// Begins the way back: cancels what is under way, keeps why, and stands at the last step to undo.
    async fn turn_back(
        &self,
        mut tx: Tx,
        mut saga: SagaRow,
        steps: &[StepInfo],
        error: Error,
        guard: &Guard,
    ) -> Result<Next, Error> {
        let news = News { hosts: commands_cancel_tx(&mut tx, saga.id).await?, clusters: Vec::new() };
        if let Some(step) = usize::try_from(saga.cursor).ok().and_then(|index| steps.get(index)) {
            put_step(&mut tx, &saga, *step, StepState::Failed, &error.message).await?;
        }
        saga.direction = Direction::Unwind;
        saga.attempt = 0;
        saga.cursor = undoable_before(steps, saga.cursor + 1);
        saga.error = Some(error.clone());
        let state = OperationState::Unwinding;
        self.commit(Transition { tx, saga, wake: Wake::Now, state, error: Some(error), news }, guard).await
    }

    /// This binary does not know the saga: say so once and leave it to one that does.
    async fn leave_alone(&self, mut tx: Tx, saga: SagaRow, guard: &Guard) -> Result<Next, Error> {
        if saga.state == OperationState::Stuck {
            saga_save_tx(&mut tx, &saga, Wake::After(UNKNOWN_PAUSE), guard.epoch).await?;
            tx.commit().await?;
            return Ok(Next::Parked);
        }
        let message = format!(
            "this control plane does not know {} version {}; a node that does will go on with it",
            saga.kind, saga.version
        );
        tell(&mut tx, &saga, "operation.stuck", message).await?;
        let wake = Wake::After(UNKNOWN_PAUSE);
        let state = OperationState::Stuck;
        self.commit(Transition { tx, saga, wake, state, error: None, news: News::default() }, guard).await
    }

    async fn commit(&self, transition: Transition, guard: &Guard) -> Result<Next, Error> {
        let Transition { mut tx, saga, wake, state, error, news } = transition;
        saga_save_tx(&mut tx, &saga, wake, guard.epoch).await?;
        operation_move_tx(&mut tx, saga.id, state, error.as_ref()).await?;
        if let Err(error) = self.failpoints.hit("saga.before_commit").await {
            tx.rollback().await?;
            return Err(error);
        }
        tx.commit().await?;
        self.failpoints.hit("saga.after_commit").await?;
        self.hosts.wake(&news.hosts);
        for instance in news.clusters {
            self.ha.changed(instance);
        }
        self.watch.changed(saga.id);
        if let Some(instance) = saga.instance {
            self.routes.changed(instance);
        }
        Ok(wake.into())
    }
}

fn under_way(direction: Direction) -> OperationState {
    match direction {
        Direction::Forward => OperationState::Running,
        Direction::Unwind => OperationState::Unwinding,
    }
}

fn cancelled(error: &Error) -> bool {
    error.reason == Reason::OperationCancelled
}

/// The last step before `cursor` that has something to undo; -1 when there is none.
fn undoable_before(steps: &[StepInfo], cursor: i32) -> i32 {
    let before = usize::try_from(cursor).unwrap_or(0).min(steps.len());
    let found = steps[..before].iter().rposition(|step| step.kind == StepKind::Undoable);
    found.and_then(|index| i32::try_from(index).ok()).unwrap_or(-1)
}

/// Stores a step's progress. The step that failed stays FAILED while it is undone, so that people see where it was.
async fn put_step(
    tx: &mut PgConnection,
    saga: &SagaRow,
    step: StepInfo,
    state: StepState,
    detail: &str,
) -> Result<(), Error> {
    let failed_here =
        saga.error.as_ref().and_then(|error| error.metadata.get("step")).is_some_and(|name| name == step.name);
    if saga.direction == Direction::Unwind && failed_here {
        return Ok(());
    }
    let (index, attempt) = (saga.cursor, saga.attempt);
    let progress = StepProgress { index, name: step.name, title: step.title, state, attempt, detail };
    saga_step_put_tx(tx, saga.id, &progress).await
}

async fn tell(tx: &mut Tx, saga: &SagaRow, kind: &str, message: String) -> Result<(), Error> {
    let event = NewEvent {
        project: saga.project,
        instance: saga.instance,
        operation: Some(saga.id),
        ..NewEvent::error(kind, saga.target.clone(), message)
    };
    event_add_tx(tx, event).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_stops_only_at_what_can_be_undone() {
        let step = |kind| StepInfo { name: "s", title: "S", kind };
        let steps = [step(StepKind::Undoable), step(StepKind::Harmless("reads")), step(StepKind::Undoable)];
        assert_eq!([3, 2, 1, 0, -1].map(|cursor| undoable_before(&steps, cursor)), [2, 0, 0, -1, -1]);
    }
}
