//! Beginning an operation: its row and its saga's, in the transaction of the use case that wants it.

use windlass_core::{
    Error,
    id::{InstanceId, OperationId, ProjectId},
};
use windlass_db::{
    PgConnection,
    operations::{NewOperation, operation_add_tx},
    sagas::{NewSaga, saga_add_tx},
    shard,
};

use super::saga::Saga;

/// Who wants an operation on what.
#[derive(Debug, Clone)]
pub struct Request {
    /// The project that sees it; None for the fleet's own.
    pub project: Option<ProjectId>,
    /// The instance it works on; no other operation may work on it meanwhile.
    pub instance: Option<InstanceId>,
    /// Full name of the resource, for example `projects/p/instances/i`.
    pub target: String,
    /// Uid of the API key that asks, or `system`.
    pub actor: String,
}

/// Begins the operation of saga `S`. After the commit call [`Waker::wake`](super::executor::Waker::wake), or it starts a second later.
///
/// # Errors
/// `INSTANCE_BUSY` with metadata `operation` when another one works on the instance.
pub async fn start<S: Saga>(tx: &mut PgConnection, request: Request, data: &S::Data) -> Result<OperationId, Error> {
    let id = OperationId::new();
    let data = serde_json::to_value(data)
        .map_err(|error| Error::internal(format!("the state of {} cannot be written", S::KIND)).with_source(error))?;
    let kind = S::KIND.as_str().to_owned();
    let shard = shard::of(request.instance.map_or(id.0, |instance| instance.0));
    let operation = NewOperation {
        id,
        project: request.project,
        instance: request.instance,
        kind: kind.clone(),
        target: request.target,
        actor: request.actor,
    };
    operation_add_tx(tx, &operation).await?;
    saga_add_tx(tx, &NewSaga { id, kind, version: S::VERSION, shard, data }).await?;
    Ok(id)
}
