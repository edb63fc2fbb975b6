//! Projects and the counters of what they have reserved.
//!
//! The `used_*` counters are changed only under [`project_lock_tx`]: two creations at once are
//! checked against the quota one after the other.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;
use windlass_core::{Error, id::ProjectId, size::Resources};

use crate::{Db, error::DbResult as _};

/// Instances and their sizes: a quota, or what is used of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// Instances.
    pub instances: u64,
    /// Sum of their sizes.
    pub resources: Resources,
}

/// A project as stored.
#[derive(Debug, Clone)]
pub struct ProjectRow {
    /// Id.
    pub id: ProjectId,
    /// Name, unique.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The most that it may reserve.
    pub quota: Amount,
    /// What it has reserved.
    pub used: Amount,
    /// Grows with each change by a user.
    pub revision: i64,
    /// When it was made.
    pub create_time: Timestamp,
    /// When a user changed it last.
    pub update_time: Timestamp,
}

/// Which projects to list.
#[derive(Debug, Clone, Default)]
pub struct ProjectQuery {
    /// Only this one.
    pub only: Option<ProjectId>,
    /// Only those with a greater name.
    pub after: String,
    /// Only those that carry all these labels.
    pub labels: BTreeMap<String, String>,
    /// At most so many.
    pub limit: i64,
}

struct Raw {
    id: ProjectId,
    name: String,
    labels: Json<BTreeMap<String, String>>,
    quota_instances: i64,
    quota_cpu_millis: i64,
    quota_memory: i64,
    quota_disk: i64,
    used_instances: i64,
    used_cpu_millis: i64,
    used_memory: i64,
    used_disk: i64,
    revision: i64,
    create_time: jiff_sqlx::Timestamp,
    update_time: jiff_sqlx::Timestamp,
}

impl From<Raw> for ProjectRow {
    fn from(raw: Raw) -> Self {
        Self {
            id: raw.id,
            name: raw.name,
            labels: raw.labels.0,
            quota: amount(raw.quota_instances, raw.quota_cpu_millis, raw.quota_memory, raw.quota_disk),
            used: amount(raw.used_instances, raw.used_cpu_millis, raw.used_memory, raw.used_disk),
            revision: raw.revision,
            create_time: raw.create_time.to_jiff(),
            update_time: raw.update_time.to_jiff(),
        }
    }
}

fn amount(instances: i64, cpu: i64, memory: i64, disk: i64) -> Amount {
    Amount {
        instances: instances.unsigned_abs(),
        resources: Resources {
            cpu_millis: cpu.unsigned_abs(),
            memory_bytes: memory.unsigned_abs(),
            disk_bytes: disk.unsigned_abs(),
        },
    }
}

