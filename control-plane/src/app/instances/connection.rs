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
    members::{MemberRow, members_of_tx},
    objects::{ObjectRow, objects_of_tx},
};

use super::{
    model::{InstanceName, Named, find},
    secret,
};
use crate::{
    app::{Caller, Context, proxies},
    routes::through,
};

/// What a client needs to connect.
#[derive(Debug)]
pub struct Connection {
    /// The engine.
    pub engine: Engine,
    /// Where it leads.
    pub via: Via,
    /// Every address to try, in order, at least one.
    pub addresses: Vec<(String, u16)>,
    /// What the native clients call a server that may be used, for those that are given several.
    pub session_attributes: Option<&'static str>,
    /// The user, as the address wants it.
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

/// Where a connection leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Through a proxy.
    Proxy,
    /// To the members.
    Direct,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The user; empty: the administrator.
    pub user: String,
    /// The database; empty: the user's first, or the default.
    pub database: String,
    /// `Direct` goes past the proxies; `Proxy` through one if one is known.
    pub via: Via,
    /// `Replica` for reads that may be stale.
    pub role: MemberRole,
}

/// Gives addresses and credentials. Needs the right to change the instance, because the administrator's password gives it.
///
/// # Errors
/// `NOT_FOUND` for the instance, the user or the database; `STATE_FORBIDS` when it has no address (deleted) or the user
/// is not there yet; `PERMISSION_MISSING`.
pub async fn connection(
    cx: &Context,
    caller: &Caller,
    name: &InstanceName,
    wanted: &Wanted,
) -> Result<Connection, Error> {
    let mut tx = cx.db.begin().await?;
    let row = find(&mut tx, caller, name, Permission::ProjectWrite, Named::Present).await?;
    let engine = row.spec.engine.descriptor();
    let members = members_of_tx(&mut tx, &[row.id]).await?;
    let addresses = addresses(&members, wanted.role);
    if addresses.is_empty() {
        return Err(Error::precondition(
            Reason::StateForbids,
            format!("{} is {} and has no address", row.path(), row.lifecycle),
        ));
    }
    let proxy = match wanted.via {
        Via::Proxy if engine.has_proxy => {
            let proxies = cx.db.proxies_alive(proxies::silence(&cx.config).unsigned_abs()).await?;
            through(&proxies, &row.project_name, &row.name, wanted.role)
        }
        Via::Proxy | Via::Direct => None,
    };
    let objects = objects_of_tx(&mut tx, row.id).await?;
    let user = if wanted.user.is_empty() { engine.admin_user } else { &wanted.user };
    let found = named(&objects, ObjectKind::User, user)
        .ok_or_else(|| Error::not_found("user", format!("{}/users/{user}", row.path())))?;
    if found.state != ObjectState::Ready {
        return Err(Error::precondition(
            Reason::StateForbids,
            format!("user {user} is {}; wait for the operation that creates it", found.state),
        ));
    }
    let database = match (wanted.database.as_str(), found.databases.first()) {
        ("", Some(first)) => first.clone(),
        ("", None) => engine.default_database.to_owned(),
        (given, _) => named(&objects, ObjectKind::Database, given)
            .map(|database| database.key.name.clone())
            .ok_or_else(|| Error::not_found("database", format!("{}/databases/{given}", row.path())))?,
    };
    let password = secret::open(cx, row.id, found)?;
    let event = NewEvent::info("credentials.read", row.path(), format!("the password of user {user} was read"));
    let event = NewEvent { actor: caller.actor(), project: Some(row.project_id), instance: Some(row.id), ..event };
    event_add_tx(&mut tx, event).await?;
    tx.commit().await?;

    let (via, addresses, user, session_attributes) = match proxy {
        Some(proxy) => {
            let user = format!("{user}{}", proxy.user_suffix);
            (Via::Proxy, vec![(proxy.host, proxy.port)], user, None)
        }
        None => {
            let attributes = match wanted.role {
                MemberRole::Primary => "read-write",
                MemberRole::Replica => "prefer-standby",
            };
            let several = addresses.len() > 1;
            (Via::Direct, addresses, user.to_owned(), several.then_some(attributes))
        }
    };
    let mut uri = uri(engine.uri_scheme, &user, &addresses, &database);
    if let Some(attributes) = session_attributes {
        uri = format!("{uri}?target_session_attrs={attributes}");
    }
    Ok(Connection {
        engine: row.spec.engine,
        via,
        addresses,
        session_attributes,
        user,
        password,
        database,
        uri,
        lifecycle: row.lifecycle,
    })
}

/// The members' addresses: those of the role first, so that most clients need one attempt.
fn addresses(members: &[MemberRow], role: MemberRole) -> Vec<(String, u16)> {
    let (first, rest): (Vec<_>, Vec<_>) = members.iter().partition(|member| member.role == role);
    let address = |member: &MemberRow| Some((member.host_address.clone(), member.port?));
    first.into_iter().chain(rest).filter_map(address).collect()
}

fn uri(scheme: &str, user: &str, addresses: &[(String, u16)], database: &str) -> String {
    let places: Vec<_> = addresses
        .iter()
        .map(|(host, port)| if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
        .collect();
    format!("{scheme}://{}@{}/{database}", user.replace('@', "%40"), places.join(","))
}

fn named<'a>(objects: &'a [ObjectRow], kind: ObjectKind, name: &str) -> Option<&'a ObjectRow> {
    objects.iter().find(|object| object.key.kind == kind && object.key.name == name)
}
