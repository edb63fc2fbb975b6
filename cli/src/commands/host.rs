//! `windlass host`

use clap::{Args, Subcommand};
use pbjson_types::FieldMask;
use windlass_proto::api::v1 as pb;

use super::host_token::TokenCommand;
use crate::{
    api::PAGE,
    args::{FilterArgs, LabelChanges, Mutation},
    confirm,
    context::Context,
    failure::Failure,
    names,
};

#[derive(Subcommand)]
pub(crate) enum HostCommand {
    /// List hosts
    #[command(visible_alias = "ls")]
    List(List),
    /// Show a host
    #[command(visible_alias = "show")]
    Get { name: String },
    /// Change what the scheduler knows of a host
    Update(Update),
    /// Place no new members on a host
    Cordon(Verb),
    /// Allow new members on a host again
    Uncordon(Verb),
    /// Refuse a host's certificate from now on; its databases are left alone
    Revoke(Revoke),
    /// Tokens with which hosts join
    #[command(subcommand, alias = "tokens")]
    Token(TokenCommand),
}

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    filter: FilterArgs,
    /// Only those in this state: ONLINE, OFFLINE or REVOKED
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only those of this region
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Only those of this zone
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
}

#[derive(Args)]
pub(crate) struct Update {
    name: String,
    /// Region it is in
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Zone it is in
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    #[command(flatten)]
    labels: LabelChanges,
    /// How many times the processor may be promised, 0.1 to 100
    #[arg(long, value_name = "TIMES")]
    cpu_overcommit: Option<f64>,
    /// How many times the memory may be promised, 0.1 to 10
    #[arg(long, value_name = "TIMES")]
    memory_overcommit: Option<f64>,
    /// How many times the disk may be promised, 0.1 to 10
    #[arg(long, value_name = "TIMES")]
    disk_overcommit: Option<f64>,
    /// Relative price, 0 to 1000; cheaper hosts are preferred
    #[arg(long, value_name = "WEIGHT")]
    cost_weight: Option<f64>,
    #[command(flatten)]
    mutation: Mutation,
    /// Check the request and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
pub(crate) struct Verb {
    name: String,
    #[command(flatten)]
    mutation: Mutation,
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

enum Change {
    Cordon,
    Uncordon,
    Revoke,
}

impl HostCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(cx).await,
            Self::Get { name } => cx.out.one(&get(cx, &name).await?),
            Self::Update(update) => update.run(cx).await,
            Self::Cordon(verb) => change(cx, &verb.name, &verb.mutation, Change::Cordon).await,
            Self::Uncordon(verb) => change(cx, &verb.name, &verb.mutation, Change::Uncordon).await,
            Self::Revoke(revoke) => {
                let name = names::short(&revoke.name);
                confirm::destroying("the certificate of host", name, "It must be enrolled anew.", revoke.yes)?;
                change(cx, name, &revoke.mutation, Change::Revoke).await
            }
            Self::Token(command) => command.run(cx).await,
        }
    }
}

async fn get(cx: &Context, name: &str) -> Result<pb::Host, Failure> {
    let api = cx.api().await?;
    let request = pb::GetHostRequest { name: names::in_collection("hosts", name) };
    api.call(async || api.hosts().get_host(request.clone()).await).await
}

async fn change(cx: &Context, name: &str, mutation: &Mutation, change: Change) -> Result<(), Failure> {
    let api = cx.api().await?;
    let request = pb::HostVerbRequest {
        name: names::in_collection("hosts", name),
        etag: String::new(),
        request_id: mutation.request_id(),
    };
    let host = api
        .call(async || match change {
            Change::Cordon => api.hosts().cordon_host(request.clone()).await,
            Change::Uncordon => api.hosts().uncordon_host(request.clone()).await,
            Change::Revoke => api.hosts().revoke_host(request.clone()).await,
        })
        .await?;
    cx.out.one(&host)
}

impl List {
    async fn run(self, cx: &Context) -> Result<(), Failure> {
        let api = cx.api().await?;
        let filter = self.filter.text([("state", self.state), ("region", self.region), ("zone", self.zone)]);
        let hosts = api
            .pages(async |page_token| {
                let request = pb::ListHostsRequest { page_size: PAGE, page_token, filter: filter.clone() };
                let answer = api.call(async || api.hosts().list_hosts(request.clone()).await).await?;
                Ok((answer.hosts, answer.next_page_token))
            })
            .await?;
        cx.out.list(&hosts)
    }
}

impl Update {
    async fn run(self, cx: &Context) -> Result<(), Failure> {
        let mut host = pb::Host { name: names::in_collection("hosts", &self.name), ..Default::default() };
        let given = [
            ("region", self.region.is_some()),
            ("zone", self.zone.is_some()),
            ("labels", self.labels.any()),
            ("cpu_overcommit", self.cpu_overcommit.is_some()),
            ("memory_overcommit", self.memory_overcommit.is_some()),
            ("disk_overcommit", self.disk_overcommit.is_some()),
            ("cost_weight", self.cost_weight.is_some()),
        ];
        let paths: Vec<_> = given.iter().filter(|(_, given)| *given).map(|(path, _)| (*path).to_owned()).collect();
        if paths.is_empty() {
            return Err(Failure::Usage("nothing to change; give for example --zone or --memory-overcommit".to_owned()));
        }
        if self.labels.any() {
            // Labels are replaced as a whole; the etag makes a change in between a conflict and not a loss.
            let current = get(cx, &self.name).await?;
            host.etag = current.etag;
            host.labels = current.labels;
            self.labels.apply(&mut host.labels);
        }
        host.region = self.region.unwrap_or_default();
        host.zone = self.zone.unwrap_or_default();
        host.cpu_overcommit = self.cpu_overcommit.unwrap_or_default();
        host.memory_overcommit = self.memory_overcommit.unwrap_or_default();
        host.disk_overcommit = self.disk_overcommit.unwrap_or_default();
        host.cost_weight = self.cost_weight.unwrap_or_default();
        let request = pb::UpdateHostRequest {
            host: Some(host),
            update_mask: Some(FieldMask { paths }),
            request_id: self.mutation.request_id(),
            validate_only: self.dry_run,
        };
        let api = cx.api().await?;
        let host = api.call(async || api.hosts().update_host(request.clone()).await).await?;
        if self.dry_run {
            cx.out.note("valid; nothing was changed");
        }
        cx.out.one(&host)
    }
}
