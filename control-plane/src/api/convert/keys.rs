//! API keys.

use windlass_core::{Error, id::ApiKeyId, name::split_path, role::Role};
use windlass_db::api_keys::ApiKeyRow;
use windlass_proto::api::v1 as pb;

use super::{duration, time};
use crate::app::{keys::KeyRequest, projects::full};

/// A key for the wire, without its secret.
pub(in crate::api) fn key(row: ApiKeyRow) -> pb::ApiKey {
    pb::ApiKey {
        name: format!("apiKeys/{}", row.id),
        uid: row.id.to_string(),
        title: row.title,
        role: row.role.to_string(),
        project: row.project_name.map(|name| full(&name)).unwrap_or_default(),
        prefix: row.prefix,
        create_time: Some(time(row.create_time)),
        expire_time: row.expire_time.map(time),
        revoke_time: row.revoke_time.map(time),
        last_use_time: row.last_use_time.map(time),
    }
}

/// A key to make.
///
/// # Errors
/// `INVALID_FIELD`.
pub(in crate::api) fn request(given: pb::CreateApiKeyRequest) -> Result<KeyRequest, Error> {
    let key = given.api_key.unwrap_or_default();
    let role: Role = key.role.parse().map_err(|error: Error| Error::invalid("api_key.role", error.message))?;
    let project = match key.project.as_str() {
        "" => None,
        path => {
            let [name] = split_path("api_key.project", path, ["projects"])?;
            Some(name)
        }
    };
    Ok(KeyRequest { title: key.title, role, project, ttl: duration("ttl", given.ttl)? })
}

/// The id in a key's name.
///
/// # Errors
/// `INVALID_FIELD`.
pub(in crate::api) fn id(name: &str) -> Result<ApiKeyId, Error> {
    let [id] = split_path("name", name, ["apiKeys"])?;
    id.parse().map_err(|error: Error| Error::invalid("name", error.message))
}
