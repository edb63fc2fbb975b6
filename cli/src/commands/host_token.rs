//! `windlass host token`: one-use permissions to enrol.

use std::time::Duration;

use clap::{Args, Subcommand};
use windlass_proto::api::v1::{self as pb, join_token::Purpose};

use crate::{
    api::PAGE,
    args::{LabelArgs, Mutation},
    context::Context,
    failure::Failure,
    names, units,
};

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
    /// Name that the host will have; if not given the agent chooses
    #[arg(long, value_name = "HOST")]
    name: Option<String>,
    /// Region that the host will be in
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Zone that the host will be in
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    #[command(flatten)]
    labels: LabelArgs,
    /// How long it may be used
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "1h")]
    ttl: Duration,
    #[command(flatten)]
    mutation: Mutation,
}

impl TokenCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(cx).await,
            Self::List => list(cx, Purpose::Host).await,
            Self::Revoke { uid, mutation } => revoke(cx, &uid, &mutation).await,
        }
    }
}

/// Revokes a token, whatever it is for.
pub(super) async fn revoke(cx: &Context, uid: &str, mutation: &Mutation) -> Result<(), Failure> {
    let api = cx.api().await?;
    let request =
        pb::RevokeJoinTokenRequest { name: names::in_collection("joinTokens", uid), request_id: mutation.request_id() };
    let token = api.call(async || api.hosts().revoke_join_token(request.clone()).await).await?;
    cx.out.one(&token)
}

/// Lists the tokens of a purpose.
pub(super) async fn list(cx: &Context, purpose: Purpose) -> Result<(), Failure> {
    let api = cx.api().await?;
    let mut tokens = api
        .pages(async |page_token| {
            let request = pb::ListJoinTokensRequest { page_size: PAGE, page_token };
            let answer = api.call(async || api.hosts().list_join_tokens(request.clone()).await).await?;
            Ok((answer.join_tokens, answer.next_page_token))
        })
        .await?;
    // A control plane that knows no purposes has tokens for hosts only.
    tokens.retain(|token: &pb::JoinToken| match token.purpose() {
        Purpose::Unspecified | Purpose::Host => purpose == Purpose::Host,
        Purpose::Proxy => purpose == Purpose::Proxy,
    });
    cx.out.list(&tokens)
}

impl Create {
    async fn run(self, cx: &Context) -> Result<(), Failure> {
        let token = pb::JoinToken {
            host_name: self.name.clone().unwrap_or_default(),
            region: self.region.clone().unwrap_or_default(),
            zone: self.zone.clone().unwrap_or_default(),
            labels: self.labels.map(),
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
        cx.out.note(format!("For one host, within {span}. Start its agent with WINDLASS_JOIN_TOKEN set to:"));
        cx.out.secret(&token.token, &token)
    }
}
