//! Hosts: what users set, and who may still speak.

use std::collections::BTreeMap;

use windlass_core::{Error, Reason, host::HostState, role::Permission};
use windlass_db::{
    Tx,
    certificates::host_certificates_revoke_tx,
    events::{NewEvent, event_add_tx},
    hosts::{
        HostQuery, HostRow, HostSettings, Schedulable, host_by_name_lock_tx, host_by_name_tx, host_cordon_tx,
        host_revoke_tx, host_settings_tx,
    },
};

use super::{Caller, Context, validate};

/// What an update sets; None leaves a field.
#[derive(Debug, Clone, Default)]
pub struct HostUpdate {
    /// Region.
    pub region: Option<String>,
    /// Zone.
    pub zone: Option<String>,
    /// All labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// How many times the processor may be promised.
    pub cpu_overcommit: Option<f64>,
    /// How many times the memory may be promised.
    pub memory_overcommit: Option<f64>,
    /// How many times the disk may be promised.
    pub disk_overcommit: Option<f64>,
    /// Relative price.
    pub cost_weight: Option<f64>,
}

/// The host of this name or uid.
///
/// # Errors
/// `PERMISSION_MISSING`, `NOT_FOUND`.
pub async fn get(ctx: &Context, caller: &Caller, name: &str) -> Result<HostRow, Error> {
    caller.check(Permission::FleetRead, None)?;
    let mut tx = ctx.db.begin().await?;
    host_by_name_tx(&mut tx, name).await?.ok_or_else(|| missing(name))
}

/// Hosts by name.
///
/// # Errors
/// `PERMISSION_MISSING`.
pub async fn list(ctx: &Context, caller: &Caller, query: &HostQuery) -> Result<Vec<HostRow>, Error> {
    caller.check(Permission::FleetRead, None)?;
    ctx.db.host_list(query).await
}

/// Changes what a user may set. Members stay where they are, also if they no longer fit.
///
/// # Errors
/// `PERMISSION_MISSING`, `NOT_FOUND`, `ETAG_MISMATCH`, `INVALID_FIELD`.
pub async fn update(
    tx: &mut Tx,
    caller: &Caller,
    name: &str,
    etag: &str,
    update: HostUpdate,
) -> Result<HostRow, Error> {
    let row = locked(tx, caller, name, etag, Permission::FleetAdmin).await?;
    let old = row.settings.clone();
    let settings = HostSettings {
        region: update.region.unwrap_or(old.region),
        zone: update.zone.unwrap_or(old.zone),
        labels: update.labels.unwrap_or(old.labels),
        cpu_overcommit: update.cpu_overcommit.unwrap_or(old.cpu_overcommit),
        memory_overcommit: update.memory_overcommit.unwrap_or(old.memory_overcommit),
        disk_overcommit: update.disk_overcommit.unwrap_or(old.disk_overcommit),
        cost_weight: update.cost_weight.unwrap_or(old.cost_weight),
    };
    check(&settings)?;
    host_settings_tx(tx, row.id, &settings).await?;
    tell(tx, caller, &row, NewEvent::info("host.updated", full(&row.name), "Settings changed")).await?;
    reload(tx, &row).await
}

/// Lets new members onto the host, or keeps them off it. Doing it again changes nothing.
///
/// # Errors
/// `PERMISSION_MISSING`, `NOT_FOUND`, `ETAG_MISMATCH`; `HOST_REVOKED` when a revoked host is to be used again.
pub async fn cordon(
    tx: &mut Tx,
    caller: &Caller,
    name: &str,
    etag: &str,
    schedulable: Schedulable,
) -> Result<HostRow, Error> {
    let row = locked(tx, caller, name, etag, Permission::FleetOperate).await?;
    let (kind, text) = match schedulable {
        Schedulable::Yes => ("host.uncordoned", "New members may be placed on it"),
        Schedulable::No => ("host.cordoned", "No new members are placed on it"),
    };
    if row.cordoned == (schedulable == Schedulable::No) {
        return Ok(row);
    }
    if row.state == HostState::Revoked {
        return Err(Error::precondition(
            Reason::HostRevoked,
            format!("host {} was revoked; enrol the machine again with a new join token", row.name),
        ));
    }
    host_cordon_tx(tx, row.id, schedulable).await?;
    tell(tx, caller, &row, NewEvent::info(kind, full(&row.name), text)).await?;
    reload(tx, &row).await
}

/// Moving members away is not built yet.
///
/// # Errors
/// Always: `PERMISSION_MISSING`, `NOT_FOUND`, or `NOT_SUPPORTED`.
pub async fn drain(tx: &mut Tx, caller: &Caller, name: &str, etag: &str) -> Result<(), Error> {
    let row = locked(tx, caller, name, etag, Permission::FleetOperate).await?;
    let message = if row.members == 0 {
        format!("host {} has no members; cordon it, and it is drained", row.name)
    } else {
        format!(
            "moving members to other hosts is not built yet and host {} has {}; cordon it to keep new ones off, and delete or stop the instances on it",
            row.name, row.members
        )
    };
    Err(Error::precondition(Reason::NotSupported, message).with_metadata("resource_name", full(&row.name)))
}

/// Refuses the host's agent from its next call on. Its databases are left alone. Revoking twice is fine.
///
/// # Errors
/// `PERMISSION_MISSING`, `NOT_FOUND`, `ETAG_MISMATCH`.
pub async fn revoke(tx: &mut Tx, caller: &Caller, name: &str, etag: &str) -> Result<HostRow, Error> {
    let row = locked(tx, caller, name, etag, Permission::FleetAdmin).await?;
    if row.state == HostState::Revoked {
        return Ok(row);
    }
    host_revoke_tx(tx, row.id).await?;
    host_certificates_revoke_tx(tx, row.id).await?;
    let event = NewEvent::warning("host.revoked", full(&row.name), "Its agent is refused from now on");
    tell(tx, caller, &row, event).await?;
    reload(tx, &row).await
}

/// Full name of a host.
pub fn full(name: &str) -> String {
    format!("hosts/{name}")
}

async fn locked(
    tx: &mut Tx,
    caller: &Caller,
    name: &str,
    etag: &str,
    permission: Permission,
) -> Result<HostRow, Error> {
    caller.check(permission, None)?;
    let row = host_by_name_lock_tx(tx, name).await?.ok_or_else(|| missing(name))?;
    validate::etag(etag, row.revision)?;
    Ok(row)
}

async fn reload(tx: &mut Tx, row: &HostRow) -> Result<HostRow, Error> {
    host_by_name_tx(tx, &row.name).await?.ok_or_else(|| Error::internal("a host vanished under its lock"))
}

async fn tell(tx: &mut Tx, caller: &Caller, row: &HostRow, event: NewEvent) -> Result<(), Error> {
    event_add_tx(tx, NewEvent { actor: caller.actor(), host: Some(row.id), ..event }).await.map(drop)
}

fn missing(name: &str) -> Error {
    Error::not_found("host", full(name))
}

fn check(settings: &HostSettings) -> Result<(), Error> {
    validate::text("host.region", &settings.region)?;
    validate::text("host.zone", &settings.zone)?;
    validate::labels("host.labels", &settings.labels)?;
    validate::number("host.cpu_overcommit", settings.cpu_overcommit, 0.1, 100.0)?;
    validate::number("host.memory_overcommit", settings.memory_overcommit, 0.1, 10.0)?;
    validate::number("host.disk_overcommit", settings.disk_overcommit, 0.1, 10.0)?;
    validate::number("host.cost_weight", settings.cost_weight, 0.0, 1000.0)
}
