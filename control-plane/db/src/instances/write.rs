//! Changing instances. The caller holds the instance's lock, or has just stored it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use serde_json::Value;
use sqlx::{PgConnection, types::Json};
use windlass_core::{
    Error,
    id::{InstanceId, OperationId},
    instance::{InstanceSpec, Lifecycle, LifecycleEvent},
};

use super::{InstanceObservation, NewInstance};
use crate::error::DbResult as _;

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
