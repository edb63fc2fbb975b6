//! Instances: what is wanted of each and where it stands.
//!
//! Invariants:
//! 1. A stored lifecycle is changed only by [`instance_advance_tx`], which asks the state machine of core.
//! 2. The generation grows with each change of the spec; the revision (the etag) with each change of anything but
//!    observed facts, so that a health report does not spoil a user's read-modify-write.
//! 3. A name is held by at most one instance that is not DELETED (unique index).

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use serde_json::Value;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;
use windlass_core::{
    Error,
    engine::Engine,
    id::{InstanceId, OperationId, ProjectId},
    instance::{Health, InstanceSpec, Lifecycle, LifecycleEvent},
};

use crate::{Db, error::DbResult as _};

/// An instance as stored.
#[derive(Debug, Clone)]
pub struct InstanceRow {
    /// Id.
    pub id: InstanceId,
    /// Its project.
    pub project_id: ProjectId,
    /// Name of its project.
    pub project_name: String,
    /// Name, unique in the project among those that are not deleted.
    pub name: String,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// What is wanted.
    pub spec: InstanceSpec,
    /// Grows with each change of the spec.
    pub generation: i64,
    /// The generation that every member has reached.
    pub observed_generation: i64,
    /// What the control plane does with it.
    pub lifecycle: Lifecycle,
    /// What the hosts report.
    pub health: Health,
    /// Why the health is not HEALTHY.
    pub health_reasons: Vec<String>,
    /// Parameters whose change waits for a restart.
    pub pending_restart: Vec<String>,
    /// Why the lifecycle is ERROR.
    pub error: Option<Error>,
    /// The scheduler's verdicts at the last placement.
    pub placement: Value,
    /// Which shard of the control plane's work it belongs to.
    pub shard: i16,
    /// Grows with each change; the etag.
    pub revision: i64,
    /// The operation under way, or the last one.
    pub last_operation_id: Option<OperationId>,
    /// When it was asked for.
    pub create_time: Timestamp,
    /// When what is wanted or the lifecycle changed last.
    pub update_time: Timestamp,
    /// When it was deleted.
    pub delete_time: Option<Timestamp>,
    /// When a deleted one's data is removed for good.
    pub purge_time: Option<Timestamp>,
}

impl InstanceRow {
    /// Full name in the API.
    pub fn path(&self) -> String {
        format!("projects/{}/instances/{}", self.project_name, self.name)
    }
}

/// An instance to be stored, as PENDING and of generation 1.
#[derive(Debug)]
pub struct NewInstance<'a> {
    /// Id.
    pub id: InstanceId,
    /// Its project.
    pub project_id: ProjectId,
    /// Name.
    pub name: &'a str,
    /// The user's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// What is wanted.
    pub spec: &'a InstanceSpec,
    /// Which shard of the control plane's work it belongs to.
    pub shard: i16,
}

/// Which instances a list gives.
#[derive(Debug, Clone, Default)]
pub struct InstanceFilter {
    /// Only those of this project.
    pub project: Option<ProjectId>,
    /// Only those that carry all these labels.
    pub labels: BTreeMap<String, String>,
    /// Only those in this state.
    pub lifecycle: Option<Lifecycle>,
    /// Only those of this engine.
    pub engine: Option<Engine>,
    /// Also deleted ones within their undelete window.
    pub show_deleted: bool,
}

/// What was observed of an instance as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceObservation {
    /// Health.
    pub health: Health,
    /// Why it is not HEALTHY.
    pub health_reasons: Vec<String>,
    /// The generation that every member has reached.
    pub observed_generation: i64,
    /// Parameters whose change waits for a restart.
    pub pending_restart: Vec<String>,
}

