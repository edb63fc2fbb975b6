//! `windlass instance create`

use std::collections::BTreeMap;

use clap::Args;
use windlass_core::size::Resources;
use windlass_proto::api::v1 as pb;

use crate::{
    args::{Changing, LabelArgs, ReplicationArgs, SizeArgs},
    context::Context,
    failure::Failure,
    names, units,
};

#[derive(Args)]
pub(crate) struct Create {
    /// Lower-case letters, digits and hyphens
    name: String,
    /// postgres or mariadb
    #[arg(long, short, value_name = "ENGINE")]
    engine: String,
    /// Major version, for example 15; the newest that a host has if not given
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    #[command(flatten)]
    size: SizeArgs,
    /// A parameter of the engine; may be repeated
    #[arg(long, value_name = "PARAMETER=VALUE", value_parser = units::pair)]
    set: Vec<(String, String)>,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    replication: ReplicationArgs,
    /// Refuse to delete it until the protection is lifted
    #[arg(long)]
    deletion_protection: bool,
    /// Check everything, also placement and quota, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    changing: Changing,
}

#[derive(Args)]
struct PlaceArgs {
    /// Only hosts of this region
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Only hosts of this zone
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Only hosts with this label; may be repeated
    #[arg(long = "host-label", value_name = "KEY=VALUE", value_parser = units::pair)]
    host_labels: Vec<(String, String)>,
}

impl Create {
    pub(super) async fn run(self, cx: &Context) -> Result<(), Failure> {
        let name = cx.instance(&self.name).await?;
        let request = pb::CreateInstanceRequest {
            parent: names::project(names::project_of(&name)),
            instance_id: names::short(&name).to_owned(),
            request_id: self.changing.mutation.request_id(),
            validate_only: self.dry_run,
            instance: Some(self.instance()),
        };
        let api = cx.api().await?;
        let operation = api.call(async || api.instances().create_instance(request.clone()).await).await?;
        if self.dry_run {
            return cx.checked(&operation);
        }
        cx.settle_instance(operation, &self.changing.waiting, &name).await
    }

    fn instance(&self) -> pb::Instance {
        let size = &self.size;
        let sized = size.cpu.is_some() || size.memory.is_some() || size.disk.is_some();
        // What is not given of a size follows the default, so that `--memory` alone means what it says.
        let resources = pb::Resources {
            cpu_millis: size.cpu.unwrap_or(Resources::DEFAULT.cpu_millis),
            memory_bytes: size.memory.unwrap_or(Resources::DEFAULT.memory_bytes),
            disk_bytes: size.disk.unwrap_or(Resources::DEFAULT.disk_bytes),
        };
        let placement = pb::Placement {
            region: self.place.region.clone().unwrap_or_default(),
            zone: self.place.zone.clone().unwrap_or_default(),
            host_labels: self.place.host_labels.iter().cloned().collect(),
        };
        pb::Instance {
            engine: self.engine.clone(),
            version: self.version.clone().unwrap_or_default(),
            resources: sized.then_some(resources),
            parameters: self.set.iter().cloned().collect::<BTreeMap<_, _>>(),
            labels: self.labels.map(),
            placement: (placement != pb::Placement::default()).then_some(placement),
            replication: self.replication.wanted(),
            deletion_protection: self.deletion_protection,
            ..Default::default()
        }
    }
}
