//! `windlass operation`

use std::time::Duration;

use clap::{Args, Subcommand};
use windlass_proto::api::v1 as pb;

use crate::{api::PAGE, context::Context, failure::Failure, names, units};

#[derive(Subcommand)]
pub(crate) enum OperationCommand {
    /// List operations
    #[command(visible_alias = "ls")]
    List(List),
    /// Show an operation and its steps
    #[command(visible_alias = "show")]
    Get { operation: String },
    /// Wait for operations to end
    #[command(visible_alias = "watch")]
    Wait(Wait),
    /// Ask for a cancel; what was done so far is undone
    Cancel { operation: String },
}

#[derive(Args)]
pub(crate) struct List {
    /// Only those on this instance
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Only those that are not done
    #[arg(long)]
    active: bool,
    /// Of all projects that the key may see
    #[arg(long, short = 'A', conflicts_with = "instance")]
    all_projects: bool,
    /// At most this many, newest first
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=500))]
    limit: i32,
}

#[derive(Args)]
pub(crate) struct Wait {
    #[arg(required = true)]
    operations: Vec<String>,
    /// Give up waiting after this time; the operations go on
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "30m")]
    timeout: Duration,
}

impl OperationCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(cx).await,
            Self::Get { operation } => cx.out.one(&get(cx, &operation).await?),
            Self::Wait(wait) => wait.run(cx).await,
            Self::Cancel { operation } => {
                let api = cx.api().await?;
                let request = pb::CancelOperationRequest { name: names::in_collection("operations", &operation) };
                let operation = api.call(async || api.operations().cancel_operation(request.clone()).await).await?;
                cx.out.one(&operation)
            }
        }
    }
}

async fn get(cx: &Context, operation: &str) -> Result<pb::Operation, Failure> {
    let api = cx.api().await?;
    let request = pb::GetOperationRequest { name: names::in_collection("operations", operation) };
    api.call(async || api.operations().get_operation(request.clone()).await).await
}

impl List {
    async fn run(self, cx: &Context) -> Result<(), Failure> {
        let api = cx.api().await?;
        let target = match &self.instance {
            Some(instance) => cx.instance(instance).await?,
            None => String::new(),
        };
        let parent = match (self.all_projects, names::project_of(&target)) {
            (true, _) => String::new(),
            (false, "") => names::project(&cx.project().await?),
            (false, project) => names::project(project),
        };
        let request = pb::ListOperationsRequest {
            parent,
            page_size: self.limit.min(PAGE),
            page_token: String::new(),
            target,
            active_only: self.active,
        };
        let answer = api.call(async || api.operations().list_operations(request.clone()).await).await?;
        cx.out.list(&answer.operations)
    }
}

impl Wait {
    async fn run(self, cx: &Context) -> Result<(), Failure> {
        for name in &self.operations {
            let operation = get(cx, name).await?;
            let operation = cx.wait(operation, self.timeout).await?;
            cx.out.document_only(&operation)?;
        }
        Ok(())
    }
}
