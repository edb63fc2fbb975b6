//! Projects: tenants with a quota.

use std::collections::BTreeMap;

use windlass_core::{
    Error, Reason,
    id::ProjectId,
    name::ResourceName,
    role::Permission,
    size::{GIB, Resources},
};
use windlass_db::{
    Tx,
    events::{NewEvent, event_add_tx},
    projects::{
        Amount, ProjectQuery, ProjectRow, project_by_name_tx, project_delete_tx, project_insert_tx,
        project_instances_tx, project_lock_tx, project_update_tx,
    },
};

use super::{Caller, Context, validate};

/// Quota of a project that names none: 20 instances of 40 cores, 80 GiB of memory and 400 GiB of disk together.
pub const DEFAULT_QUOTA: Amount = Amount {
    instances: 20,
    resources: Resources { cpu_millis: 40_000, memory_bytes: 80 * GIB, disk_bytes: 400 * GIB },
};
/// The most that a quota can allow.
pub const LARGEST_QUOTA: Amount = Amount {
    instances: 100_000,
    resources: Resources { cpu_millis: 1 << 40, memory_bytes: 1 << 60, disk_bytes: 1 << 60 },
};

/// What an update sets; None leaves a field.
#[derive(Debug, Clone, Default)]
pub struct ProjectUpdate {
    /// All labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Parts of the quota.
    pub quota: QuotaUpdate,
}

/// Parts of a quota to set.
#[derive(Debug, Clone, Copy, Default)]
pub struct QuotaUpdate {
    /// Instances.
    pub instances: Option<u64>,
    /// Processor.
    pub cpu_millis: Option<u64>,
    /// Memory.
    pub memory_bytes: Option<u64>,
    /// Disk.
    pub disk_bytes: Option<u64>,
}

impl QuotaUpdate {
    fn apply(self, quota: Amount) -> Amount {
        Amount {
            instances: self.instances.unwrap_or(quota.instances),
            resources: Resources {
                cpu_millis: self.cpu_millis.unwrap_or(quota.resources.cpu_millis),
                memory_bytes: self.memory_bytes.unwrap_or(quota.resources.memory_bytes),
                disk_bytes: self.disk_bytes.unwrap_or(quota.resources.disk_bytes),
            },
        }
    }
}

/// Creates a project.
///
/// # Errors
/// `PERMISSION_MISSING`, `INVALID_FIELD`, `NAME_IN_USE`.
pub async fn create(
    tx: &mut Tx,
    caller: &Caller,
    name: &str,
    labels: BTreeMap<String, String>,
    quota: QuotaUpdate,
) -> Result<ProjectRow, Error> {
    caller.check(Permission::FleetAdmin, None)?;
    let name = ResourceName::parse("project_id", name)?;
    validate::labels("project.labels", &labels)?;
    let quota = quota.apply(DEFAULT_QUOTA);
    check_quota(&quota)?;
    if project_by_name_tx(tx, name.as_str()).await?.is_some() {
        return Err(Error::already_exists("project", full(name.as_str())));
    }
    let id = ProjectId::new();
    project_insert_tx(tx, id, name.as_str(), &labels, &quota).await?;
    tell(tx, caller, id, name.as_str(), "project.created", "Project created").await?;
    reload(tx, id).await
}

/// The project of this name.
///
/// # Errors
/// `PERMISSION_MISSING`, `NOT_FOUND`.
pub async fn get(ctx: &Context, caller: &Caller, name: &str) -> Result<ProjectRow, Error> {
    let mut tx = ctx.db.begin().await?;
    caller.project_tx(&mut tx, name, Permission::ProjectRead).await
}

/// The projects that the caller may see.
///
/// # Errors
/// Those of the database.
pub async fn list(ctx: &Context, caller: &Caller, query: ProjectQuery) -> Result<Vec<ProjectRow>, Error> {
    caller.check(Permission::ProjectRead, caller.own_project())?;
    ctx.db.project_list(&ProjectQuery { only: caller.own_project(), ..query }).await
}

/// Changes labels or quota. A quota below what is used is legal: nothing more can be made until less is used.
///
/// # Errors
/// `PERMISSION_MISSING`, `NOT_FOUND`, `INVALID_FIELD`, `ETAG_MISMATCH`.
pub async fn update(
    tx: &mut Tx,
    caller: &Caller,
    name: &str,
    etag: &str,
    update: ProjectUpdate,
) -> Result<ProjectRow, Error> {
    let row = locked(tx, caller, name).await?;
    validate::etag(etag, row.revision)?;
    let labels = update.labels.unwrap_or(row.labels);
    validate::labels("project.labels", &labels)?;
    let quota = update.quota.apply(row.quota);
    check_quota(&quota)?;
    project_update_tx(tx, row.id, &labels, &quota).await?;
    tell(tx, caller, row.id, &row.name, "project.updated", "Labels or quota changed").await?;
    reload(tx, row.id).await
}

/// Deletes an empty project.
///
/// # Errors
/// `PERMISSION_MISSING`, `NOT_FOUND`, `ETAG_MISMATCH`, `NOT_EMPTY`.
pub async fn delete(tx: &mut Tx, caller: &Caller, name: &str, etag: &str) -> Result<(), Error> {
    let row = locked(tx, caller, name).await?;
    validate::etag(etag, row.revision)?;
    let (live, deleted) = project_instances_tx(tx, row.id).await?;
    if live + deleted > 0 {
        return Err(Error::precondition(
            Reason::NotEmpty,
            format!(
                "project {} has {live} instances and {deleted} deleted ones that can still be brought back; delete them, with purge to not wait for the undelete window",
                row.name
            ),
        )
        .with_metadata("resource_name", full(&row.name)));
    }
    project_delete_tx(tx, row.id).await?;
    let event = NewEvent::info("project.deleted", full(&row.name), "Project deleted");
    event_add_tx(tx, NewEvent { actor: caller.actor(), ..event }).await.map(drop)
}

/// Full name of a project.
pub fn full(name: &str) -> String {
    format!("projects/{name}")
}

async fn locked(tx: &mut Tx, caller: &Caller, name: &str) -> Result<ProjectRow, Error> {
    let found = caller.project_tx(tx, name, Permission::FleetAdmin).await?;
    project_lock_tx(tx, found.id).await?.ok_or_else(|| Error::not_found("project", full(name)))
}

async fn reload(tx: &mut Tx, id: ProjectId) -> Result<ProjectRow, Error> {
    project_lock_tx(tx, id).await?.ok_or_else(|| Error::internal("a project vanished under its lock"))
}

async fn tell(tx: &mut Tx, caller: &Caller, id: ProjectId, name: &str, kind: &str, text: &str) -> Result<(), Error> {
    let event = NewEvent::info(kind, full(name), text);
    event_add_tx(tx, NewEvent { actor: caller.actor(), project: Some(id), ..event }).await.map(drop)
}

fn check_quota(quota: &Amount) -> Result<(), Error> {
    let parts = [
        ("project.quota.instances", quota.instances, LARGEST_QUOTA.instances),
        ("project.quota.resources.cpu_millis", quota.resources.cpu_millis, LARGEST_QUOTA.resources.cpu_millis),
        ("project.quota.resources.memory_bytes", quota.resources.memory_bytes, LARGEST_QUOTA.resources.memory_bytes),
        ("project.quota.resources.disk_bytes", quota.resources.disk_bytes, LARGEST_QUOTA.resources.disk_bytes),
    ];
    match parts.into_iter().find(|(_, value, most)| value > most) {
        Some((field, value, most)) => Err(Error::invalid(field, format!("{value} is more than {most}"))),
        None => Ok(()),
    }
}
