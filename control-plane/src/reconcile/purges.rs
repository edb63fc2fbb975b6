//! Deleted instances whose undelete window is over are purged.

use windlass_core::{Error, Reason, id::InstanceId, instance::Lifecycle};
use windlass_db::{
    Guard,
    instances::{instance_lock_tx, instance_set_operation_tx},
};

use super::Reconciler;
use crate::sagas::{
    self,
    instance_purge::{Data, InstancePurge},
};

/// The most purges begun at one look.
const AT_ONCE: i64 = 20;

/// Begins the purges that are due. Gives how many.
pub(super) async fn begin(reconciler: &Reconciler, guard: &Guard) -> Result<usize, Error> {
    let mut begun = 0;
    for id in reconciler.db.instances_to_purge(AT_ONCE).await? {
        begun += usize::from(begin_one(reconciler, guard, id).await?);
    }
    if begun > 0 {
        reconciler.sagas.wake();
    }
    Ok(begun)
}

async fn begin_one(reconciler: &Reconciler, guard: &Guard, id: InstanceId) -> Result<bool, Error> {
    let mut tx = reconciler.db.guarded(guard).await?;
    let Some(instance) = instance_lock_tx(&mut tx, id).await? else { return Ok(false) };
    if instance.lifecycle != Lifecycle::Deleted {
        return Ok(false);
    }
    let request = sagas::Request {
        project: Some(instance.project_id),
        instance: Some(id),
        target: instance.path(),
        actor: "system".to_owned(),
    };
    match sagas::start::<InstancePurge>(&mut tx, request, &Data { instance: id }).await {
        // An undelete or a purge by a user came first.
        Err(error) if error.reason == Reason::InstanceBusy => return Ok(false),
        Err(error) => return Err(error),
        Ok(operation) => instance_set_operation_tx(&mut tx, id, operation).await?,
    }
    tx.commit().await?;
    Ok(true)
}
