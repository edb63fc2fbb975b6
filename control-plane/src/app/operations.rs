//! Operations: what was asked for and how far it is.
//!
//! Operations of other projects do not exist for a project's key, and fleet operations not either.

use std::{collections::HashMap, time::Duration};

use windlass_core::{Error, id::OperationId, role::Permission};
use windlass_db::{
    Tx,
    events::{NewEvent, event_add_tx},
    operations::{OperationQuery, OperationRow, OperationScope, StepRow, operation_by_id_tx},
};

use super::{Caller, Context};
use crate::sagas::{self, StepInfo, Until, cancellable};

/// Longest wait.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// An operation with its steps.
#[derive(Debug, Clone)]
pub struct OperationView {
    /// As stored.
    pub row: OperationRow,
    /// Steps that have begun.
    pub steps: Vec<StepRow>,
    /// All steps in order, as far as this binary knows the saga.
    pub plan: Vec<StepInfo>,
    /// Whether a cancel would be accepted.
    pub cancellable: bool,
}

/// The operation.
///
/// # Errors
/// `PERMISSION_MISSING`, `NOT_FOUND`.
pub async fn get(ctx: &Context, caller: &Caller, id: OperationId) -> Result<OperationView, Error> {
    let row = visible(ctx.db.operation_by_id(id).await?, caller, Permission::ProjectRead)?;
    with_steps(ctx, row).await
}

/// An operation that this transaction has started; none of its steps has begun.
///
/// # Errors
/// Those of the database.
pub async fn started(ctx: &Context, tx: &mut Tx, id: OperationId) -> Result<OperationView, Error> {
    Ok(view(ctx, operation_by_id_tx(tx, id).await?, Vec::new()))
}

/// Operations, newest first; of one project, or all that the caller may see.
///
/// # Errors
/// `PERMISSION_MISSING`, `NOT_FOUND` for the project.
pub async fn list(
    ctx: &Context,
    caller: &Caller,
    project: Option<&str>,
    target: Option<String>,
    which: OperationScope,
    before: Option<OperationId>,
    limit: i64,
) -> Result<Vec<OperationView>, Error> {
    let project = caller.reach(&ctx.db, project, Permission::ProjectRead).await?;
    let rows = ctx.db.operation_list(&OperationQuery { project, target, which, before, limit }).await?;
    let ids: Vec<OperationId> = rows.iter().map(|row| row.id).collect();
    let mut steps: HashMap<OperationId, Vec<StepRow>> = HashMap::new();
    for step in ctx.db.operation_steps(&ids).await? {
        steps.entry(step.operation).or_default().push(step);
    }
    Ok(rows
        .into_iter()
        .map(|row| {
            let steps = steps.remove(&row.id).unwrap_or_default();
            view(ctx, row, steps)
        })
        .collect())
}

/// Waits for the operation to end or, after `seen`, to change; gives it as it stands then or when `timeout` is over.
///
/// # Errors
/// `PERMISSION_MISSING`, `NOT_FOUND`.
pub async fn wait(
    ctx: &Context,
    caller: &Caller,
    id: OperationId,
    until: Until,
    timeout: Duration,
) -> Result<OperationView, Error> {
    visible(ctx.db.operation_by_id(id).await?, caller, Permission::ProjectRead)?;
    let row = ctx.watch.wait(&ctx.db, id, until, timeout.min(LONGEST_WAIT)).await?;
    with_steps(ctx, row).await
}

/// Asks for a cancel. Doing it again changes nothing.
///
/// # Errors
/// `PERMISSION_MISSING`, `NOT_FOUND`; `STATE_FORBIDS` past the point of no return.
pub async fn cancel(ctx: &Context, caller: &Caller, id: OperationId) -> Result<OperationView, Error> {
    let row = visible(ctx.db.operation_by_id(id).await?, caller, Permission::ProjectWrite)?;
    let mut tx = ctx.db.begin().await?;
    sagas::cancel(&mut tx, &ctx.registry, id).await?;
    let event = NewEvent::info("operation.cancel_requested", &row.target, format!("Cancel of {} asked for", row.kind));
    let event =
        NewEvent { actor: caller.actor(), project: row.project, instance: row.instance, operation: Some(id), ..event };
    event_add_tx(&mut tx, event).await?;
    tx.commit().await?;
    ctx.sagas.wake();
    get(ctx, caller, id).await
}

fn visible(row: OperationRow, caller: &Caller, permission: Permission) -> Result<OperationRow, Error> {
    if caller.own_project().is_some() && row.project != caller.own_project() {
        return Err(Error::not_found("operation", row.id));
    }
    caller.check(permission, row.project)?;
    Ok(row)
}

async fn with_steps(ctx: &Context, row: OperationRow) -> Result<OperationView, Error> {
    let steps = ctx.db.operation_steps(&[row.id]).await?;
    Ok(view(ctx, row, steps))
}

fn view(ctx: &Context, row: OperationRow, steps: Vec<StepRow>) -> OperationView {
    let plan = ctx.registry.steps(&row.kind, row.saga_version).map(<[StepInfo]>::to_vec).unwrap_or_default();
    let cancellable = cancellable(&ctx.registry, &row);
    OperationView { row, steps, plan, cancellable }
}
