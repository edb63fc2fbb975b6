//! `OperationService`.

use std::time::Duration;

use futures::future::BoxFuture;
use tonic::{Request, Response, Status};
use windlass_core::{Error, id::OperationId};
use windlass_db::{Tx, operations::OperationScope};
use windlass_proto::api::v1::{self as pb, operation_service_server::OperationService};

use super::{
    Api,
    change::Change,
    convert::{duration, operations as convert},
    page::Page,
    projects::parent,
};
use crate::{
    app::{Caller, Context, operations},
    sagas::Until,
};

/// How long a wait lasts that names no time.
const USUAL_WAIT: Duration = Duration::from_secs(30);

#[tonic::async_trait]
impl OperationService for Api {
    async fn get_operation(
        &self,
        request: Request<pb::GetOperationRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            operations::get(ctx, caller, convert::id(&message.name)?).await.map(convert::operation)
        })
        .await
    }

    async fn list_operations(
        &self,
        request: Request<pb::ListOperationsRequest>,
    ) -> Result<Response<pb::ListOperationsResponse>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            let project = parent(&message.parent)?;
            let list = format!("operations?{}&{}&{}", message.parent, message.target, message.active_only);
            let page = Page::read(list, message.page_size, &message.page_token)?;
            let which = if message.active_only { OperationScope::Active } else { OperationScope::All };
            let target = Some(message.target).filter(|target| !target.is_empty());
            let before = page.after_as()?;
            let mut rows =
                operations::list(ctx, caller, project.as_deref(), target, which, before, page.limit()).await?;
            let next_page_token = page.cut(&mut rows, |view| view.row.id.to_string());
            let operations = rows.into_iter().map(convert::operation).collect();
            Ok(pb::ListOperationsResponse { operations, next_page_token })
        })
        .await
    }

    async fn wait_operation(
        &self,
        request: Request<pb::WaitOperationRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            let asked = duration("timeout", message.timeout)?;
            if asked.is_some_and(|timeout| timeout.is_negative()) {
                return Err(Error::invalid("timeout", "is negative; use 0s to 60s"));
            }
            let timeout = asked.map_or(USUAL_WAIT, |timeout| timeout.unsigned_abs());
            let until = match message.seen_revision {
                0 => Until::Done,
                seen => Until::After(i64::try_from(seen).unwrap_or(i64::MAX)),
            };
            operations::wait(ctx, caller, convert::id(&message.name)?, until, timeout).await.map(convert::operation)
        })
        .await
    }

    async fn cancel_operation(
        &self,
        request: Request<pb::CancelOperationRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            operations::cancel(ctx, caller, convert::id(&message.name)?).await.map(convert::operation)
        })
        .await
    }
}

impl Api {
    /// Runs a mutation that starts an operation, and wakes the executor after the commit. A dry run answers an
    /// operation without a name: there is none.
    pub(super) async fn operate<M: Change + 'static>(
        &self,
        request: Request<M>,
        start: impl for<'a> FnOnce(&'a Context, &'a mut Tx, &'a Caller, M) -> BoxFuture<'a, Result<OperationId, Error>>
        + Send
        + 'static,
    ) -> Result<Response<pb::Operation>, Status> {
        let dry = request.get_ref().validate_only();
        let answer = self
            .change(request, move |ctx, tx, caller, message| {
                Box::pin(async move {
                    let id = start(ctx, tx, caller, message).await?;
                    let shown = convert::operation(operations::started(ctx, tx, id).await?);
                    Ok(if dry { pb::Operation { name: String::new(), uid: String::new(), ..shown } } else { shown })
                })
            })
            .await;
        self.ctx.sagas.wake();
        answer
    }
}
