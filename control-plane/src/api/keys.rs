//! `ApiKeyService`.

use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};
use windlass_proto::api::v1::{self as pb, api_key_service_server::ApiKeyService};

use super::{Api, convert::keys as convert, page::Page};
use crate::app::{Caller, keys};

#[tonic::async_trait]
impl ApiKeyService for Api {
    async fn create_api_key(
        &self,
        request: Request<pb::CreateApiKeyRequest>,
    ) -> Result<Response<pb::CreateApiKeyResponse>, Status> {
        self.change(request, |_, tx, caller, message| {
            Box::pin(async move {
                let (row, key) = keys::create(tx, caller, convert::request(message)?).await?;
                let key = key.text().expose_secret().to_owned();
                Ok(pb::CreateApiKeyResponse { api_key: Some(convert::key(row)), key })
            })
        })
        .await
    }

    async fn list_api_keys(
        &self,
        request: Request<pb::ListApiKeysRequest>,
    ) -> Result<Response<pb::ListApiKeysResponse>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            let page = Page::read("apiKeys".to_owned(), message.page_size, &message.page_token)?;
            let mut rows = keys::list(ctx, caller, page.after_as()?, page.limit()).await?;
            let next_page_token = page.cut(&mut rows, |row| row.id.to_string());
            Ok(pb::ListApiKeysResponse { api_keys: rows.into_iter().map(convert::key).collect(), next_page_token })
        })
        .await
    }

    async fn revoke_api_key(&self, request: Request<pb::RevokeApiKeyRequest>) -> Result<Response<pb::ApiKey>, Status> {
        let answer = self
            .change(request, |_, tx, caller, message| {
                Box::pin(async move { keys::revoke(tx, caller, convert::id(&message.name)?).await.map(convert::key) })
            })
            .await;
        self.authenticator.forget();
        answer
    }

    async fn who_am_i(&self, request: Request<pb::WhoAmIRequest>) -> Result<Response<pb::ApiKey>, Status> {
        self.read(request, async |ctx, caller: &Caller, _| keys::own(ctx, caller).await.map(convert::key)).await
    }
}
