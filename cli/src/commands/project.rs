//! `windlass project`

use clap::{Args, Subcommand};
use pbjson_types::FieldMask;
use windlass_proto::api::v1 as pb;

use crate::{
    api::PAGE,
    args::{Deleting, FilterArgs, LabelArgs, Mutation, SizeArgs},
    confirm,
    context::Context,
    failure::Failure,
    names,
};

#[derive(Subcommand)]
pub(crate) enum ProjectCommand {
    /// Make a project
    Create(Create),
    /// List projects with what they use of their quota
    #[command(visible_alias = "ls")]
    List(FilterArgs),
    /// Show a project
    #[command(visible_alias = "show")]
    Get { name: String },
    /// Delete an empty project
    Delete(Delete),
    /// Show a project's quota, or change the parts that are given
    Quota(Quota),
}

#[derive(Args)]
pub(crate) struct Create {
    /// Lower-case letters, digits and hyphens
    name: String,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    quota: QuotaArgs,
    #[command(flatten)]
    mutation: Mutation,
    /// Check the request and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
pub(crate) struct Delete {
    name: String,
    #[command(flatten)]
    deleting: Deleting,
    #[command(flatten)]
    mutation: Mutation,
}

#[derive(Args)]
pub(crate) struct Quota {
    /// The project; the one in use if not given
    name: Option<String>,
    #[command(flatten)]
    quota: QuotaArgs,
    #[command(flatten)]
    mutation: Mutation,
    /// Check the request and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
struct QuotaArgs {
    /// Most instances
    #[arg(long, value_name = "NUMBER")]
    instances: Option<u64>,
    #[command(flatten)]
    size: SizeArgs,
}

impl QuotaArgs {
    /// The quota as given, and the paths of what is given.
    fn parts(&self) -> (pb::Quota, Vec<String>) {
        let size = &self.size;
        let resources = pb::Resources {
            cpu_millis: size.cpu.unwrap_or_default(),
            memory_bytes: size.memory.unwrap_or_default(),
            disk_bytes: size.disk.unwrap_or_default(),
        };
        let paths = [
            ("quota.instances", self.instances.is_some()),
            ("quota.resources.cpu_millis", size.cpu.is_some()),
            ("quota.resources.memory_bytes", size.memory.is_some()),
            ("quota.resources.disk_bytes", size.disk.is_some()),
        ];
        let given = paths.into_iter().filter(|(_, given)| *given).map(|(path, _)| path.to_owned()).collect();
        (pb::Quota { instances: self.instances.unwrap_or_default(), resources: Some(resources) }, given)
    }
}

impl ProjectCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(cx).await,
            Self::List(filter) => list(cx, &filter).await,
            Self::Get { name } => cx.out.one(&get(cx, &name).await?),
            Self::Delete(delete) => delete.run(cx).await,
            Self::Quota(quota) => quota.run(cx).await,
        }
    }
}

async fn get(cx: &Context, name: &str) -> Result<pb::Project, Failure> {
    let api = cx.api().await?;
    let request = pb::GetProjectRequest { name: names::project(name) };
    api.call(async || api.projects().get_project(request.clone()).await).await
}

async fn list(cx: &Context, filter: &FilterArgs) -> Result<(), Failure> {
    let api = cx.api().await?;
    let projects = api
        .pages(async |page_token| {
            let request = pb::ListProjectsRequest { page_size: PAGE, page_token, filter: filter.text([]) };
            let answer = api.call(async || api.projects().list_projects(request.clone()).await).await?;
            Ok((answer.projects, answer.next_page_token))
        })
        .await?;
    cx.out.list(&projects)
}

impl Create {
    async fn run(self, cx: &Context) -> Result<(), Failure> {
        let api = cx.api().await?;
        let (quota, given) = self.quota.parts();
        let project = pb::Project {
            labels: self.labels.map(),
            quota: (!given.is_empty()).then_some(quota),
            ..Default::default()
        };
        let request = pb::CreateProjectRequest {
            project_id: names::short(&self.name).to_owned(),
            project: Some(project),
            request_id: self.mutation.request_id(),
            validate_only: self.dry_run,
        };
        let project = api.call(async || api.projects().create_project(request.clone()).await).await?;
        if self.dry_run {
            cx.out.note("valid; nothing was changed");
        }
        cx.out.one(&project)
    }
}

impl Delete {
    async fn run(self, cx: &Context) -> Result<(), Failure> {
        let name = names::short(&self.name);
        confirm::destroying("project", name, "Its keys stop working.", self.deleting.yes)?;
        let api = cx.api().await?;
        let request = pb::DeleteProjectRequest {
            name: names::project(name),
            etag: String::new(),
            request_id: self.mutation.request_id(),
        };
        match api.call(async || api.projects().delete_project(request.clone()).await).await {
            Ok(_) => cx.out.note(format!("project {name} is deleted")),
            Err(failure) if self.deleting.if_exists && failure.is_not_found() => {
                cx.out.note(format!("project {name} does not exist"));
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }
}

impl Quota {
    async fn run(self, cx: &Context) -> Result<(), Failure> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => cx.project().await?,
        };
        let (quota, paths) = self.quota.parts();
        if paths.is_empty() {
            return cx.out.one(&get(cx, &name).await?);
        }
        let api = cx.api().await?;
        let request = pb::UpdateProjectRequest {
            project: Some(pb::Project { name: names::project(&name), quota: Some(quota), ..Default::default() }),
            update_mask: Some(FieldMask { paths }),
            request_id: self.mutation.request_id(),
            validate_only: self.dry_run,
        };
        let project = api.call(async || api.projects().update_project(request.clone()).await).await?;
        if self.dry_run {
            cx.out.note("valid; nothing was changed");
        }
        cx.out.one(&project)
    }
}
