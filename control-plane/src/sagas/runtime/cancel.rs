//! Cancelling an operation: allowed until its saga stands at the pivot.

use windlass_core::{Error, Reason, id::OperationId, operation::Direction};
use windlass_db::{
    PgConnection,
    operations::OperationRow,
    sagas::{saga_position_tx, saga_request_cancel_tx},
};

use super::registry::{Registry, unwindable};

/// Notes the wish; the executor unwinds the saga. Doing it again changes nothing.
///
/// # Errors
/// `NOT_FOUND`; `STATE_FORBIDS` when the operation has ended or is past its point of no return.
pub async fn cancel(tx: &mut PgConnection, registry: &Registry, id: OperationId) -> Result<(), Error> {
    let saga = saga_position_tx(tx, id).await?;
    if saga.done {
        return Err(Error::precondition(Reason::StateForbids, format!("operation {id} has already ended")));
    }
    if saga.direction == Direction::Unwind {
        return Ok(());
    }
    match registry.steps(&saga.kind, saga.version) {
        Some(steps) if unwindable(steps, saga.cursor) => saga_request_cancel_tx(tx, id).await,
        Some(_) => Err(Error::precondition(
            Reason::StateForbids,
            format!("operation {id} is past the point of no return and will be completed"),
        )),
        None => Err(Error::precondition(
            Reason::StateForbids,
            format!(
                "operation {id} is {} version {}, which this control plane does not know; use a newer one",
                saga.kind, saga.version
            ),
        )),
    }
}

/// Whether a cancel would be accepted now.
pub fn cancellable(registry: &Registry, operation: &OperationRow) -> bool {
    let state = operation.state;
    let steps = registry.steps(&operation.kind, operation.saga_version);
    !state.done() && operation.error.is_none() && steps.is_some_and(|steps| unwindable(steps, operation.saga_cursor))
}
