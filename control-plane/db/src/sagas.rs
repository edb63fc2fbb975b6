//! Sagas: how an operation is carried out. One row holds where it stands; the executor alone moves it.
//!
//! Invariants: the row is locked while a step runs, so no two executors work on one saga; whoever changes a command
//! of a saga locks the saga's row first, so that the two never deadlock; `wake_at` null means parked until a command
//! of the saga ends, and every end of a command sets it.

use jiff::SignedDuration;
use serde_json::Value;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;
use windlass_core::{
    Error,
    id::{InstanceId, OperationId, ProjectId},
    operation::{Direction, OperationState, StepState},
};

use crate::{Db, error::DbResult as _};

/// A saga to begin, beside its operation.
#[derive(Debug, Clone)]
pub struct NewSaga {
    /// The operation's id.
    pub id: OperationId,
    /// Word of `OperationKind`.
    pub kind: String,
    /// Version of the list of steps.
    pub version: i32,
    /// See [`crate::shard`].
    pub shard: i16,
    /// The saga's typed state.
    pub data: Value,
}

/// A saga and what its operation says, locked.
#[derive(Debug, Clone)]
pub struct SagaRow {
    /// The operation's id.
    pub id: OperationId,
    /// Word of `OperationKind`, or one of a newer version of this program.
    pub kind: String,
    /// Version of the list of steps.
    pub version: i32,
    /// See [`crate::shard`].
    pub shard: i16,
    /// Which way it goes.
    pub direction: Direction,
    /// The step it stands at; after the last one or before the first (-1) only the ending is left.
    pub cursor: i32,
    /// Failures of the step so far.
    pub attempt: i32,
    /// The typed state.
    pub data: Value,
    /// Whether a user asked for a cancel.
    pub cancel_requested: bool,
    /// The operation's project.
    pub project: Option<ProjectId>,
    /// The operation's instance.
    pub instance: Option<InstanceId>,
    /// The operation's target.
    pub target: String,
    /// The operation's actor.
    pub actor: String,
    /// The operation's state.
    pub state: OperationState,
    /// Why it is being unwound.
    pub error: Option<Error>,
}

/// When the executor shall look at a saga again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// At once.
    Now,
    /// After a while.
    After(SignedDuration),
    /// When a command of the saga ends.
    OnCommand,
    /// Never: it has ended.
    Done,
}

/// A step's progress to store.
#[derive(Debug, Clone)]
pub struct StepProgress<'a> {
    /// Place in the saga, from 0.
    pub index: i32,
    /// Stable name.
    pub name: &'a str,
    /// For people.
    pub title: &'a str,
    /// Where it stands.
    pub state: StepState,
    /// Failures so far.
    pub attempt: i32,
    /// What came of it, or what it waits for.
    pub detail: &'a str,
}

