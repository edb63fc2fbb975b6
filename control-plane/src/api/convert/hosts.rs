//! Hosts and join tokens.

use windlass_core::{Error, host::HostState, id::JoinTokenId, name::split_path, proxy::TokenPurpose};
use windlass_db::{hosts::HostRow, join_tokens::JoinTokenRow};
use windlass_proto::api::v1 as pb;

use super::{duration, resources, time};
use crate::{
    api::mask::Mask,
    app::{
        hosts::{HostUpdate, full},
        proxies,
        tokens::TokenRequest,
    },
};

/// Paths that an update may name.
const PATHS: &[&str] =
    &["region", "zone", "labels", "cpu_overcommit", "memory_overcommit", "disk_overcommit", "cost_weight"];

/// A host for the wire.
pub(in crate::api) fn host(row: HostRow) -> pb::Host {
    let load = pb::HostLoad {
        cpu_percent: row.load.cpu_percent,
        memory_used_bytes: row.usage.memory_used_bytes,
        disk_free_bytes: row.usage.disk_free_bytes,
        psi_cpu: row.load.psi_cpu,
        psi_memory: row.load.psi_memory,
        psi_io: row.load.psi_io,
    };
    let engine = |e: windlass_db::hosts::HostEngine| pb::HostEngine {
        engine: e.engine,
        version: e.version,
        full_version: e.full_version,
    };
    pb::Host {
        name: full(&row.name),
        uid: row.id.to_string(),
        region: row.settings.region,
        zone: row.settings.zone,
        labels: row.settings.labels,
        cpu_overcommit: row.settings.cpu_overcommit,
        memory_overcommit: row.settings.memory_overcommit,
        disk_overcommit: row.settings.disk_overcommit,
        cost_weight: row.settings.cost_weight,
        state: state(row.state).into(),
        cordoned: row.cordoned,
        capacity: Some(resources(row.capacity)),
        reserved: Some(resources(row.reserved)),
        address: row.address,
        agent_version: row.agent_version,
        engines: row.engines.into_iter().map(engine).collect(),
        create_time: Some(time(row.create_time)),
        last_seen_time: row.last_seen_time.map(time),
        certificate_expire_time: row.certificate_expire_time.map(time),
        orphans: row.orphans,
        members: u32::try_from(row.members).unwrap_or(u32::MAX),
        etag: row.revision.to_string(),
        load: Some(load),
    }
}

fn state(state: HostState) -> pb::host::State {
    match state {
        HostState::Online => pb::host::State::Online,
        HostState::Offline => pb::host::State::Offline,
        HostState::Revoked => pb::host::State::Revoked,
    }
}

/// What an update sets. Without a mask an overcommit of 0 leaves it.
///
/// # Errors
/// `INVALID_FIELD` on `update_mask`.
pub(in crate::api) fn update(given: pb::Host, mask: Option<pbjson_types::FieldMask>) -> Result<HostUpdate, Error> {
    let set: Vec<&str> = [
        ("region", !given.region.is_empty()),
        ("zone", !given.zone.is_empty()),
        ("labels", !given.labels.is_empty()),
        ("cpu_overcommit", given.cpu_overcommit != 0.0),
        ("memory_overcommit", given.memory_overcommit != 0.0),
        ("disk_overcommit", given.disk_overcommit != 0.0),
        ("cost_weight", given.cost_weight != 0.0),
    ]
    .into_iter()
    .filter_map(|(path, is_set)| is_set.then_some(path))
    .collect();
    let mask = Mask::read(mask, PATHS, &set)?;
    Ok(HostUpdate {
        region: mask.has("region").then_some(given.region),
        zone: mask.has("zone").then_some(given.zone),
        labels: mask.has("labels").then_some(given.labels),
        cpu_overcommit: mask.has("cpu_overcommit").then_some(given.cpu_overcommit),
        memory_overcommit: mask.has("memory_overcommit").then_some(given.memory_overcommit),
        disk_overcommit: mask.has("disk_overcommit").then_some(given.disk_overcommit),
        cost_weight: mask.has("cost_weight").then_some(given.cost_weight),
    })
}

/// The last part of a host's full name, given in `field`.
///
/// # Errors
/// `INVALID_FIELD`.
pub(in crate::api) fn id(field: &str, name: &str) -> Result<String, Error> {
    let [name] = split_path(field, name, ["hosts"])?;
    Ok(name)
}

/// A join token for the wire, without its secret.
pub(in crate::api) fn token(row: JoinTokenRow) -> pb::JoinToken {
    let (purpose, used_by): (_, fn(String) -> String) = match row.purpose {
        TokenPurpose::Host => (pb::join_token::Purpose::Host, |name| full(&name)),
        TokenPurpose::Proxy => (pb::join_token::Purpose::Proxy, |name| proxies::full(&name)),
    };
    pb::JoinToken {
        name: format!("joinTokens/{}", row.id),
        uid: row.id.to_string(),
        token: String::new(),
        host_name: row.host_name,
        region: row.region,
        zone: row.zone,
        labels: row.labels,
        create_time: Some(time(row.create_time)),
        expire_time: Some(time(row.expire_time)),
        use_time: row.use_time.map(time),
        used_by: row.used_by.map(used_by).unwrap_or_default(),
        revoked: row.revoke_time.is_some(),
        purpose: purpose.into(),
    }
}

/// A join token to make.
///
/// # Errors
/// `INVALID_FIELD` on `ttl`.
pub(in crate::api) fn token_request(given: pb::CreateJoinTokenRequest) -> Result<TokenRequest, Error> {
    let token = given.join_token.unwrap_or_default();
    Ok(TokenRequest {
        purpose: match token.purpose() {
            pb::join_token::Purpose::Unspecified | pb::join_token::Purpose::Host => TokenPurpose::Host,
            pb::join_token::Purpose::Proxy => TokenPurpose::Proxy,
        },
        host_name: token.host_name,
        region: token.region,
        zone: token.zone,
        labels: token.labels,
        ttl: duration("ttl", given.ttl)?,
    })
}

/// The id in a join token's name.
///
/// # Errors
/// `INVALID_FIELD`.
pub(in crate::api) fn token_id(name: &str) -> Result<JoinTokenId, Error> {
    let [id] = split_path("name", name, ["joinTokens"])?;
    id.parse().map_err(|error: Error| Error::invalid("name", error.message))
}
