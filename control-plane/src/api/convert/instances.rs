//! Instances.

use std::collections::BTreeMap;

use secrecy::ExposeSecret as _;
use windlass_core::{
    Error,
    instance::{Health, Lifecycle, PlacementRules},
    name::split_path,
};
use windlass_db::{endpoints::EndpointRow, members::MemberRow, supply::OfferedVersion};
use windlass_logic::placement::Verdict;
use windlass_proto::{
    agent::v1::MemberFacts,
    api::v1::{self as pb, instance},
};

use super::{common::failure, operations, replication, resources, size, time};
use crate::{
    api::mask::Mask,
    app::{
        hosts,
        instances::{
            Connection, CreateInstance, Explanation, InstanceName, InstanceView, ParameterView, UpdateInstance, Via,
        },
    },
    ha::ClusterView,
};

/// Paths that an update may name.
const PATHS: &[&str] = &[
    "resources",
    "resources.cpu_millis",
    "resources.memory_bytes",
    "resources.disk_bytes",
    "parameters",
    "parameters.*",
    "labels",
    "deletion_protection",
    "replication",
    "replication.replicas",
    "replication.asynchronous",
    "replication.durability",
    "replication.acknowledgements",
    "replication.timings",
    "replication.timings.detect_ms",
    "replication.timings.shrink_ms",
    "replication.timings.fence_ms",
    "replication.timings.switchover_ms",
];

/// An instance for the wire.
pub(in crate::api) fn instance(view: InstanceView) -> pb::Instance {
    let InstanceView { row, members, cluster, endpoints } = view;
    pb::Instance {
        name: row.path(),
        uid: row.id.to_string(),
        engine: row.spec.engine.to_string(),
        version: row.spec.version,
        resources: Some(resources(row.spec.resources)),
        parameters: row.spec.parameters,
        labels: row.labels,
        placement: Some(pb::Placement {
            region: row.spec.placement.region,
            zone: row.spec.placement.zone,
            host_labels: row.spec.placement.host_labels,
        }),
        deletion_protection: row.spec.deletion_protection,
        state: state(row.lifecycle).into(),
        health: health(row.health).into(),
        health_reasons: row.health_reasons,
        endpoints: proxied(endpoints).chain(members.iter().filter_map(endpoint)).collect(),
        reconciling: row.lifecycle.transient() || row.observed_generation < row.generation,
        members: members.into_iter().map(|row| member(row, cluster.as_ref())).collect(),
        pending_restart: row.pending_restart,
        generation: row.generation.unsigned_abs(),
        observed_generation: row.observed_generation.unsigned_abs(),
        last_operation: row.last_operation_id.map(operations::full).unwrap_or_default(),
        etag: row.revision.to_string(),
        create_time: Some(time(row.create_time)),
        update_time: Some(time(row.update_time)),
        delete_time: row.delete_time.map(time),
        purge_time: row.purge_time.map(time),
        error: row.error.as_ref().map(failure),
        replication: Some(replication::shown(&row.spec.replication)),
        replication_status: cluster.as_ref().map(replication::status),
    }
}

/// Those of members are read from the members, so that they are never late.
fn proxied(endpoints: Vec<EndpointRow>) -> impl Iterator<Item = pb::Endpoint> {
    endpoints.into_iter().filter(|endpoint| endpoint.via == "proxy").map(|endpoint| pb::Endpoint {
        host: endpoint.host,
        port: endpoint.port.into(),
        role: endpoint.role,
        via: endpoint.via,
    })
}

fn endpoint(member: &MemberRow) -> Option<pb::Endpoint> {
    let port = member.port?;
    Some(pb::Endpoint {
        host: member.host_address.clone(),
        port: port.into(),
        role: member.role.to_string(),
        via: "direct".to_owned(),
    })
}

fn member(row: MemberRow, cluster: Option<&ClusterView>) -> pb::Member {
    // What an agent of another version reported may not read as ours: its numbers are unknown then, not wrong.
    let facts: MemberFacts = serde_json::from_value(row.facts).unwrap_or_default();
    pb::Member {
        uid: row.id.to_string(),
        host: hosts::full(&row.host_name),
        role: row.role.to_string(),
        asynchronous: row.asynchronous,
        zone: row.zone,
        port: row.port.map(u32::from).unwrap_or_default(),
        process: row.process.to_string(),
        observed_time: row.observed_time.map(time),
        disk_used_bytes: facts.disk_used_bytes,
        memory_used_bytes: facts.memory_used_bytes,
        connections: facts.connections,
        pid: facts.pid,
        replica_state: cluster.map(|cluster| cluster.state(row.id).to_owned()).unwrap_or_default(),
        lag_bytes: cluster.and_then(|cluster| cluster.lag(row.id)).unwrap_or_default(),
    }
}

