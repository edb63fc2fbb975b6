//! `windlass instance update`, and changes of parameters, which are updates too.

use std::collections::BTreeMap;

use clap::{ArgAction, Args};
use pbjson_types::FieldMask;
use windlass_proto::api::v1 as pb;

use super::instance;
use crate::{
    args::{Changing, LabelChanges, ReplicationArgs, SizeArgs},
    context::Context,
    failure::Failure,
    units,
};

#[derive(Args)]
pub(crate) struct Update {
    name: String,
    #[command(flatten)]
    size: SizeArgs,
    /// Set a parameter of the engine; may be repeated
    #[arg(long, value_name = "PARAMETER=VALUE", value_parser = units::pair)]
    set: Vec<(String, String)>,
    /// Put a parameter back to its default; may be repeated
    #[arg(long, value_name = "PARAMETER")]
    reset: Vec<String>,
    #[command(flatten)]
    labels: LabelChanges,
    #[command(flatten)]
    replication: ReplicationArgs,
    /// Refuse to delete it: true or false
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    deletion_protection: Option<bool>,
    #[command(flatten)]
    how: How,
}

/// How a change of an instance is made.
#[derive(Args)]
pub(crate) struct How {
    /// Restart at once if a changed parameter needs it; otherwise the change waits for the next restart
    #[arg(long)]
    restart: bool,
    /// Check the request and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    changing: Changing,
}

impl Update {
    pub(super) async fn run(self, cx: &Context) -> Result<(), Failure> {
        let name = cx.instance(&self.name).await?;
        let mut wanted = pb::Instance { name, ..Default::default() };
        let mut paths = Vec::new();
        let size = &self.size;
        wanted.resources = Some(pb::Resources {
            cpu_millis: size.cpu.unwrap_or_default(),
            memory_bytes: size.memory.unwrap_or_default(),
            disk_bytes: size.disk.unwrap_or_default(),
        });
        let parts = [("cpu_millis", size.cpu), ("memory_bytes", size.memory), ("disk_bytes", size.disk)];
        paths.extend(parts.iter().filter(|(_, given)| given.is_some()).map(|(part, _)| format!("resources.{part}")));
        wanted.replication = self.replication.wanted();
        paths.extend(self.replication.paths().into_iter().map(str::to_owned));
        if let Some(protected) = self.deletion_protection {
            wanted.deletion_protection = protected;
            paths.push("deletion_protection".to_owned());
        }
        if self.labels.any() {
            // Labels are replaced as a whole; the etag makes a change in between a conflict and not a loss.
            let current = instance::get(cx, &wanted.name).await?;
            wanted.etag = current.etag;
            wanted.labels = current.labels;
            self.labels.apply(&mut wanted.labels);
            paths.push("labels".to_owned());
        }
        parameters(&mut wanted, &mut paths, self.set, &self.reset);
        self.how.send(cx, wanted, paths).await
    }
}

/// Adds changes of parameters to an update. A parameter in the mask without a value goes back to its default.
fn parameters(wanted: &mut pb::Instance, paths: &mut Vec<String>, set: Vec<(String, String)>, reset: &[String]) {
    let set: BTreeMap<_, _> = set.into_iter().collect();
    let named = set.keys().chain(reset.iter().filter(|name| !set.contains_key(*name)));
    paths.extend(named.map(|name| format!("parameters.{name}")));
    wanted.parameters = set;
}

impl How {
    /// Sets and resets parameters of an instance.
    pub(super) async fn change_parameters(
        self,
        cx: &Context,
        instance: &str,
        set: Vec<(String, String)>,
        reset: &[String],
    ) -> Result<(), Failure> {
        let mut wanted = pb::Instance { name: cx.instance(instance).await?, ..Default::default() };
        let mut paths = Vec::new();
        parameters(&mut wanted, &mut paths, set, reset);
        self.send(cx, wanted, paths).await
    }

    async fn send(self, cx: &Context, wanted: pb::Instance, paths: Vec<String>) -> Result<(), Failure> {
        if paths.is_empty() {
            return Err(Failure::Usage(
                "nothing to change; give for example --memory 1GiB or --set work_mem=8MB".to_owned(),
            ));
        }
        let name = wanted.name.clone();
        let request = pb::UpdateInstanceRequest {
            instance: Some(wanted),
            update_mask: Some(FieldMask { paths }),
            request_id: self.changing.mutation.request_id(),
            validate_only: self.dry_run,
            restart_if_needed: self.restart,
        };
        let api = cx.api().await?;
        let operation = api.call(async || api.instances().update_instance(request.clone()).await).await?;
        if self.dry_run {
            return cx.checked(&operation);
        }
        cx.settle_instance(operation, &self.changing.waiting, &name).await
    }
}
