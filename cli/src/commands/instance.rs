//! `windlass instance`: listing, looking, and the verbs without arguments of their own.

use clap::{Args, Subcommand};
use windlass_proto::api::v1 as pb;

use super::{
    event::Shown,
    instance_change::Update,
    instance_create::Create,
    instance_move::{Failover, Switchover},
};
use crate::{
    api::PAGE,
    args::{Changing, Deleting, FilterArgs},
    confirm,
    context::Context,
    failure::Failure,
    names,
    output::{Format, Show as _, print, table},
};

#[derive(Subcommand)]
pub(crate) enum InstanceCommand {
    /// Make an instance
    Create(Create),
    /// List instances
    #[command(visible_alias = "ls")]
    List(List),
    /// Show an instance
    #[command(visible_alias = "show")]
    Get { name: String },
    /// Change size, parameters, labels, protection or replication
    Update(Update),
    /// Delete an instance; its data is kept for the undelete window
    Delete(Delete),
    /// Bring a deleted instance back
    Undelete(Verb),
    /// Start a stopped instance
    Start(Verb),
    /// Stop an instance; its data is kept
    Stop(Verb),
    /// Restart the database processes
    Restart(Verb),
    /// Move the primary to a replica in order; clients of proxies are held meanwhile
    Switchover(Switchover),
    /// Promote a replica without the old primary
    Failover(Failover),
    /// Say why it is where it is, what it waits for and what is wrong
    Explain { name: String },
    /// List what happened to it
    Events {
        name: String,
        #[command(flatten)]
        shown: Shown,
    },
}

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    filter: FilterArgs,
    /// Only those in this state, for example RUNNING
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only those of this engine
    #[arg(long, value_name = "ENGINE")]
    engine: Option<String>,
    /// Of all projects that the key may see
    #[arg(long, short = 'A')]
    all_projects: bool,
    /// Also deleted ones that can be brought back
    #[arg(long)]
    deleted: bool,
}

#[derive(Args)]
pub(crate) struct Delete {
    name: String,
    /// Remove the data at once; it cannot be brought back
    #[arg(long)]
    purge: bool,
    #[command(flatten)]
    deleting: Deleting,
    #[command(flatten)]
    changing: Changing,
}

#[derive(Args)]
pub(crate) struct Verb {
    name: String,
    #[command(flatten)]
    changing: Changing,
}

impl InstanceCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(cx).await,
            Self::List(list) => list.run(cx).await,
            Self::Get { name } => {
                let name = cx.instance(&name).await?;
                cx.out.one(&get(cx, &name).await?)
            }
            Self::Update(update) => update.run(cx).await,
            Self::Delete(delete) => delete.run(cx).await,
            Self::Undelete(verb) => verb.undelete(cx).await,
            Self::Start(verb) => verb.run(cx, Power::Start).await,
            Self::Stop(verb) => verb.run(cx, Power::Stop).await,
            Self::Restart(verb) => verb.run(cx, Power::Restart).await,
            Self::Switchover(switchover) => switchover.run(cx).await,
            Self::Failover(failover) => failover.run(cx).await,
            Self::Explain { name } => explain(cx, &name).await,
            Self::Events { name, shown } => {
                let target = cx.instance(&name).await?;
                shown.run(cx, names::project(names::project_of(&target)), target).await
            }
        }
    }
}

/// The instance of this full name.
pub(super) async fn get(cx: &Context, name: &str) -> Result<pb::Instance, Failure> {
    let api = cx.api().await?;
    let request = pb::GetInstanceRequest { name: name.to_owned() };
    api.call(async || api.instances().get_instance(request.clone()).await).await
}

