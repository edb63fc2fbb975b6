//! `windlass engine`

use clap::Subcommand;
use windlass_proto::api::v1 as pb;

use crate::{context::Context, failure::Failure};

#[derive(Subcommand)]
pub(crate) enum EngineCommand {
    /// List engines and versions
    #[command(visible_alias = "ls")]
    List,
}

impl EngineCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result<(), Failure> {
        match self {
            Self::List => {
                let api = cx.api().await?;
                let request = pb::ListEngineVersionsRequest {};
                let answer = api.call(async || api.instances().list_engine_versions(request).await).await?;
                cx.out.list(&answer.versions)
            }
        }
    }
}