/// Stores a new instance.
///
/// # Errors
/// `NAME_IN_USE` when the project has an instance of this name.
pub async fn instance_insert_tx(tx: &mut PgConnection, new: &NewInstance<'_>) -> Result<(), Error> {
    sqlx::query!(
        "insert into instance (id, project_id, name, labels, engine, version, spec, lifecycle, shard)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        new.id.0,
        new.project_id.0,
        new.name,
        Json(new.labels) as _,
        new.spec.engine.as_str(),
        new.spec.version,
        Json(new.spec) as _,
        Lifecycle::Pending.as_str(),
        new.shard
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// The instances of these ids, by id. Missing ones are left out.
///
/// # Errors
/// Those of the database.
pub async fn instances_by_ids_tx(tx: &mut PgConnection, ids: &[InstanceId]) -> Result<Vec<InstanceRow>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"select i.id as "id: InstanceId", i.project_id as "project_id: ProjectId", p.name as project_name, i.name,
                  i.labels as "labels: Json<BTreeMap<String, String>>", i.spec as "spec: Json<InstanceSpec>",
                  i.generation, i.observed_generation, i.lifecycle as "lifecycle: Lifecycle",
                  i.health as "health: Health", i.health_reasons as "health_reasons: Json<Vec<String>>",
                  i.pending_restart as "pending_restart: Json<Vec<String>>", i.error as "error: Json<Error>",
                  i.placement, i.shard, i.revision, i.last_operation_id as "last_operation_id: OperationId",
                  i.create_time, i.update_time, i.delete_time, i.purge_time
             from instance i join project p on p.id = i.project_id
            where i.id = any($1)
            order by i.id"#,
        &ids
    )
    .fetch_all(tx)
    .await
    .db()?;
    Ok(rows
        .into_iter()
        .map(|r| InstanceRow {
            id: r.id,
            project_id: r.project_id,
            project_name: r.project_name,
            name: r.name,
            labels: r.labels.0,
            spec: r.spec.0,
            generation: r.generation,
            observed_generation: r.observed_generation,
            lifecycle: r.lifecycle,
            health: r.health,
            health_reasons: r.health_reasons.0,
            pending_restart: r.pending_restart.0,
            error: r.error.map(|e| e.0),
            placement: r.placement,
            shard: r.shard,
            revision: r.revision,
            last_operation_id: r.last_operation_id,
            create_time: r.create_time.to_jiff(),
            update_time: r.update_time.to_jiff(),
            delete_time: r.delete_time.map(|t| t.to_jiff()),
            purge_time: r.purge_time.map(|t| t.to_jiff()),
        })
        .collect())
}

/// The instance of this id.
///
/// # Errors
/// Those of the database.
pub async fn instance_by_id_tx(tx: &mut PgConnection, id: InstanceId) -> Result<Option<InstanceRow>, Error> {
    Ok(instances_by_ids_tx(tx, &[id]).await?.pop())
}

/// The instance of this id, locked against other changes until the transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn instance_lock_tx(tx: &mut PgConnection, id: InstanceId) -> Result<Option<InstanceRow>, Error> {
    sqlx::query_scalar!("select id from instance where id = $1 for no key update", id.0)
        .fetch_optional(&mut *tx)
        .await
        .db()?;
    instance_by_id_tx(tx, id).await
}

/// Id of the instance that holds this name.
///
/// # Errors
/// Those of the database.
pub async fn instance_named_tx(
    tx: &mut PgConnection,
    project: ProjectId,
    name: &str,
) -> Result<Option<InstanceId>, Error> {
    sqlx::query_scalar!(
        r#"select id as "id: InstanceId" from instance
            where project_id = $1 and name = $2 and lifecycle <> 'DELETED'"#,
        project.0,
        name
    )
    .fetch_optional(tx)
    .await
    .db()
}

/// Id of the latest deleted instance that had this name.
///
/// # Errors
/// Those of the database.
pub async fn instance_last_deleted_tx(
    tx: &mut PgConnection,
    project: ProjectId,
    name: &str,
) -> Result<Option<InstanceId>, Error> {
    sqlx::query_scalar!(
        r#"select id as "id: InstanceId" from instance
            where project_id = $1 and name = $2 and lifecycle = 'DELETED'
            order by delete_time desc limit 1"#,
        project.0,
        name
    )
    .fetch_optional(tx)
    .await
    .db()
}

/// A page of instances by id, after the given one.
///
/// # Errors
/// Those of the database.
pub async fn instances_list_tx(
    tx: &mut PgConnection,
    filter: &InstanceFilter,
    after: Option<InstanceId>,
    limit: i64,
) -> Result<Vec<InstanceRow>, Error> {
    let ids = sqlx::query_scalar!(
        r#"select id as "id: InstanceId" from instance
            where ($1::uuid is null or project_id = $1)
              and ($2::uuid is null or id > $2)
              and labels @> $3
              and ($4::text is null or lifecycle = $4)
              and ($5::text is null or engine = $5)
              and ($6 or lifecycle <> 'DELETED')
            order by id limit $7"#,
        filter.project.map(|id| id.0),
        after.map(|id| id.0),
        Json(&filter.labels) as _,
        filter.lifecycle.map(|l| l.as_str()),
        filter.engine.map(|e| e.as_str()),
        filter.show_deleted,
        limit
    )
    .fetch_all(&mut *tx)
    .await
    .db()?;
    instances_by_ids_tx(tx, &ids).await
}