impl List {
    async fn run(self, cx: &Context) -> Result<(), Failure> {
        let api = cx.api().await?;
        let parent = if self.all_projects { "projects/-".to_owned() } else { names::project(&cx.project().await?) };
        let filter = self.filter.text([("state", self.state), ("engine", self.engine)]);
        let instances = api
            .pages(async |page_token| {
                let request = pb::ListInstancesRequest {
                    parent: parent.clone(),
                    page_size: PAGE,
                    page_token,
                    filter: filter.clone(),
                    show_deleted: self.deleted,
                };
                let answer = api.call(async || api.instances().list_instances(request.clone()).await).await?;
                Ok((answer.instances, answer.next_page_token))
            })
            .await?;
        if cx.out.format() != Format::Table || !self.all_projects || instances.is_empty() {
            return cx.out.list(&instances);
        }
        let now = jiff::Timestamp::now();
        let titles: Vec<_> = std::iter::once("PROJECT").chain(pb::Instance::COLUMNS.iter().copied()).collect();
        let rows = instances.iter().map(|instance| {
            let project = names::project_of(&instance.name).to_owned();
            std::iter::once(project).chain(instance.row(now)).collect()
        });
        print(&table(&titles, rows))
    }
}

impl Delete {
    async fn run(self, cx: &Context) -> Result<(), Failure> {
        let name = cx.instance(&self.name).await?;
        let short = names::short(&name);
        let consequence = if self.purge {
            "Its data is removed at once and cannot be brought back."
        } else {
            "Its data is kept for the undelete window."
        };
        confirm::destroying("instance", short, consequence, self.deleting.yes)?;
        let api = cx.api().await?;
        let request = pb::DeleteInstanceRequest {
            name: name.clone(),
            etag: String::new(),
            request_id: self.changing.mutation.request_id(),
            purge: self.purge,
        };
        let operation = match api.call(async || api.instances().delete_instance(request.clone()).await).await {
            Ok(operation) => operation,
            Err(failure) if self.deleting.if_exists && failure.is_not_found() => {
                cx.out.note(format!("instance {short} does not exist"));
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        let done = if self.purge {
            format!("instance {short} is deleted")
        } else {
            format!("instance {short} is deleted; bring it back with: windlass instance undelete {short}")
        };
        cx.settle(operation, &self.changing.waiting, &done).await
    }
}

/// A verb on the processes of an instance.
enum Power {
    Start,
    Stop,
    Restart,
}

impl Verb {
    async fn run(self, cx: &Context, power: Power) -> Result<(), Failure> {
        let name = cx.instance(&self.name).await?;
        let api = cx.api().await?;
        let request = pb::InstanceVerbRequest {
            name: name.clone(),
            etag: String::new(),
            request_id: self.changing.mutation.request_id(),
        };
        let operation = api
            .call(async || match power {
                Power::Start => api.instances().start_instance(request.clone()).await,
                Power::Stop => api.instances().stop_instance(request.clone()).await,
                Power::Restart => api.instances().restart_instance(request.clone()).await,
            })
            .await?;
        cx.settle_instance(operation, &self.changing.waiting, &name).await
    }

    async fn undelete(self, cx: &Context) -> Result<(), Failure> {
        let name = cx.instance(&self.name).await?;
        let api = cx.api().await?;
        let request =
            pb::UndeleteInstanceRequest { name: name.clone(), request_id: self.changing.mutation.request_id() };
        let operation = api.call(async || api.instances().undelete_instance(request.clone()).await).await?;
        cx.settle_instance(operation, &self.changing.waiting, &name).await
    }
}

async fn explain(cx: &Context, name: &str) -> Result<(), Failure> {
    let api = cx.api().await?;
    let request = pb::ExplainInstanceRequest { name: cx.instance(name).await? };
    let answer = api.call(async || api.instances().explain_instance(request.clone()).await).await?;
    let mut text = answer.summary.join("\n");
    if !answer.hosts.is_empty() {
        let now = jiff::Timestamp::now();
        text.push_str("\n\nThe last placement:\n");
        text.push_str(&table(pb::HostVerdict::COLUMNS, answer.hosts.iter().map(|host| host.row(now))));
    }
    cx.out.text(&text, &answer)
}
