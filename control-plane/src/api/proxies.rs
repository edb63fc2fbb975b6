//! `ProxyService` of the public API.

use tonic::{Request, Response, Status};
use windlass_proto::api::v1::{self as pb, proxy_service_server::ProxyService};

use super::{Api, convert::proxies as convert, page::Page};
use crate::app::{Caller, proxies};

#[tonic::async_trait]
impl ProxyService for Api {
    async fn get_proxy(&self, request: Request<pb::GetProxyRequest>) -> Result<Response<pb::Proxy>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            let row = proxies::get(ctx, caller, &convert::id(&message.name)?).await?;
            let state = proxies::state(ctx, &row);
            Ok(convert::proxy(row, state))
        })
        .await
    }

    async fn list_proxies(
        &self,
        request: Request<pb::ListProxiesRequest>,
    ) -> Result<Response<pb::ListProxiesResponse>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            let page = Page::read("proxies".to_owned(), message.page_size, &message.page_token)?;
            let mut rows = proxies::list(ctx, caller, &page.after, page.limit()).await?;
            let next_page_token = page.cut(&mut rows, |row| row.name.clone());
            let show = |row| {
                let state = proxies::state(ctx, &row);
                convert::proxy(row, state)
            };
            Ok(pb::ListProxiesResponse { proxies: rows.into_iter().map(show).collect(), next_page_token })
        })
        .await
    }

    async fn revoke_proxy(&self, request: Request<pb::RevokeProxyRequest>) -> Result<Response<pb::Proxy>, Status> {
        let answer = self
            .change(request, |ctx, tx, caller, message| {
                Box::pin(async move {
                    let row = proxies::revoke(tx, caller, &convert::id(&message.name)?).await?;
                    let state = proxies::state(ctx, &row);
                    Ok(convert::proxy(row, state))
                })
            })
            .await?;
        if let Ok(proxy) = answer.get_ref().uid.parse() {
            self.ctx.routes.reports().gone(proxy);
            self.ctx.routes.proxies_changed();
        }
        Ok(answer)
    }
}
