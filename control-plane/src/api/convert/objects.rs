//! Users, databases and extensions.

use windlass_core::{
    Error,
    name::split_path,
    object::{ObjectKind, ObjectState},
};
use windlass_db::{instances::InstanceRow, objects::ObjectRow};
use windlass_proto::api::v1::{self as pb, database_object};

use super::time;
use crate::app::{
    instances::InstanceName,
    objects::{CreateObject, path},
};

const COLLECTIONS: [(&str, ObjectKind); 3] =
    [("databases", ObjectKind::Database), ("users", ObjectKind::User), ("extensions", ObjectKind::Extension)];

/// An object for the wire.
pub(in crate::api) fn object(instance: &InstanceRow, row: ObjectRow) -> pb::DatabaseObject {
    pb::DatabaseObject {
        name: path(instance, &row.key),
        kind: match row.key.kind {
            ObjectKind::Database => database_object::Kind::Database,
            ObjectKind::User => database_object::Kind::User,
            ObjectKind::Extension => database_object::Kind::Extension,
        }
        .into(),
        owner: row.owner,
        databases: row.databases.join(","),
        database: row.key.database,
        state: match row.state {
            ObjectState::Pending => database_object::State::Pending,
            ObjectState::Ready => database_object::State::Ready,
            ObjectState::Dropping => database_object::State::Dropping,
            ObjectState::Failed => database_object::State::Failed,
        }
        .into(),
        create_time: Some(time(row.create_time)),
    }
}

/// The kind that a number of the wire stands for; None for unspecified.
///
/// # Errors
/// `INVALID_FIELD` on `field`.
pub(in crate::api) fn kind(field: &str, number: i32) -> Result<Option<ObjectKind>, Error> {
    match database_object::Kind::try_from(number) {
        Ok(database_object::Kind::Unspecified) => Ok(None),
        Ok(database_object::Kind::Database) => Ok(Some(ObjectKind::Database)),
        Ok(database_object::Kind::User) => Ok(Some(ObjectKind::User)),
        Ok(database_object::Kind::Extension) => Ok(Some(ObjectKind::Extension)),
        Err(_) => Err(Error::invalid(field, format!("{number} is no kind; use DATABASE, USER or EXTENSION"))),
    }
}

/// An object to make.
///
/// # Errors
/// `INVALID_FIELD` on `object.kind`.
pub(in crate::api) fn create(message: pb::CreateObjectRequest) -> Result<CreateObject, Error> {
    let given = message.object.unwrap_or_default();
    let kind = kind("object.kind", given.kind)?
        .ok_or_else(|| Error::invalid("object.kind", "is missing; use DATABASE, USER or EXTENSION"))?;
    let databases = given.databases.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(CreateObject {
        kind,
        name: message.object_id,
        databases: databases.map(str::to_owned).collect(),
        owner: given.owner,
        database: given.database,
        password: message.password.into(),
    })
}

/// Instance, kind and last part of an object's full name.
///
/// # Errors
/// `INVALID_FIELD` on `name`.
pub(in crate::api) fn name(full: &str) -> Result<(InstanceName, ObjectKind, String), Error> {
    for (collection, kind) in COLLECTIONS {
        if let Ok([project, instance, object]) = split_path("name", full, ["projects", "instances", collection]) {
            return Ok((InstanceName { project, instance }, kind, object));
        }
    }
    Err(Error::invalid(
        "name",
        format!(
            "{full:?} is not of the form projects/{{name}}/instances/{{name}}/{{databases, users or extensions}}/{{name}}"
        ),
    ))
}
