//! Address and credentials of an instance. Each reading of a password leaves an event.

use secrecy::SecretString;
use windlass_core::{
    Error, Reason,
    engine::Engine,
    instance::Lifecycle,
    member::MemberRole,
    object::{ObjectKind, ObjectState},
    role::Permission,
};
use windlass_db::{
    events::{NewEvent, event_add_tx},
    members::members_of_tx,
    objects::{ObjectRow, objects_of_tx},
};

use super::{
    model::{InstanceName, Named, find},
    secret,
};
use crate::app::{Caller, Context};

/// What a client needs to connect.
#[derive(Debug)]
pub struct Connection {
    /// The engine.
    pub engine: Engine,
    /// Address of the primary's host.
    pub host: String,
    /// Port of the primary.
    pub port: u16,
    /// The user.
    pub user: String,
    /// The user's password.
    pub password: SecretString,
    /// The database.
    pub database: String,
    /// URI without the password.
    pub uri: String,
    /// Where the instance stands; nothing answers while it is at rest.
    pub lifecycle: Lifecycle,
}

/// Gives the credentials of `user` (empty: the administrator) for `database` (empty: the user's first, or the default).
/// Needs the right to change the instance, because the administrator's password gives it.
///
/// # Errors
/// `NOT_FOUND` for the instance, the user or the database; `STATE_FORBIDS` when it has no address (deleted) or the user
/// is not there yet; `PERMISSION_MISSING`.
pub async fn connection(
    cx: &Context,
    caller: &Caller,
    name: &InstanceName,
    user: &str,
    database: &str,
) -> Result<Connection, Error> {
    let mut tx = cx.db.begin().await?;
    let row = find(&mut tx, caller, name, Permission::ProjectWrite, Named::Present).await?;
    let engine = row.spec.engine.descriptor();
    let members = members_of_tx(&mut tx, &[row.id]).await?;
    let address = members
        .iter()
        .find(|member| member.role == MemberRole::Primary)
        .and_then(|member| Some((member.host_address.clone(), member.port?)));
    let Some((host, port)) = address else {
        return Err(Error::precondition(
            Reason::StateForbids,
            format!("{} is {} and has no address", row.path(), row.lifecycle),
        ));
    };
    let objects = objects_of_tx(&mut tx, row.id).await?;
    let wanted = if user.is_empty() { engine.admin_user } else { user };
    let found = named(&objects, ObjectKind::User, wanted)
        .ok_or_else(|| Error::not_found("user", format!("{}/users/{wanted}", row.path())))?;
    if found.state != ObjectState::Ready {
        return Err(Error::precondition(
            Reason::StateForbids,
            format!("user {wanted} is {}; wait for the operation that creates it", found.state),
        ));
    }
    let database = match (database, found.databases.first()) {
        ("", Some(first)) => first.clone(),
        ("", None) => engine.default_database.to_owned(),
        (given, _) => named(&objects, ObjectKind::Database, given)
            .map(|database| database.key.name.clone())
            .ok_or_else(|| Error::not_found("database", format!("{}/databases/{given}", row.path())))?,
    };
    let password = secret::open(cx, row.id, found)?;
    let event = NewEvent::info("credentials.read", row.path(), format!("the password of user {wanted} was read"));
    let event = NewEvent { actor: caller.actor(), project: Some(row.project_id), instance: Some(row.id), ..event };
    event_add_tx(&mut tx, event).await?;
    tx.commit().await?;

    let uri_host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let uri = format!("{}://{wanted}@{uri_host}:{port}/{database}", engine.uri_scheme);
    Ok(Connection {
        engine: row.spec.engine,
        host,
        port,
        user: wanted.to_owned(),
        password,
        database,
        uri,
        lifecycle: row.lifecycle,
    })
}

fn named<'a>(objects: &'a [ObjectRow], kind: ObjectKind, name: &str) -> Option<&'a ObjectRow> {
    objects.iter().find(|object| object.key.kind == kind && object.key.name == name)
}
