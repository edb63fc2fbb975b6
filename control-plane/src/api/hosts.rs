//! `HostService`.

use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};
use windlass_core::Error;
use windlass_db::hosts::{HostQuery, Schedulable};
use windlass_proto::api::v1::{self as pb, host_service_server::HostService};

use super::{Api, convert::hosts as convert, filter::Filter, page::Page};
use crate::app::{Caller, hosts, tokens};

#[tonic::async_trait]
impl HostService for Api {
    async fn get_host(&self, request: Request<pb::GetHostRequest>) -> Result<Response<pb::Host>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            hosts::get(ctx, caller, &convert::id("name", &message.name)?).await.map(convert::host)
        })
        .await
    }

    async fn list_hosts(
        &self,
        request: Request<pb::ListHostsRequest>,
    ) -> Result<Response<pb::ListHostsResponse>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            let filter = Filter::parse(&message.filter, &["state", "zone", "region"])?;
            let page = Page::read(format!("hosts?{}", message.filter), message.page_size, &message.page_token)?;
            let query = HostQuery {
                after: page.after.clone(),
                state: filter.word("state")?,
                region: filter.field("region").map(str::to_owned),
                zone: filter.field("zone").map(str::to_owned),
                labels: filter.labels,
                limit: page.limit(),
            };
            let mut rows = hosts::list(ctx, caller, &query).await?;
            let next_page_token = page.cut(&mut rows, |row| row.name.clone());
            Ok(pb::ListHostsResponse { hosts: rows.into_iter().map(convert::host).collect(), next_page_token })
        })
        .await
    }

    async fn update_host(&self, request: Request<pb::UpdateHostRequest>) -> Result<Response<pb::Host>, Status> {
        self.change(request, |_, tx, caller, message| {
            Box::pin(async move {
                let given = message.host.unwrap_or_default();
                let (name, etag) = (convert::id("host.name", &given.name)?, given.etag.clone());
                let update = convert::update(given, message.update_mask)?;
                hosts::update(tx, caller, &name, &etag, update).await.map(convert::host)
            })
        })
        .await
    }

    async fn cordon_host(&self, request: Request<pb::HostVerbRequest>) -> Result<Response<pb::Host>, Status> {
        self.cordon(request, Schedulable::No).await
    }

    async fn uncordon_host(&self, request: Request<pb::HostVerbRequest>) -> Result<Response<pb::Host>, Status> {
        self.cordon(request, Schedulable::Yes).await
    }

    async fn drain_host(&self, request: Request<pb::HostVerbRequest>) -> Result<Response<pb::Operation>, Status> {
        self.change(request, |_, tx, caller, message| {
            Box::pin(async move {
                hosts::drain(tx, caller, &convert::id("name", &message.name)?, &message.etag).await?;
                Err(Error::internal("a drain was accepted, but there is no operation for it"))
            })
        })
        .await
    }

    async fn revoke_host(&self, request: Request<pb::HostVerbRequest>) -> Result<Response<pb::Host>, Status> {
        let answer = self
            .change(request, |_, tx, caller, message| {
                Box::pin(async move {
                    let name = convert::id("name", &message.name)?;
                    hosts::revoke(tx, caller, &name, &message.etag).await.map(convert::host)
                })
            })
            .await?;
        if let Ok(host) = answer.get_ref().uid.parse() {
            self.ctx.health.revoked(host);
        }
        Ok(answer)
    }

    async fn create_join_token(
        &self,
        request: Request<pb::CreateJoinTokenRequest>,
    ) -> Result<Response<pb::JoinToken>, Status> {
        self.change(request, |ctx, tx, caller, message| {
            Box::pin(async move {
                let (row, token) = tokens::create(ctx, tx, caller, convert::token_request(message)?).await?;
                Ok(pb::JoinToken { token: token.text().expose_secret().to_owned(), ..convert::token(row) })
            })
        })
        .await
    }

    async fn list_join_tokens(
        &self,
        request: Request<pb::ListJoinTokensRequest>,
    ) -> Result<Response<pb::ListJoinTokensResponse>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            let page = Page::read("joinTokens".to_owned(), message.page_size, &message.page_token)?;
            let mut rows = tokens::list(ctx, caller, page.after_as()?, page.limit()).await?;
            let next_page_token = page.cut(&mut rows, |row| row.id.to_string());
            let join_tokens = rows.into_iter().map(convert::token).collect();
            Ok(pb::ListJoinTokensResponse { join_tokens, next_page_token })
        })
        .await
    }

    async fn revoke_join_token(
        &self,
        request: Request<pb::RevokeJoinTokenRequest>,
    ) -> Result<Response<pb::JoinToken>, Status> {
        self.change(request, |_, tx, caller, message| {
            Box::pin(
                async move { tokens::revoke(tx, caller, convert::token_id(&message.name)?).await.map(convert::token) },
            )
        })
        .await
    }
}

impl Api {
    async fn cordon(
        &self,
        request: Request<pb::HostVerbRequest>,
        schedulable: Schedulable,
    ) -> Result<Response<pb::Host>, Status> {
        self.change(request, move |_, tx, caller, message| {
            Box::pin(async move {
                let name = convert::id("name", &message.name)?;
                hosts::cordon(tx, caller, &name, &message.etag, schedulable).await.map(convert::host)
            })
        })
        .await
    }
}