fn state(state: Lifecycle) -> instance::State {
    match state {
        Lifecycle::Pending => instance::State::Pending,
        Lifecycle::Creating => instance::State::Creating,
        Lifecycle::Running => instance::State::Running,
        Lifecycle::Modifying => instance::State::Modifying,
        Lifecycle::Stopping => instance::State::Stopping,
        Lifecycle::Stopped => instance::State::Stopped,
        Lifecycle::Suspended => instance::State::Suspended,
        Lifecycle::Deleting => instance::State::Deleting,
        Lifecycle::Deleted => instance::State::Deleted,
        Lifecycle::Error => instance::State::Error,
    }
}

fn health(health: Health) -> instance::Health {
    match health {
        Health::Unknown => instance::Health::Unknown,
        Health::Healthy => instance::Health::Healthy,
        Health::Degraded => instance::Health::Degraded,
        Health::Unhealthy => instance::Health::Unhealthy,
    }
}

/// An instance's full name, given in `field`.
///
/// # Errors
/// `INVALID_FIELD`.
pub(in crate::api) fn name(field: &str, path: &str) -> Result<InstanceName, Error> {
    let [project, instance] = split_path(field, path, ["projects", "instances"])?;
    Ok(InstanceName { project, instance })
}

/// An instance to make.
///
/// # Errors
/// `INVALID_FIELD` on `parent`.
pub(in crate::api) fn create(message: pb::CreateInstanceRequest) -> Result<CreateInstance, Error> {
    let [project] = split_path("parent", &message.parent, ["projects"])?;
    let given = message.instance.unwrap_or_default();
    let rules = given.placement.unwrap_or_default();
    Ok(CreateInstance {
        project,
        instance_id: message.instance_id,
        engine: given.engine,
        version: given.version,
        resources: size(given.resources.as_ref()),
        parameters: given.parameters,
        labels: given.labels,
        placement: PlacementRules { region: rules.region, zone: rules.zone, host_labels: rules.host_labels },
        deletion_protection: given.deletion_protection,
        replication: replication::wanted(given.replication.unwrap_or_default()),
    })
}

/// What an update sets. Without a mask: parts of the size that are not 0, parameters one by one, labels if there are
/// any, protection if it is on.
///
/// # Errors
/// `INVALID_FIELD` on `update_mask`.
pub(in crate::api) fn update(
    given: &pb::Instance,
    mask: Option<pbjson_types::FieldMask>,
) -> Result<UpdateInstance, Error> {
    let asked = size(given.resources.as_ref());
    let single: Vec<String> = given.parameters.keys().map(|name| format!("parameters.{name}")).collect();
    let mut set: Vec<&str> = [
        ("resources.cpu_millis", asked.cpu_millis != 0),
        ("resources.memory_bytes", asked.memory_bytes != 0),
        ("resources.disk_bytes", asked.disk_bytes != 0),
        ("labels", !given.labels.is_empty()),
        ("deletion_protection", given.deletion_protection),
    ]
    .into_iter()
    .chain(replication::given(given.replication.as_ref()))
    .filter_map(|(path, is_set)| is_set.then_some(path))
    .collect();
    set.extend(single.iter().map(String::as_str));
    let mask = Mask::read(mask, PATHS, &set)?;
    let parameters: BTreeMap<String, Option<String>> =
        mask.below("parameters").map(|name| (name.to_owned(), given.parameters.get(name).cloned())).collect();
    Ok(UpdateInstance {
        cpu_millis: mask.has("resources.cpu_millis").then_some(asked.cpu_millis),
        memory_bytes: mask.has("resources.memory_bytes").then_some(asked.memory_bytes),
        disk_bytes: mask.has("resources.disk_bytes").then_some(asked.disk_bytes),
        all_parameters: mask.has("parameters").then(|| given.parameters.clone()),
        parameters,
        labels: mask.has("labels").then(|| given.labels.clone()),
        deletion_protection: mask.has("deletion_protection").then_some(given.deletion_protection),
        replication: replication::change(given.replication.unwrap_or_default(), |path| mask.has(path)),
    })
}