/// Columns are signed; what does not fit is clamped to the largest.
fn column(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Adds a project.
///
/// # Errors
/// `NAME_IN_USE`.
pub async fn project_insert_tx(
    tx: &mut PgConnection,
    id: ProjectId,
    name: &str,
    labels: &BTreeMap<String, String>,
    quota: &Amount,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into project (id, name, labels, quota_instances, quota_cpu_millis, quota_memory, quota_disk)
         values ($1, $2, $3, $4, $5, $6, $7)",
        id.0,
        name,
        Json(labels) as _,
        column(quota.instances),
        column(quota.resources.cpu_millis),
        column(quota.resources.memory_bytes),
        column(quota.resources.disk_bytes)
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// The project of this name or, if it reads as one, of this id.
///
/// # Errors
/// Those of the database.
pub async fn project_by_name_tx(tx: &mut PgConnection, name_or_id: &str) -> Result<Option<ProjectRow>, Error> {
    let id = Uuid::parse_str(name_or_id).ok();
    let row = sqlx::query_as!(
        Raw,
        r#"select id as "id: ProjectId", name, labels as "labels: Json<BTreeMap<String, String>>",
                  quota_instances, quota_cpu_millis, quota_memory, quota_disk,
                  used_instances, used_cpu_millis, used_memory, used_disk, revision, create_time, update_time
             from project where name = $1 or id = $2"#,
        name_or_id,
        id
    )
    .fetch_optional(tx)
    .await
    .db()?;
    Ok(row.map(ProjectRow::from))
}

/// The project, its row locked until the transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn project_lock_tx(tx: &mut PgConnection, id: ProjectId) -> Result<Option<ProjectRow>, Error> {
    let row = sqlx::query_as!(
        Raw,
        r#"select id as "id: ProjectId", name, labels as "labels: Json<BTreeMap<String, String>>",
                  quota_instances, quota_cpu_millis, quota_memory, quota_disk,
                  used_instances, used_cpu_millis, used_memory, used_disk, revision, create_time, update_time
             from project where id = $1 for no key update"#,
        id.0
    )
    .fetch_optional(tx)
    .await
    .db()?;
    Ok(row.map(ProjectRow::from))
}

/// Stores labels and quota; the revision grows.
///
/// # Errors
/// Those of the database.
pub async fn project_update_tx(
    tx: &mut PgConnection,
    id: ProjectId,
    labels: &BTreeMap<String, String>,
    quota: &Amount,
) -> Result<(), Error> {
    sqlx::query!(
        "update project
            set labels = $2, quota_instances = $3, quota_cpu_millis = $4, quota_memory = $5, quota_disk = $6,
                revision = revision + 1, update_time = now()
          where id = $1",
        id.0,
        Json(labels) as _,
        column(quota.instances),
        column(quota.resources.cpu_millis),
        column(quota.resources.memory_bytes),
        column(quota.resources.disk_bytes)
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// Sets the counters of what is used, under [`project_lock_tx`].
///
/// # Errors
/// Those of the database.
pub async fn project_set_used_tx(tx: &mut PgConnection, id: ProjectId, used: &Amount) -> Result<(), Error> {
    sqlx::query!(
        "update project set used_instances = $2, used_cpu_millis = $3, used_memory = $4, used_disk = $5 where id = $1",
        id.0,
        column(used.instances),
        column(used.resources.cpu_millis),
        column(used.resources.memory_bytes),
        column(used.resources.disk_bytes)
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// How many instances the project has: first those in service or on their way, then the deleted ones that can still
/// be brought back.
///
/// # Errors
/// Those of the database.
pub async fn project_instances_tx(tx: &mut PgConnection, id: ProjectId) -> Result<(i64, i64), Error> {
    let row = sqlx::query!(
        r#"select count(*) filter (where lifecycle <> 'DELETED') as "live!",
                  count(*) filter (where lifecycle = 'DELETED') as "deleted!"
             from instance where project_id = $1"#,
        id.0
    )
    .fetch_one(tx)
    .await
    .db()?;
    Ok((row.live, row.deleted))
}

/// Removes a project with its keys, events and operations.
///
/// # Errors
/// Those of the database.
pub async fn project_delete_tx(tx: &mut PgConnection, id: ProjectId) -> Result<(), Error> {
    sqlx::query!("delete from project where id = $1", id.0).execute(tx).await.db().map(drop)
}

impl Db {
    /// The projects that match, by name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn project_list(&self, query: &ProjectQuery) -> Result<Vec<ProjectRow>, Error> {
        let rows = sqlx::query_as!(
            Raw,
            r#"select id as "id: ProjectId", name, labels as "labels: Json<BTreeMap<String, String>>",
                      quota_instances, quota_cpu_millis, quota_memory, quota_disk,
                      used_instances, used_cpu_millis, used_memory, used_disk, revision, create_time, update_time
                 from project
                where ($1::uuid is null or id = $1) and name > $2 and labels @> $3
                order by name limit $4"#,
            query.only.map(|id| id.0),
            query.after,
            Json(&query.labels) as _,
            query.limit
        )
        .fetch_all(self.pool())
        .await
        .db()?;
        Ok(rows.into_iter().map(ProjectRow::from).collect())
    }
}
