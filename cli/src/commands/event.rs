//! `windlass event`, and the events of one instance.

use std::time::Duration;

use clap::{Args, Subcommand};
use windlass_proto::api::v1 as pb;

use crate::{context::Context, failure::Failure, names};

/// Pause between two looks for new events.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Subcommand)]
pub(crate) enum EventCommand {
    /// List events, newest last
    #[command(visible_alias = "ls")]
    List(List),
}

#[derive(Args)]
pub(crate) struct List {
    /// Of all projects, hosts and keys that the key may see
    #[arg(long, short = 'A')]
    all_projects: bool,
    /// Only about this resource, by its full name, for example hosts/host-1
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    #[command(flatten)]
    shown: Shown,
}

/// Which events to show.
#[derive(Args)]
pub(crate) struct Shown {
    /// At most this many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=500))]
    limit: i32,
    /// Go on showing new ones until Ctrl-C
    #[arg(long, short)]
    follow: bool,
}

impl EventCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result<(), Failure> {
        match self {
            Self::List(list) => {
                let everywhere = list.all_projects || list.target.is_some();
                let parent = if everywhere { String::new() } else { names::project(&cx.project().await?) };
                list.shown.run(cx, parent, list.target.unwrap_or_default()).await
            }
        }
    }
}

impl Shown {
    pub(super) async fn run(self, cx: &Context, parent: String, target: String) -> Result<(), Failure> {
        let api = cx.api().await?;
        let mut request = pb::ListEventsRequest { parent, target, after_id: 0, page_size: self.limit, latest: true };
        let mut events = api.call(async || api.events().list_events(request.clone()).await).await?.events;
        cx.out.list(&events)?;
        if !self.follow {
            return Ok(());
        }
        request.latest = false;
        loop {
            request.after_id = events.last().map_or(request.after_id, |event| event.id);
            tokio::time::sleep(LOOK_AGAIN).await;
            events = api.call(async || api.events().list_events(request.clone()).await).await?.events;
            if !events.is_empty() {
                cx.out.list(&events)?;
            }
        }
    }
}
