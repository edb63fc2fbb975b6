//! What every command needs: the settings in force, the connection (made when first used), and the printer.

use tokio::sync::OnceCell;
use windlass_proto::api::v1 as pb;

use crate::{
    api::Api,
    args::GlobalArgs,
    config::{self, Profile},
    failure::Failure,
    names,
    output::Output,
    transport,
};

/// One invocation.
pub(crate) struct Context {
    pub(crate) global: GlobalArgs,
    pub(crate) out: Output,
    api: OnceCell<Api>,
    /// Name of the instance that the command is about, for suggestions.
    subject: std::cell::OnceCell<String>,
}

impl Context {
    pub(crate) fn new(global: GlobalArgs) -> Self {
        let out = Output::new(global.output, global.quiet);
        Self { global, out, api: OnceCell::new(), subject: std::cell::OnceCell::new() }
    }

    /// The settings in force.
    pub(crate) fn settings(&self) -> Result<Profile, Failure> {
        config::settings(&self.global)
    }

    /// The API, connected on first use.
    pub(crate) async fn api(&self) -> Result<&Api, Failure> {
        self.api
            .get_or_try_init(|| async {
                let settings = self.settings()?;
                let endpoint = settings.endpoint.ok_or_else(|| {
                    Failure::Usage(
                        "no endpoint; set WINDLASS_ENDPOINT or store one with `windlass profile set`".to_owned(),
                    )
                })?;
                let token = settings.token.ok_or(Failure::NoKey)?;
                let channel = transport::connect(&endpoint, settings.ca.as_deref()).await?;
                Api::new(channel, &token)
            })
            .await
    }

    /// Name of the project to work in: as set, else the key's own, else the only one there is.
    pub(crate) async fn project(&self) -> Result<String, Failure> {
        if let Some(project) = self.settings()?.project {
            return Ok(names::short(&project).to_owned());
        }
        let api = self.api().await?;
        let key = api.call(async || api.keys().who_am_i(pb::WhoAmIRequest {}).await).await?;
        if !key.project.is_empty() {
            return Ok(names::short(&key.project).to_owned());
        }
        let request = pb::ListProjectsRequest { page_size: 10, ..Default::default() };
        let projects = api.call(async || api.projects().list_projects(request.clone()).await).await?.projects;
        match projects.as_slice() {
            [only] => Ok(names::short(&only.name).to_owned()),
            [] => {
                Err(Failure::Usage("there is no project yet; make one with `windlass project create NAME`".to_owned()))
            }
            many => {
                let names: Vec<_> = many.iter().map(|project| names::short(&project.name)).collect();
                Err(Failure::Usage(format!(
                    "several projects exist ({}); choose one with --project or WINDLASS_PROJECT",
                    names.join(", ")
                )))
            }
        }
    }

    /// Full name of an instance. A full one needs no project.
    pub(crate) async fn instance(&self, given: &str) -> Result<String, Failure> {
        self.subject.get_or_init(|| names::short(given).to_owned());
        if given.starts_with("projects/") {
            return Ok(given.to_owned());
        }
        Ok(names::instance(&self.project().await?, given))
    }

    /// Name of the instance that the command is about, once it was asked for.
    pub(crate) fn subject(&self) -> Option<&str> {
        self.subject.get().map(String::as_str)
    }
}
