//! Starting, stopping and restarting: the wish is stored, the saga makes it true.

use windlass_core::{
    Error, Reason,
    id::OperationId,
    instance::{InstanceSpec, Lifecycle, LifecycleEvent, Power},
    role::Permission,
};
use windlass_db::{
    Tx,
    instances::{self, InstanceRow},
};

use super::model::{InstanceName, Named, find_locked, primary_of, require_online};
use crate::{
    app::{Caller, validate},
    sagas::{
        self, Saga, change, instance_restart::InstanceRestart, instance_start::InstanceStart,
        instance_stop::InstanceStop,
    },
};

/// Starts a stopped instance, or one in ERROR.
///
/// # Errors
/// `STATE_FORBIDS`, `INSTANCE_BUSY`, `ETAG_MISMATCH`, `UNAVAILABLE` when its host does not answer, `NOT_FOUND`,
/// `PERMISSION_MISSING`.
pub async fn start(tx: &mut Tx, caller: &Caller, name: &InstanceName, etag: &str) -> Result<OperationId, Error> {
    let row = find_locked(tx, caller, name, Permission::ProjectWrite, Named::Present).await?;
    if row.lifecycle == Lifecycle::Running {
        return Err(forbidden(&row, "it runs already"));
    }
    let spec = InstanceSpec { power: Power::On, ..row.spec.clone() };
    begin::<InstanceStart>(tx, caller, &row, etag, spec, LifecycleEvent::ModifyBegun).await
}

/// Stops an instance; data and reservations stay.
///
/// # Errors
/// As [`start`].
pub async fn stop(tx: &mut Tx, caller: &Caller, name: &InstanceName, etag: &str) -> Result<OperationId, Error> {
    let row = find_locked(tx, caller, name, Permission::ProjectWrite, Named::Present).await?;
    let spec = InstanceSpec { power: Power::Off, ..row.spec.clone() };
    begin::<InstanceStop>(tx, caller, &row, etag, spec, LifecycleEvent::StopBegun).await
}

/// Restarts an instance that runs, or one in ERROR.
///
/// # Errors
/// As [`start`].
pub async fn restart(tx: &mut Tx, caller: &Caller, name: &InstanceName, etag: &str) -> Result<OperationId, Error> {
    let row = find_locked(tx, caller, name, Permission::ProjectWrite, Named::Present).await?;
    if matches!(row.lifecycle, Lifecycle::Stopped | Lifecycle::Suspended) {
        return Err(forbidden(&row, "it does not run; start it"));
    }
    let spec = InstanceSpec { power: Power::On, restarts: row.spec.restarts + 1, ..row.spec.clone() };
    begin::<InstanceRestart>(tx, caller, &row, etag, spec, LifecycleEvent::ModifyBegun).await
}

async fn begin<S: Saga<Data = change::Data>>(
    tx: &mut Tx,
    caller: &Caller,
    row: &InstanceRow,
    etag: &str,
    spec: InstanceSpec,
    event: LifecycleEvent,
) -> Result<OperationId, Error> {
    validate::etag(etag, row.revision)?;
    let operation = sagas::start::<S>(tx, request(row, caller), &change::Data::new(row)).await?;
    instances::instance_advance_tx(tx, row.id, event, None).await?;
    if let Some(member) = primary_of(tx, row.id).await? {
        require_online(&member)?;
    }
    instances::instance_set_spec_tx(tx, row.id, &spec).await?;
    instances::instance_set_operation_tx(tx, row.id, operation).await?;
    Ok(operation)
}

/// Who wants an operation on an instance.
pub(super) fn request(row: &InstanceRow, caller: &Caller) -> sagas::Request {
    sagas::Request { project: Some(row.project_id), instance: Some(row.id), target: row.path(), actor: caller.actor() }
}

pub(super) fn forbidden(row: &InstanceRow, why: &str) -> Error {
    Error::precondition(Reason::StateForbids, format!("the instance is {}: {why}", row.lifecycle))
        .with_metadata("state", row.lifecycle)
}