/// Moves the instance along its state machine. `error` is kept as the reason of an ERROR state; any other state
/// clears the stored one.
///
/// # Errors
/// `STATE_FORBIDS` when the event is not legal in the stored state, `NAME_IN_USE` when leaving DELETED finds the name
/// taken, `NOT_FOUND` when the row is gone.
pub async fn instance_advance_tx(
    tx: &mut PgConnection,
    id: InstanceId,
    event: LifecycleEvent,
    error: Option<&Error>,
) -> Result<Lifecycle, Error> {
    let current = sqlx::query_scalar!(
        r#"select lifecycle as "lifecycle: Lifecycle" from instance where id = $1 for no key update"#,
        id.0
    )
    .fetch_optional(&mut *tx)
    .await
    .db()?
    .ok_or_else(|| Error::not_found("instance", id))?;
    let next = current.next(event)?;
    let error = error.filter(|_| next == Lifecycle::Error);
    sqlx::query!(
        "update instance set lifecycle = $2, error = $3, revision = revision + 1, update_time = now() where id = $1",
        id.0,
        next.as_str(),
        error.map(Json) as _
    )
    .execute(tx)
    .await
    .db()?;
    Ok(next)
}

/// Stores a new spec and gives the new generation.
///
/// # Errors
/// `NOT_FOUND` when the row is gone.
pub async fn instance_set_spec_tx(tx: &mut PgConnection, id: InstanceId, spec: &InstanceSpec) -> Result<i64, Error> {
    sqlx::query_scalar!(
        "update instance
            set spec = $2, version = $3, generation = generation + 1, revision = revision + 1, update_time = now()
          where id = $1
         returning generation",
        id.0,
        Json(spec) as _,
        spec.version
    )
    .fetch_optional(tx)
    .await
    .db()?
    .ok_or_else(|| Error::not_found("instance", id))
}

/// Stores new labels.
///
/// # Errors
/// Those of the database.
pub async fn instance_set_labels_tx(
    tx: &mut PgConnection,
    id: InstanceId,
    labels: &BTreeMap<String, String>,
) -> Result<(), Error> {
    sqlx::query!(
        "update instance set labels = $2, revision = revision + 1, update_time = now() where id = $1",
        id.0,
        Json(labels) as _
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// Notes what the scheduler said.
///
/// # Errors
/// Those of the database.
pub async fn instance_set_placement_tx(tx: &mut PgConnection, id: InstanceId, verdicts: &Value) -> Result<(), Error> {
    sqlx::query!("update instance set placement = $2, revision = revision + 1 where id = $1", id.0, verdicts)
        .execute(tx)
        .await
        .db()
        .map(drop)
}

/// Notes the operation that works on the instance.
///
/// # Errors
/// Those of the database.
pub async fn instance_set_operation_tx(
    tx: &mut PgConnection,
    id: InstanceId,
    operation: OperationId,
) -> Result<(), Error> {
    sqlx::query!("update instance set last_operation_id = $2, revision = revision + 1 where id = $1", id.0, operation.0)
        .execute(tx)
        .await
        .db()
        .map(drop)
}

/// Sets or clears the times of a deletion.
///
/// # Errors
/// Those of the database.
pub async fn instance_set_deletion_tx(
    tx: &mut PgConnection,
    id: InstanceId,
    deleted: Option<Timestamp>,
    purge: Option<Timestamp>,
) -> Result<(), Error> {
    sqlx::query!(
        "update instance set delete_time = $2, purge_time = $3, revision = revision + 1, update_time = now()
          where id = $1",
        id.0,
        deleted.map(|t| t.to_sqlx()) as _,
        purge.map(|t| t.to_sqlx()) as _
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// Stores what was observed, if it differs. True when it did.
///
/// # Errors
/// Those of the database.
pub async fn instance_observed_tx(
    tx: &mut PgConnection,
    id: InstanceId,
    seen: &InstanceObservation,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        "update instance
            set health = $2, health_reasons = $3, observed_generation = $4, pending_restart = $5
          where id = $1
            and (health, health_reasons, observed_generation, pending_restart) is distinct from ($2, $3, $4, $5)",
        id.0,
        seen.health.as_str(),
        Json(&seen.health_reasons) as _,
        seen.observed_generation,
        Json(&seen.pending_restart) as _
    )
    .execute(tx)
    .await
    .db()?;
    Ok(done.rows_affected() > 0)
}

/// Deletes the row with its objects. Its members must have been deleted with [`crate::reservations::member_delete_tx`],
/// which gives back what they reserve.
///
/// # Errors
/// Those of the database.
pub async fn instance_delete_tx(tx: &mut PgConnection, id: InstanceId) -> Result<(), Error> {
    sqlx::query!("delete from instance where id = $1", id.0).execute(tx).await.db().map(drop)
}

impl Db {
    /// Deleted instances whose undelete window is over and on which nothing works, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn instances_to_purge(&self, limit: i64) -> Result<Vec<InstanceId>, Error> {
        sqlx::query_scalar!(
            r#"select id as "id: InstanceId" from instance i
                where purge_time <= now() and lifecycle = 'DELETED'
                  and not exists (select from operation o where o.instance_id = i.id
                                     and o.state not in ('SUCCEEDED', 'FAILED', 'CANCELLED'))
                order by purge_time limit $1"#,
            limit
        )
        .fetch_all(self.pool())
        .await
        .db()
    }
}
