//! Events: what happened.

use windlass_core::{Error, role::Permission};
use windlass_db::events::{EventQuery, EventRow};

use super::{Caller, Context};

/// Events, oldest first; of one project, or all that the caller may see. `query.project` is decided here.
///
/// # Errors
/// `PERMISSION_MISSING`, `NOT_FOUND` for the project.
pub async fn list(
    ctx: &Context,
    caller: &Caller,
    project: Option<&str>,
    query: EventQuery,
) -> Result<Vec<EventRow>, Error> {
    let project = caller.reach(&ctx.db, project, Permission::ProjectRead).await?;
    ctx.db.event_list(&EventQuery { project, ..query }).await
}
