//! `windlass proxy`

use std::time::Duration;

use clap::{Args, Subcommand};
use windlass_proto::api::v1::{self as pb, join_token::Purpose};

use super::host_token;
use crate::{api::PAGE, args::Mutation, confirm, context::Context, failure::Failure, names, units};

#[derive(Subcommand)]
pub(crate) enum ProxyCommand {
    /// List proxies
    #[command(visible_alias = "ls")]
    List,
    /// Show a proxy
    #[command(visible_alias = "show")]
    Get { name: String },
    /// Refuse a proxy's certificate from now on
    Revoke(Revoke),
    /// Tokens with which proxies join
    #[command(subcommand, alias = "tokens")]
    Token(TokenCommand),
}

#[derive(Args)]
pub(crate) struct Revoke {
    name: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    mutation: Mutation,
}

#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it; it is shown this once
    Create(Create),
    /// List tokens
    #[command(visible_alias = "ls")]
    List,
    /// Revoke a token that was not used
    Revoke {
        /// The token's uid
        uid: String,
        #[command(flatten)]
        mutation: Mutation,
    },
}

#[derive(Args)]
pub(crate) struct Create {
    /// Name that the proxy will have; if not given the proxy chooses
    #[arg(long, value_name = "PROXY")]
    name: Option<String>,
    /// How long it may be used
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "1h")]
    ttl: Duration,
    #[command(flatten)]
    mutation: Mutation,
}

impl ProxyCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result<(), Failure> {
        match self {
            Self::List => list(cx).await,
            Self::Get { name } => {
                let api = cx.api().await?;
                let request = pb::GetProxyRequest { name: names::in_collection("proxies", &name) };
                let proxy = api.call(async || api.proxies().get_proxy(request.clone()).await).await?;
                cx.out.one(&proxy)
            }
            Self::Revoke(revoke) => revoke.run(cx).await,
            Self::Token(TokenCommand::Create(create)) => create.run(cx).await,
            Self::Token(TokenCommand::List) => host_token::list(cx, Purpose::Proxy).await,
            Self::Token(TokenCommand::Revoke { uid, mutation }) => host_token::revoke(cx, &uid, &mutation).await,
        }
    }
}

async fn list(cx: &Context) -> Result<(), Failure> {
    let api = cx.api().await?;
    let proxies = api
        .pages(async |page_token| {
            let request = pb::ListProxiesRequest { page_size: PAGE, page_token };
            let answer = api.call(async || api.proxies().list_proxies(request.clone()).await).await?;
            Ok((answer.proxies, answer.next_page_token))
        })
        .await?;
    cx.out.list(&proxies)
}

impl Revoke {
    async fn run(self, cx: &Context) -> Result<(), Failure> {
        let name = names::short(&self.name);
        confirm::destroying("the certificate of proxy", name, "It must be enrolled anew.", self.yes)?;
        let api = cx.api().await?;
        let request = pb::RevokeProxyRequest {
            name: names::in_collection("proxies", name),
            request_id: self.mutation.request_id(),
        };
        let proxy = api.call(async || api.proxies().revoke_proxy(request.clone()).await).await?;
        cx.out.one(&proxy)
    }
}

impl Create {
    async fn run(self, cx: &Context) -> Result<(), Failure> {
        let token = pb::JoinToken {
            host_name: self.name.clone().unwrap_or_default(),
            purpose: Purpose::Proxy.into(),
            ..Default::default()
        };
        let request = pb::CreateJoinTokenRequest {
            join_token: Some(token),
            ttl: Some(units::proto_duration(self.ttl)),
            request_id: self.mutation.request_id(),
        };
        let api = cx.api().await?;
        let token = api.call(async || api.hosts().create_join_token(request.clone()).await).await?;
        let span = units::show_span(self.ttl.as_secs());
        cx.out.note(format!("For one proxy, within {span}. Start it with WINDLASS_JOIN_TOKEN set to:"));
        cx.out.secret(&token.token, &token)
    }
}