/// Adds a saga, due at once.
///
/// # Errors
/// Those of the database.
pub async fn saga_add_tx(tx: &mut PgConnection, saga: &NewSaga) -> Result<(), Error> {
    sqlx::query!(
        "insert into saga (id, kind, version, shard, data, wake_at) values ($1, $2, $3, $4, $5, now())",
        saga.id.0,
        saga.kind,
        saga.version,
        saga.shard,
        saga.data
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// Locks a due saga and reads it. None when it is not due, has ended, or is being worked on by somebody else.
///
/// # Errors
/// Those of the database.
pub async fn saga_lock_tx(tx: &mut PgConnection, id: OperationId) -> Result<Option<SagaRow>, Error> {
    let row = sqlx::query!(
        r#"select s.id, s.kind, s.version, s.shard, s.direction as "direction: Direction", s.cursor, s.attempt, s.data,
                  s.cancel_requested, o.project_id, o.instance_id, o.target, o.actor,
                  o.state as "state: OperationState", o.error as "error: Json<Error>"
             from saga s join operation o on o.id = s.id
            where s.id = $1 and not s.done and s.wake_at <= clock_timestamp()
              for update of s skip locked"#,
        id.0
    )
    .fetch_optional(tx)
    .await
    .db()?;
    Ok(row.map(|row| SagaRow {
        id,
        kind: row.kind,
        version: row.version,
        shard: row.shard,
        direction: row.direction,
        cursor: row.cursor,
        attempt: row.attempt,
        data: row.data,
        cancel_requested: row.cancel_requested,
        project: row.project_id.map(ProjectId),
        instance: row.instance_id.map(InstanceId),
        target: row.target,
        actor: row.actor,
        state: row.state,
        error: row.error.map(|error| error.0),
    }))
}

/// Stores where a saga stands, under the owner's epoch.
///
/// # Errors
/// Those of the database.
pub async fn saga_save_tx(tx: &mut PgConnection, saga: &SagaRow, wake: Wake, epoch: i64) -> Result<(), Error> {
    let delay = match wake {
        Wake::Now => Some(0.0),
        Wake::After(delay) => Some(delay.as_secs_f64()),
        Wake::OnCommand | Wake::Done => None,
    };
    sqlx::query!(
        "update saga
            set direction = $2, cursor = $3, attempt = $4, data = $5, done = $6, epoch = $7, update_time = now(),
                wake_at = clock_timestamp() + make_interval(secs => $8)
          where id = $1",
        saga.id.0,
        saga.direction.as_str(),
        saga.cursor,
        saga.attempt,
        saga.data,
        wake == Wake::Done,
        epoch,
        delay
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// Stores the progress of a step; the row is made at the first call.
///
/// # Errors
/// Those of the database.
pub async fn saga_step_put_tx(tx: &mut PgConnection, saga: OperationId, step: &StepProgress<'_>) -> Result<(), Error> {
    let ended = match step.state {
        StepState::Done | StepState::Failed | StepState::Undone => true,
        StepState::Running | StepState::Waiting | StepState::Undoing => false,
    };
    sqlx::query!(
        "insert into saga_step (saga_id, index, name, title, state, attempt, detail, end_time)
         values ($1, $2, $3, $4, $5, $6, $7, case when $8 then clock_timestamp() end)
         on conflict (saga_id, index) do update
            set state = excluded.state, attempt = excluded.attempt, detail = excluded.detail,
                end_time = excluded.end_time",
        saga.0,
        step.index,
        step.name,
        step.title,
        step.state.as_str(),
        step.attempt,
        step.detail,
        ended
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// What a cancel needs to know of a saga, locked.
#[derive(Debug, Clone)]
pub struct SagaPosition {
    /// Word of `OperationKind`.
    pub kind: String,
    /// Version of the list of steps.
    pub version: i32,
    /// Which way it goes.
    pub direction: Direction,
    /// The step it stands at.
    pub cursor: i32,
    /// Whether it has ended.
    pub done: bool,
}

/// Locks a saga, waiting for a step that runs, and tells where it stands.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn saga_position_tx(tx: &mut PgConnection, id: OperationId) -> Result<SagaPosition, Error> {
    sqlx::query_as!(
        SagaPosition,
        r#"select kind, version, direction as "direction: Direction", cursor, done
             from saga where id = $1 for update"#,
        id.0
    )
    .fetch_optional(tx)
    .await
    .db()?
    .ok_or_else(|| Error::not_found("operation", id))
}

/// Notes that a user asked for a cancel and makes the saga due.
///
/// # Errors
/// Those of the database.
pub async fn saga_request_cancel_tx(tx: &mut PgConnection, id: OperationId) -> Result<(), Error> {
    sqlx::query!("update saga set cancel_requested = true, wake_at = now() where id = $1 and not done", id.0)
        .execute(tx)
        .await
        .db()
        .map(drop)
}

/// Locks these sagas in the order that everybody keeps.
pub(crate) async fn sagas_lock_tx(tx: &mut PgConnection, ids: &[Uuid]) -> Result<(), Error> {
    sqlx::query!("select id from saga where id = any($1) order by id for update", ids)
        .fetch_all(tx)
        .await
        .db()
        .map(drop)
}

/// Makes these sagas due.
pub(crate) async fn sagas_wake_tx(tx: &mut PgConnection, ids: &[Uuid]) -> Result<(), Error> {
    sqlx::query!("update saga set wake_at = clock_timestamp() where id = any($1) and not done", ids)
        .execute(tx)
        .await
        .db()
        .map(drop)
}

impl Db {
    /// Sagas that are due, the longest waiting first; not those in `except`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sagas_due(&self, except: &[OperationId], limit: i64) -> Result<Vec<OperationId>, Error> {
        let except: Vec<Uuid> = except.iter().map(|id| id.0).collect();
        let ids = sqlx::query_scalar!(
            "select id from saga
              where not done and wake_at <= clock_timestamp() and id <> all($1)
              order by wake_at limit $2",
            &except,
            limit
        )
        .fetch_all(self.pool())
        .await
        .db()?;
        Ok(ids.into_iter().map(OperationId).collect())
    }
}