/// An explanation for the wire.
pub(in crate::api) fn explanation(given: Explanation) -> pb::ExplainInstanceResponse {
    pb::ExplainInstanceResponse { summary: given.summary, hosts: given.verdicts.into_iter().map(verdict).collect() }
}

fn verdict(verdict: Verdict) -> pb::HostVerdict {
    pb::HostVerdict {
        host: hosts::full(&verdict.name),
        chosen: verdict.chosen,
        rejections: verdict.rejections.into_iter().map(|rejection| rejection.message).collect(),
        score: verdict.score,
        score_parts: verdict.parts,
    }
}

/// Credentials for the wire.
pub(in crate::api) fn connection(given: &Connection, ca_pem: &str) -> pb::Connection {
    let (host, port) = given.addresses.first().cloned().unwrap_or_default();
    pb::Connection {
        engine: given.engine.to_string(),
        host,
        port: port.into(),
        user: given.user.clone(),
        password: given.password.expose_secret().to_owned(),
        database: given.database.clone(),
        ca_pem: ca_pem.to_owned(),
        uri: given.uri.clone(),
        client: given.engine.descriptor().client.to_owned(),
        state: state(given.lifecycle).into(),
        via: via(given.via).to_owned(),
        addresses: given
            .addresses
            .iter()
            .map(|(host, port)| pb::connection::Address { host: host.clone(), port: u32::from(*port) })
            .collect(),
        session_attributes: given.session_attributes.unwrap_or_default().to_owned(),
    }
}

fn via(via: Via) -> &'static str {
    match via {
        Via::Proxy => "proxy",
        Via::Direct => "direct",
    }
}

/// A parameter for the wire.
pub(in crate::api) fn parameter(view: ParameterView) -> pb::ParameterInfo {
    pb::ParameterInfo {
        name: view.name,
        value: view.value,
        origin: view.origin.to_string(),
        apply: view.apply.to_string(),
        domain: view.domain,
        engine_default: view.engine_default,
        description: view.description,
        pending_restart: view.pending_restart,
    }
}

/// A version for the wire.
pub(in crate::api) fn version(offered: OfferedVersion) -> pb::EngineVersion {
    pb::EngineVersion { engine: offered.engine.to_string(), version: offered.version, hosts: offered.hosts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(paths: &[&str]) -> Option<pbjson_types::FieldMask> {
        Some(pbjson_types::FieldMask { paths: paths.iter().map(|p| (*p).to_owned()).collect() })
    }

    #[test]
    fn a_parameter_in_the_mask_and_absent_is_reset() {
        let given = pb::Instance {
            parameters: BTreeMap::from([("work_mem".to_owned(), "8MB".to_owned())]),
            ..pb::Instance::default()
        };
        let update = update(&given, mask(&["parameters.work_mem", "parameters.auto_explain.log_min_duration"]));
        let parameters = update.expect("known paths").parameters;
        assert_eq!(parameters["work_mem"].as_deref(), Some("8MB"));
        assert_eq!(parameters["auto_explain.log_min_duration"], None);
    }

    #[test]
    fn without_a_mask_only_what_is_set_changes() {
        let given = pb::Instance {
            resources: Some(pb::Resources { memory_bytes: 1 << 30, ..pb::Resources::default() }),
            parameters: BTreeMap::from([("work_mem".to_owned(), "8MB".to_owned())]),
            ..pb::Instance::default()
        };
        let update = update(&given, None).expect("something is set");
        assert_eq!((update.cpu_millis, update.memory_bytes, update.disk_bytes), (None, Some(1 << 30), None));
        assert!(update.all_parameters.is_none() && update.labels.is_none() && update.deletion_protection.is_none());
        assert_eq!(update.parameters.len(), 1);
    }

    #[test]
    fn the_engine_is_not_updatable() {
        let error = update(&pb::Instance::default(), mask(&["engine"])).expect_err("engine");
        assert!(error.message.contains("\"engine\" cannot be updated"), "{error}");
    }
}
