//! Proxies.

use windlass_core::{Error, name::split_path, proxy::ProxyState};
use windlass_db::proxies::ProxyRow;
use windlass_proto::api::v1 as pb;

use super::time;
use crate::app::proxies::full;

/// A proxy for the wire.
pub(in crate::api) fn proxy(row: ProxyRow, state: ProxyState) -> pb::Proxy {
    let state = match state {
        ProxyState::Online => pb::proxy::State::Online,
        ProxyState::Offline => pb::proxy::State::Offline,
        ProxyState::Revoked => pb::proxy::State::Revoked,
    };
    pb::Proxy {
        name: full(&row.name),
        uid: row.id.to_string(),
        state: state.into(),
        address: row.address,
        port: row.port.into(),
        domain: row.domain,
        proxy_version: row.version,
        create_time: Some(time(row.create_time)),
        last_seen_time: row.last_seen_time.map(time),
        certificate_expire_time: row.certificate_expire_time.map(time),
    }
}

/// The last part of a proxy's full name.
///
/// # Errors
/// `INVALID_FIELD`.
pub(in crate::api) fn id(name: &str) -> Result<String, Error> {
    let [name] = split_path("name", name, ["proxies"])?;
    Ok(name)
}
