//! `windlass instance switchover` and `failover`: another primary, in order or not.

use clap::Args;
use windlass_proto::api::v1 as pb;

use crate::{args::Changing, confirm, context::Context, failure::Failure, names};

#[derive(Args)]
pub(crate) struct Switchover {
    name: String,
    /// The host of the replica that takes over, or the uid of the member; the best one if not given
    #[arg(long, value_name = "HOST")]
    to: Option<String>,
    /// End sessions whose transaction does not end in time; otherwise the switchover is given up
    #[arg(long)]
    end_transactions: bool,
    #[command(flatten)]
    changing: Changing,
}

#[derive(Args)]
pub(crate) struct Failover {
    name: String,
    /// Go through with it: the primary is given up even if it is well
    #[arg(long, required = true)]
    force: bool,
    /// The host of the replica that takes over, or the uid of the member; the one with the most data if not given
    #[arg(long, value_name = "HOST")]
    to: Option<String>,
    /// Go on without proof that no acknowledged commit is lost. Whoever gives it vouches that the old primary is dead;
    /// it is audited
    #[arg(long)]
    allow_data_loss: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    changing: Changing,
}

impl Switchover {
    pub(super) async fn run(self, cx: &Context) -> Result<(), Failure> {
        let name = cx.instance(&self.name).await?;
        let request = pb::SwitchoverInstanceRequest {
            name: name.clone(),
            etag: String::new(),
            request_id: self.changing.mutation.request_id(),
            to: self.to.unwrap_or_default(),
            end_transactions: self.end_transactions,
        };
        let api = cx.api().await?;
        let operation = api.call(async || api.instances().switchover_instance(request.clone()).await).await?;
        cx.settle_instance(operation, &self.changing.waiting, &name).await
    }
}

impl Failover {
    pub(super) async fn run(self, cx: &Context) -> Result<(), Failure> {
        let name = cx.instance(&self.name).await?;
        if self.allow_data_loss {
            let consequence =
                "Acknowledged commits may be lost. If the old primary still runs, two primaries take writes.";
            confirm::destroying("instance", names::short(&name), consequence, self.yes)?;
        }
        let request = pb::FailoverInstanceRequest {
            name: name.clone(),
            etag: String::new(),
            request_id: self.changing.mutation.request_id(),
            to: self.to.unwrap_or_default(),
            allow_data_loss: self.allow_data_loss,
        };
        let api = cx.api().await?;
        let operation = api.call(async || api.instances().failover_instance(request.clone()).await).await?;
        cx.settle_instance(operation, &self.changing.waiting, &name).await
    }
}
