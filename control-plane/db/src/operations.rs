//! Operations: what users see of a long-running change. Their progress is written by the saga that carries them out.
//!
//! Invariants: at most one unfinished operation works on an instance (`operation_busy`); `revision` rises with every
//! visible change, so that a waiter can ask for "later than what I saw"; a terminal state is never left.

use jiff::{SignedDuration, Timestamp};
use sqlx::{PgConnection, PgExecutor, types::Json};
use uuid::Uuid;
use windlass_core::{
    Error, Reason,
    id::{InstanceId, OperationId, ProjectId},
    operation::{OperationState, StepState},
};

use crate::{Db, error::DbResult as _};

/// An operation to begin.
#[derive(Debug, Clone)]
pub struct NewOperation {
    /// Its id; the saga carries the same.
    pub id: OperationId,
    /// The project that sees it; None for the fleet's own.
    pub project: Option<ProjectId>,
    /// The instance it works on, exclusively.
    pub instance: Option<InstanceId>,
    /// Word of `OperationKind`.
    pub kind: String,
    /// Full name of the resource it works on.
    pub target: String,
    /// Uid of the API key that asked, or `system`.
    pub actor: String,
}

/// An operation as stored.
#[derive(Debug, Clone)]
pub struct OperationRow {
    /// Its id.
    pub id: OperationId,
    /// The project that sees it.
    pub project: Option<ProjectId>,
    /// The instance it works on.
    pub instance: Option<InstanceId>,
    /// Word of `OperationKind`, or one of a newer version of this program.
    pub kind: String,
    /// Full name of the resource it works on.
    pub target: String,
    /// Where it stands.
    pub state: OperationState,
    /// Why it fails or failed.
    pub error: Option<Error>,
    /// Who asked.
    pub actor: String,
    /// Rises with each change.
    pub revision: i64,
    /// When it was accepted.
    pub create_time: Timestamp,
    /// When it ended.
    pub end_time: Option<Timestamp>,
    /// Version of the saga that carries it out.
    pub saga_version: i32,
    /// The step the saga stands at; see `sagas`.
    pub saga_cursor: i32,
}

/// A step as stored; steps that have not begun have no row.
#[derive(Debug, Clone)]
pub struct StepRow {
    /// The operation.
    pub operation: OperationId,
    /// Place in the saga, from 0.
    pub index: i32,
    /// Stable name.
    pub name: String,
    /// For people.
    pub title: String,
    /// Where it stands.
    pub state: StepState,
    /// Failures so far.
    pub attempt: i32,
    /// What came of it, or what it waits for.
    pub detail: String,
    /// When it began.
    pub start_time: Timestamp,
    /// When it ended.
    pub end_time: Option<Timestamp>,
}

/// Which operations to list.
#[derive(Debug, Clone, Default)]
pub struct OperationQuery {
    /// Only those of this project.
    pub project: Option<ProjectId>,
    /// Only those on this resource.
    pub target: Option<String>,
    /// Whether finished ones are listed too.
    pub which: OperationScope,
    /// Only those older than this one (ids are ordered by time).
    pub before: Option<OperationId>,
    /// At most so many.
    pub limit: i64,
}

/// Which operations count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OperationScope {
    /// All.
    #[default]
    All,
    /// Only those that have not ended.
    Active,
}

struct Raw {
    id: Uuid,
    project_id: Option<Uuid>,
    instance_id: Option<Uuid>,
    kind: String,
    target: String,
    state: OperationState,
    error: Option<Json<Error>>,
    actor: String,
    revision: i64,
    create_time: jiff_sqlx::Timestamp,
    end_time: Option<jiff_sqlx::Timestamp>,
    version: i32,
    cursor: i32,
}

impl From<Raw> for OperationRow {
    fn from(raw: Raw) -> Self {
        Self {
            id: OperationId(raw.id),
            project: raw.project_id.map(ProjectId),
            instance: raw.instance_id.map(InstanceId),
            kind: raw.kind,
            target: raw.target,
            state: raw.state,
            error: raw.error.map(|error| error.0),
            actor: raw.actor,
            revision: raw.revision,
            create_time: raw.create_time.to_jiff(),
            end_time: raw.end_time.map(jiff_sqlx::Timestamp::to_jiff),
            saga_version: raw.version,
            saga_cursor: raw.cursor,
        }
    }
}

