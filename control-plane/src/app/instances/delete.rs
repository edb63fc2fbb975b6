//! Deleting an instance, and bringing a deleted one back.

use windlass_core::{
    Error, Reason,
    id::OperationId,
    instance::{Lifecycle, LifecycleEvent},
    role::Permission,
    size::Resources,
};
use windlass_db::{
    Tx,
    instances::{self, InstanceRow},
    members::members_of_tx,
    projects::project_lock_tx,
    reservations,
};
use windlass_logic::quota;

use super::{
    create::{amount, sum},
    model::{InstanceName, Named, find_locked, require_online, room_request},
    placing,
    power::{forbidden, request},
};
use crate::{
    app::{Caller, Context, validate},
    sagas::{
        self,
        instance_delete::{self, Disposal, InstanceDelete},
        instance_purge::{self, InstancePurge},
        instance_undelete::{self, InstanceUndelete},
    },
};

/// Deletes an instance. With [`Disposal::Purge`] its data goes at once, also that of one deleted before.
///
/// # Errors
/// `DELETION_PROTECTED`, `STATE_FORBIDS`, `INSTANCE_BUSY`, `ETAG_MISMATCH`, `NOT_FOUND`, `PERMISSION_MISSING`.
pub async fn delete(
    cx: &Context,
    tx: &mut Tx,
    caller: &Caller,
    name: &InstanceName,
    etag: &str,
    disposal: Disposal,
) -> Result<OperationId, Error> {
    let row = find_locked(tx, caller, name, Permission::ProjectWrite, Named::Present).await?;
    validate::etag(etag, row.revision)?;
    if row.spec.deletion_protection {
        return Err(Error::precondition(
            Reason::DeletionProtected,
            format!("{} is protected from deletion; take deletion_protection off first", row.path()),
        ));
    }
    if row.lifecycle == Lifecycle::Deleted {
        return purge_now(tx, caller, &row, disposal).await;
    }
    let data = instance_delete::Data { instance: row.id, disposal, window: cx.config.undelete_window, until: None };
    let operation = sagas::start::<InstanceDelete>(tx, request(&row, caller), &data).await?;
    instances::instance_advance_tx(tx, row.id, LifecycleEvent::DeleteBegun, None).await?;
    instances::instance_set_operation_tx(tx, row.id, operation).await?;
    Ok(operation)
}

async fn purge_now(tx: &mut Tx, caller: &Caller, row: &InstanceRow, disposal: Disposal) -> Result<OperationId, Error> {
    if disposal == Disposal::Retain {
        return Err(forbidden(row, "delete it with purge to remove its data before the undelete window ends"));
    }
    let data = instance_purge::Data { instance: row.id };
    let operation = sagas::start::<InstancePurge>(tx, request(row, caller), &data).await?;
    instances::instance_set_operation_tx(tx, row.id, operation).await?;
    Ok(operation)
}

/// Brings a deleted instance back on the host that kept its data: the last one deleted under this name, or the one of
/// this uid.
///
/// # Errors
/// `NAME_IN_USE` when the name was given to another meanwhile, `QUOTA_EXCEEDED`, `NO_HOST_FITS` when its host is full,
/// `UNAVAILABLE` when its host does not answer, `STATE_FORBIDS`, `INSTANCE_BUSY`, `NOT_FOUND`, `PERMISSION_MISSING`.
pub async fn undelete(tx: &mut Tx, caller: &Caller, name: &InstanceName) -> Result<OperationId, Error> {
    let row = find_locked(tx, caller, name, Permission::ProjectWrite, Named::LastDeleted).await?;
    let data =
        instance_undelete::Data { instance: row.id, deleted: row.delete_time, purge: row.purge_time, until: None };
    let operation = sagas::start::<InstanceUndelete>(tx, request(&row, caller), &data).await?;
    if instances::instance_named_tx(tx, row.project_id, &row.name).await?.is_some_and(|holder| holder != row.id) {
        return Err(Error::already_exists("instance", row.path())
            .with_metadata("remedy", "rename is not possible; delete the other one first"));
    }
    instances::instance_advance_tx(tx, row.id, LifecycleEvent::UndeleteBegun, None).await?;
    let mut members = members_of_tx(tx, &[row.id]).await?;
    if members.is_empty() {
        return Err(Error::precondition(Reason::StateForbids, "its data is not on any host any more"));
    }
    for member in &members {
        require_online(member)?;
    }

    let size = row.spec.resources;
    // Its disk was never given back.
    let more = |held: Resources| Resources { disk_bytes: size.disk_bytes.saturating_sub(held.disk_bytes), ..size };
    let project =
        project_lock_tx(tx, row.project_id).await?.ok_or_else(|| Error::not_found("project", row.project_id))?;
    let asked = quota::Amount { instances: 1, resources: sum(members.iter().map(|member| more(member.reserved))) };
    quota::check(&project.name, &amount(&project.quota), &amount(&project.used), &asked)?;
    // In the order in which everybody locks hosts.
    members.sort_by_key(|member| member.host_id);
    for member in &members {
        let request = room_request(row.id, &row.spec, more(member.reserved));
        placing::fits_on_tx(tx, row.project_id, &request, member.host_id).await?;
    }
    reservations::project_instances_add_tx(tx, row.project_id, 1).await?;
    for member in &members {
        reservations::member_resize_tx(tx, member.id, size).await?;
        if reservations::member_take_port_tx(tx, member.id).await?.is_none() {
            return Err(Error::new(
                windlass_core::ErrorKind::ResourceExhausted,
                Reason::NoHostFits,
                format!("host {} has no free port; delete something there", member.host_name),
            ));
        }
    }
    instances::instance_set_deletion_tx(tx, row.id, None, None).await?;
    instances::instance_set_spec_tx(tx, row.id, &row.spec).await?;
    instances::instance_set_operation_tx(tx, row.id, operation).await?;
    Ok(operation)
}
