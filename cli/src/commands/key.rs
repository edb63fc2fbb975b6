//! `windlass key`

use std::time::Duration;

use clap::{Args, Subcommand};
use windlass_proto::api::v1 as pb;

use crate::{api::PAGE, args::Mutation, context::Context, failure::Failure, names, units};

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key and print it; it is shown this once
    Create(Create),
    /// List keys
    #[command(visible_alias = "ls")]
    List,
    /// Revoke a key
    Revoke {
        /// The key's uid
        uid: String,
        #[command(flatten)]
        mutation: Mutation,
    },
}

#[derive(Args)]
pub(crate) struct Create {
    /// What it is for, for people
    title: String,
    /// viewer reads, operator runs instances, admin does everything
    #[arg(long, value_name = "ROLE")]
    role: String,
    /// For the whole installation instead of one project
    #[arg(long)]
    installation: bool,
    /// How long it is valid; for ever if not given
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    ttl: Option<Duration>,
    #[command(flatten)]
    mutation: Mutation,
}

impl KeyCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(cx).await,
            Self::List => list(cx).await,
            Self::Revoke { uid, mutation } => {
                let api = cx.api().await?;
                let request = pb::RevokeApiKeyRequest {
                    name: names::in_collection("apiKeys", &uid),
                    request_id: mutation.request_id(),
                };
                let key = api.call(async || api.keys().revoke_api_key(request.clone()).await).await?;
                cx.out.one(&key)
            }
        }
    }
}

async fn list(cx: &Context) -> Result<(), Failure> {
    let api = cx.api().await?;
    let keys = api
        .pages(async |page_token| {
            let request = pb::ListApiKeysRequest { page_size: PAGE, page_token };
            let answer = api.call(async || api.keys().list_api_keys(request.clone()).await).await?;
            Ok((answer.api_keys, answer.next_page_token))
        })
        .await?;
    cx.out.list(&keys)
}

impl Create {
    async fn run(self, cx: &Context) -> Result<(), Failure> {
        let project = if self.installation { String::new() } else { names::project(&cx.project().await?) };
        let key = pb::ApiKey { title: self.title.clone(), role: self.role.clone(), project, ..Default::default() };
        let request = pb::CreateApiKeyRequest {
            api_key: Some(key),
            ttl: self.ttl.map(units::proto_duration),
            request_id: self.mutation.request_id(),
        };
        let api = cx.api().await?;
        let answer = api.call(async || api.keys().create_api_key(request.clone()).await).await?;
        cx.out.note("Shown this once; keep it safe:");
        cx.out.secret(&answer.key, &answer)
    }
}
