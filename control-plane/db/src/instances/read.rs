//! Finding instances. Functions that lock say so.

use std::collections::BTreeMap;

use sqlx::{PgConnection, types::Json};
use uuid::Uuid;
use windlass_core::{
    Error,
    id::{InstanceId, OperationId, ProjectId},
    instance::{Health, InstanceSpec, Lifecycle},
};

use super::{InstanceFilter, InstanceRow};
use crate::{Db, error::DbResult as _};

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