/// Adds an operation.
///
/// # Errors
/// `INSTANCE_BUSY` with metadata `operation` when another one works on the instance.
pub async fn operation_add_tx(tx: &mut PgConnection, operation: &NewOperation) -> Result<(), Error> {
    let done = sqlx::query!(
        "insert into operation (id, project_id, instance_id, kind, target, state, actor)
         values ($1, $2, $3, $4, $5, 'PENDING', $6)
         on conflict (instance_id) where instance_id is not null and state not in ('SUCCEEDED', 'FAILED', 'CANCELLED')
         do nothing",
        operation.id.0,
        operation.project.map(|id| id.0),
        operation.instance.map(|id| id.0),
        operation.kind,
        operation.target,
        operation.actor
    )
    .execute(&mut *tx)
    .await
    .db()?;
    if done.rows_affected() == 1 {
        return Ok(());
    }
    let busy = sqlx::query!(
        "select id, kind from operation
          where instance_id = $1 and state not in ('SUCCEEDED', 'FAILED', 'CANCELLED')",
        operation.instance.map(|id| id.0)
    )
    .fetch_optional(tx)
    .await
    .db()?;
    let error =
        |what: String| Error::precondition(Reason::InstanceBusy, what).with_metadata("target", &operation.target);
    Err(match busy {
        Some(busy) => error(format!(
            "{} is busy with {} (operation {}); wait for it to end or cancel it",
            operation.target, busy.kind, busy.id
        ))
        .with_metadata("operation", busy.id),
        None => error(format!("{} was busy a moment ago; try again", operation.target)),
    })
}

/// Moves an operation and raises its revision; a terminal state sets the end time. `error` None keeps the old one.
///
/// # Errors
/// Those of the database.
pub async fn operation_move_tx(
    tx: &mut PgConnection,
    id: OperationId,
    state: OperationState,
    error: Option<&Error>,
) -> Result<(), Error> {
    sqlx::query!(
        "update operation
            set state = $2, error = coalesce($3, error), revision = revision + 1,
                end_time = case when $4 then now() end
          where id = $1 and end_time is null",
        id.0,
        state.as_str(),
        error.map(Json) as _,
        state.done()
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// The operation, also if this transaction made it.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn operation_by_id_tx(tx: &mut PgConnection, id: OperationId) -> Result<OperationRow, Error> {
    find(tx, id).await
}

async fn find(executor: impl PgExecutor<'_>, id: OperationId) -> Result<OperationRow, Error> {
    let row = sqlx::query_as!(
        Raw,
        r#"select o.id, o.project_id, o.instance_id, o.kind, o.target, o.state as "state: OperationState",
                  o.error as "error: Json<Error>", o.actor, o.revision, o.create_time, o.end_time,
                  s.version, s.cursor
             from operation o join saga s on s.id = o.id
            where o.id = $1"#,
        id.0
    )
    .fetch_optional(executor)
    .await
    .db()?;
    row.map(OperationRow::from).ok_or_else(|| Error::not_found("operation", id))
}

impl Db {
    /// The operation.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn operation_by_id(&self, id: OperationId) -> Result<OperationRow, Error> {
        find(self.pool(), id).await
    }

    /// Operations that match, newest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn operation_list(&self, query: &OperationQuery) -> Result<Vec<OperationRow>, Error> {
        let rows = sqlx::query_as!(
            Raw,
            r#"select o.id, o.project_id, o.instance_id, o.kind, o.target, o.state as "state: OperationState",
                      o.error as "error: Json<Error>", o.actor, o.revision, o.create_time, o.end_time,
                      s.version, s.cursor
                 from operation o join saga s on s.id = o.id
                where ($1::uuid is null or o.project_id = $1)
                  and ($2::text is null or o.target = $2)
                  and (not $3 or o.end_time is null)
                  and ($4::uuid is null or o.id < $4)
                order by o.id desc limit $5"#,
            query.project.map(|id| id.0),
            query.target,
            query.which == OperationScope::Active,
            query.before.map(|id| id.0),
            query.limit
        )
        .fetch_all(self.pool())
        .await
        .db()?;
        Ok(rows.into_iter().map(OperationRow::from).collect())
    }

    /// Forgets operations that ended longer than `age` ago, with their sagas and steps; at most `limit` at a time. Gives
    /// how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn operation_expire(&self, age: SignedDuration, limit: i64) -> Result<u64, Error> {
        let done = sqlx::query!(
            "delete from operation where id in
                (select id from operation where end_time < now() - make_interval(secs => $1) order by id limit $2)",
            age.as_secs_f64(),
            limit
        )
        .execute(self.pool())
        .await
        .db()?;
        Ok(done.rows_affected())
    }

    /// The steps begun so far of these operations, in order.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn operation_steps(&self, ids: &[OperationId]) -> Result<Vec<StepRow>, Error> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let rows = sqlx::query!(
            r#"select saga_id, index, name, title, state as "state: StepState", attempt, detail, start_time, end_time
                 from saga_step where saga_id = any($1) order by saga_id, index"#,
            &ids
        )
        .fetch_all(self.pool())
        .await
        .db()?;
        Ok(rows
            .into_iter()
            .map(|row| StepRow {
                operation: OperationId(row.saga_id),
                index: row.index,
                name: row.name,
                title: row.title,
                state: row.state,
                attempt: row.attempt,
                detail: row.detail,
                start_time: row.start_time.to_jiff(),
                end_time: row.end_time.map(jiff_sqlx::Timestamp::to_jiff),
            })
            .collect())
    }
}
