//! `windlass param`

use clap::{Args, Subcommand};
use windlass_proto::api::v1 as pb;

use super::instance_change::How;
use crate::{context::Context, failure::Failure, units};

#[derive(Subcommand)]
pub(crate) enum ParamCommand {
    /// List the parameters that you or Windlass set
    #[command(visible_alias = "ls")]
    List(List),
    /// Set parameters
    Set(Set),
    /// Put parameters back to their defaults
    Reset(Reset),
}

#[derive(Args)]
pub(crate) struct List {
    instance: String,
    /// Every parameter that the engine knows
    #[arg(long, conflicts_with = "mine")]
    all: bool,
    /// Only those that you set
    #[arg(long)]
    mine: bool,
}

#[derive(Args)]
pub(crate) struct Set {
    instance: String,
    #[arg(required = true, value_name = "PARAMETER=VALUE", value_parser = units::pair)]
    parameters: Vec<(String, String)>,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
pub(crate) struct Reset {
    instance: String,
    #[arg(required = true, value_name = "PARAMETER")]
    parameters: Vec<String>,
    #[command(flatten)]
    how: How,
}

impl ParamCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(cx).await,
            Self::Set(set) => set.how.change_parameters(cx, &set.instance, set.parameters, &[]).await,
            Self::Reset(reset) => reset.how.change_parameters(cx, &reset.instance, Vec::new(), &reset.parameters).await,
        }
    }
}

impl List {
    async fn run(self, cx: &Context) -> Result<(), Failure> {
        let api = cx.api().await?;
        let request = pb::ListParametersRequest { name: cx.instance(&self.instance).await?, user_only: self.mine };
        let answer = api.call(async || api.instances().list_parameters(request.clone()).await).await?;
        let mut parameters = answer.parameters;
        parameters.retain(|parameter| self.all || parameter.origin != "engine");
        cx.out.list(&parameters)
    }
}
