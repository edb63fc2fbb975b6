//! `EventService`.

use tonic::{Request, Response, Status};
use windlass_db::events::{EventEnd, EventQuery};
use windlass_proto::api::v1::{self as pb, event_service_server::EventService};

use super::{Api, convert::events as convert, page::Page, projects::parent};
use crate::app::{Caller, events};

#[tonic::async_trait]
impl EventService for Api {
    async fn list_events(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> Result<Response<pb::ListEventsResponse>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            let project = parent(&message.parent)?;
            let query = EventQuery {
                project: None,
                target: Some(message.target).filter(|target| !target.is_empty()),
                after: i64::try_from(message.after_id).unwrap_or(i64::MAX),
                limit: Page::read(String::new(), message.page_size, "")?.size,
                end: if message.latest { EventEnd::Newest } else { EventEnd::Oldest },
            };
            let rows = events::list(ctx, caller, project.as_deref(), query).await?;
            Ok(pb::ListEventsResponse { events: rows.into_iter().map(convert::event).collect() })
        })
        .await
    }
}
