//! `windlass replica`: members beside the primary.

use clap::{Args, Subcommand};
use windlass_proto::api::v1 as pb;

use super::instance;
use crate::{args::Changing, context::Context, failure::Failure};

#[derive(Subcommand)]
pub(crate) enum ReplicaCommand {
    /// Add a replica; the instance serves meanwhile
    Add(Add),
    /// Remove a replica with its data; the instance serves meanwhile
    #[command(visible_alias = "rm")]
    Remove(Remove),
    /// List the members of an instance: who leads, who acknowledges, how far behind each is
    #[command(visible_alias = "ls")]
    List {
        /// The instance
        instance: String,
    },
}

#[derive(Args)]
pub(crate) struct Add {
    /// The instance
    instance: String,
    /// It never acknowledges commits and is never promoted by itself
    #[arg(long = "async")]
    asynchronous: bool,
    /// The host to put it on; the scheduler chooses if not given
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    #[command(flatten)]
    changing: Changing,
}

#[derive(Args)]
pub(crate) struct Remove {
    /// The instance
    instance: String,
    /// The host of the replica, or its uid; the one that is missed least if not given
    member: Option<String>,
    #[command(flatten)]
    changing: Changing,
}

impl ReplicaCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result<(), Failure> {
        match self {
            Self::Add(add) => add.run(cx).await,
            Self::Remove(remove) => remove.run(cx).await,
            Self::List { instance } => {
                let name = cx.instance(&instance).await?;
                cx.out.list(&instance::get(cx, &name).await?.members)
            }
        }
    }
}

impl Add {
    async fn run(self, cx: &Context) -> Result<(), Failure> {
        let name = cx.instance(&self.instance).await?;
        let request = pb::AddReplicaRequest {
            name: name.clone(),
            etag: String::new(),
            request_id: self.changing.mutation.request_id(),
            asynchronous: self.asynchronous,
            host: self.host.unwrap_or_default(),
        };
        let api = cx.api().await?;
        let operation = api.call(async || api.instances().add_replica(request.clone()).await).await?;
        cx.settle_instance(operation, &self.changing.waiting, &name).await
    }
}

impl Remove {
    async fn run(self, cx: &Context) -> Result<(), Failure> {
        let name = cx.instance(&self.instance).await?;
        let request = pb::RemoveReplicaRequest {
            name: name.clone(),
            etag: String::new(),
            request_id: self.changing.mutation.request_id(),
            member: self.member.unwrap_or_default(),
        };
        let api = cx.api().await?;
        let operation = api.call(async || api.instances().remove_replica(request.clone()).await).await?;
        cx.settle_instance(operation, &self.changing.waiting, &name).await
    }
}
