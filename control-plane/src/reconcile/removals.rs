//! Members that nobody knows any more are still taken off their hosts when the first order to do so failed.
//!
//! Why: an operation that finds its host away, or unable, ends and leaves the removal to the host's return. If that
//! fails too, no saga is left to ask again, and data and processes would stay for ever.
//! Invariant: only what an operation once ordered to be removed is removed; each repeat is queued once, whoever looks.

use jiff::SignedDuration;
use sha2::{Digest as _, Sha256};
use uuid::Builder;
use windlass_core::{Error, id::CommandId};
use windlass_db::{
    Guard,
    commands::{Enqueued, FailedRemoval, command_repeat_tx},
};

use super::Reconciler;

/// The most repeats of one look.
const AT_ONCE: i64 = 20;
/// Between a failure and the next try, so that what cannot be healed is not hammered.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// Repeats removals that failed. Gives how many.
pub(super) async fn repeat(reconciler: &Reconciler, guard: &Guard) -> Result<usize, Error> {
    let mut repeated = 0;
    for removal in reconciler.db.removals_failed(PATIENCE, AT_ONCE).await? {
        repeated += usize::from(repeat_one(reconciler, guard, removal).await?);
    }
    Ok(repeated)
}

async fn repeat_one(reconciler: &Reconciler, guard: &Guard, removal: FailedRemoval) -> Result<bool, Error> {
    let mut tx = reconciler.db.guarded(guard).await?;
    if command_repeat_tx(&mut tx, removal.uid, after(removal.uid), guard.epoch).await? == Enqueued::Known {
        return Ok(false);
    }
    tx.commit().await?;
    reconciler.hosts.wake(&[removal.host]);
    Ok(true)
}

/// The repeat of a command: the same for every node and every look.
fn after(uid: CommandId) -> CommandId {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(uid.0.as_bytes())[..16]);
    CommandId(Builder::from_custom_bytes(bytes).into_uuid())
}
