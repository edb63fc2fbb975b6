//! `ObjectService`.

use tonic::{Request, Response, Status};
use windlass_proto::api::v1::{self as pb, object_service_server::ObjectService};

use super::{
    Api,
    convert::{instances::name as instance_name, objects as convert},
    page::Page,
};
use crate::app::{Caller, objects};

#[tonic::async_trait]
impl ObjectService for Api {
    async fn create_object(
        &self,
        request: Request<pb::CreateObjectRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        self.operate(request, |ctx, tx, caller, message| {
            Box::pin(async move {
                let instance = instance_name("parent", &message.parent)?;
                objects::create(ctx, tx, caller, &instance, convert::create(message)?).await
            })
        })
        .await
    }

    async fn list_objects(
        &self,
        request: Request<pb::ListObjectsRequest>,
    ) -> Result<Response<pb::ListObjectsResponse>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            let instance = instance_name("parent", &message.parent)?;
            let kind = convert::kind("kind", message.kind)?;
            let list = format!("objects?{}&{}", message.parent, message.kind);
            let page = Page::read(list, message.page_size, &message.page_token)?;
            let (row, found) = objects::list(ctx, caller, &instance, kind).await?;
            // An instance has few objects: they come from the database whole and are cut here, by their place.
            let start: usize = page.after_as()?.map_or(0, |last: usize| last + 1);
            let limit = usize::try_from(page.limit()).unwrap_or(usize::MAX);
            let mut rows: Vec<_> = found.into_iter().enumerate().skip(start).take(limit).collect();
            let next_page_token = page.cut(&mut rows, |(place, _)| place.to_string());
            let objects = rows.into_iter().map(|(_, object)| convert::object(&row, object)).collect();
            Ok(pb::ListObjectsResponse { objects, next_page_token })
        })
        .await
    }

    async fn drop_object(&self, request: Request<pb::DropObjectRequest>) -> Result<Response<pb::Operation>, Status> {
        self.operate(request, |_, tx, caller, message| {
            Box::pin(async move {
                let (instance, kind, object) = convert::name(&message.name)?;
                objects::drop(tx, caller, &instance, kind, &object, &message.database).await
            })
        })
        .await
    }
}
