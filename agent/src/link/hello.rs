//! The first words on a connection: what this host is and has, and the catalogues that the control plane lacks.

use windlass_core::{Error, engine::Engine, size::Resources};
use windlass_proto::agent::v1 as pb;

use super::{
    call::{ANSWER, call},
    session::{Client, Link},
};
use crate::members::InstalledEngine;

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct HostDescription {
    /// New for each boot of the machine.
    pub boot_id: String,
    /// What members may use in sum.
    pub capacity: Resources,
    /// Address that clients use for this host's databases.
    pub address: String,
    /// Ports that members may get, first and last.
    pub ports: (u16, u16),
    /// Where other agents reach this one, on `address`; 0 if it does not listen.
    pub peer_port: u16,
}

/// Engine, whole version, and whether the catalogue is known: what a hello tells of engines, in short.
pub(super) type Engines = Vec<(Engine, String, bool)>;

/// What a hello would tell now.
pub(super) fn engines(link: &Link) -> Engines {
    let engines = link.target().engines();
    engines.into_iter().map(|known| (known.engine, known.full_version, known.catalogue.is_some())).collect()
}

/// Says hello, hands over the catalogues asked for, and gives the pace.
pub(super) async fn hello(link: &Link, client: &mut Client) -> Result<pb::Cadence, Error> {
    let host = link.host();
    let engines = link.target().engines().into_iter().map(|installed| with_digest(&installed)).collect::<Vec<_>>();
    let request = pb::HelloRequest {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: host.boot_id.clone(),
        session_id: link.session_id().to_owned(),
        capacity: Some(pb::Capacity {
            cpu_millis: host.capacity.cpu_millis,
            memory_bytes: host.capacity.memory_bytes,
            disk_bytes: host.capacity.disk_bytes,
        }),
        address: host.address.clone(),
        port_low: host.ports.0.into(),
        port_high: host.ports.1.into(),
        engines: engines.iter().map(|(engine, _)| engine.clone()).collect(),
        peer_port: host.peer_port.into(),
    };
    let answer = call(ANSWER, client.hello(link.request(request))).await?;
    for (engine, json) in engines {
        if answer.wanted_catalogues.contains(&engine.catalogue_digest) {
            let request = pb::PutCatalogueRequest {
                engine: engine.engine,
                version: engine.version,
                full_version: engine.full_version,
                digest: engine.catalogue_digest,
                catalogue_json: json,
            };
            call(ANSWER, client.put_catalogue(link.request(request))).await?;
        }
    }
    Ok(answer.cadence.unwrap_or_default())
}

/// An engine as it goes over the wire, and its catalogue as JSON; both the digest and the JSON are empty without one.
fn with_digest(installed: &InstalledEngine) -> (pb::EngineVersion, String) {
    let json = installed.catalogue.as_ref().and_then(|catalogue| serde_json::to_string(catalogue).ok());
    let json = json.unwrap_or_default();
    let digest =
        if json.is_empty() { String::new() } else { hex::encode(windlass_kit::token::digest(json.as_bytes())) };
    let engine = pb::EngineVersion {
        engine: installed.engine.to_string(),
        version: installed.version.clone(),
        full_version: installed.full_version.clone(),
        catalogue_digest: digest,
    };
    (engine, json)
}
