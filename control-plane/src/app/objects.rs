//! Users, databases and extensions inside an instance.
//!
//! The wish is stored with its operation; the saga asks the engine. Passwords are generated (or given), kept sealed,
//! and only their verifiers leave the control plane.

use secrecy::{ExposeSecret as _, SecretString};
use windlass_core::{
    Error, Reason,
    engine::Descriptor,
    error::FieldViolation,
    id::OperationId,
    instance::Lifecycle,
    name::SqlName,
    object::{ObjectKind, ObjectState},
    role::Permission,
};
use windlass_db::{
    Tx,
    instances::{self, InstanceRow},
    objects::{NewObject, ObjectKey, ObjectRow, object_put_tx, object_set_state_tx, objects_of_tx},
};

use super::instances::{
    InstanceName,
    model::{Named, find, find_locked, primary_of, require_online},
    secret,
};
use crate::{
    app::{Caller, Context},
    sagas::{
        self,
        object_apply::{self, ObjectApply, Wish},
    },
    secrets::{generate_password, verifier},
};

/// Shortest password that a user may give.
const PASSWORD_MIN: usize = 12;
/// Longest password, in bytes.
const PASSWORD_MAX: usize = 128;

/// A new object.
#[derive(Debug)]
pub struct CreateObject {
    /// What it is.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// database: its owner; empty for the administrator.
    pub owner: String,
    /// user: databases it may use; empty for all.
    pub databases: Vec<String>,
    /// extension: the database it is in; empty for the default one.
    pub database: String,
    /// user: its password; empty generates one.
    pub password: SecretString,
}

/// Full name of an object in the API.
pub fn path(instance: &InstanceRow, key: &ObjectKey) -> String {
    let collection = match key.kind {
        ObjectKind::Database => "databases",
        ObjectKind::User => "users",
        ObjectKind::Extension => "extensions",
    };
    format!("{}/{collection}/{}", instance.path(), key.name)
}

/// Creates a user, database or extension.
///
/// # Errors
/// `INVALID_FIELD`, `NAME_IN_USE`, `STATE_FORBIDS` unless the instance runs, `INSTANCE_BUSY`, `UNAVAILABLE`,
/// `NOT_FOUND`, `PERMISSION_MISSING`.
pub async fn create(
    cx: &Context,
    tx: &mut Tx,
    caller: &Caller,
    name: &InstanceName,
    ask: CreateObject,
) -> Result<OperationId, Error> {
    let row = find_locked(tx, caller, name, Permission::ProjectWrite, Named::Present).await?;
    let descriptor = row.spec.engine.descriptor();
    let objects = objects_of_tx(tx, row.id).await?;
    let key = check(descriptor, &objects, &ask)?;
    let target = path(&row, &key);
    if objects.iter().any(|object| object.key == key && object.state != ObjectState::Failed) {
        return Err(Error::already_exists(key.kind.as_str(), target));
    }
    let password = if ask.password.expose_secret().is_empty() { generate_password() } else { ask.password };
    let (verifier, sealed) = match key.kind {
        ObjectKind::User => (
            verifier(row.spec.engine, &password),
            Some(cx.sealer.seal(&secret::place(row.id, &key), password.expose_secret().as_bytes())),
        ),
        ObjectKind::Database | ObjectKind::Extension => (String::new(), None),
    };
    let owner = match key.kind {
        ObjectKind::Database if ask.owner.is_empty() => descriptor.admin_user,
        ObjectKind::Database => ask.owner.as_str(),
        ObjectKind::User | ObjectKind::Extension => "",
    };
    let operation = begin(tx, caller, &row, target, &key, Wish::Create).await?;
    let new = NewObject {
        key: &key,
        state: ObjectState::Pending,
        owner,
        databases: &ask.databases,
        administrator: false,
        verifier: &verifier,
        secret_sealed: sealed.as_deref(),
    };
    object_put_tx(tx, row.id, &new).await?;
    Ok(operation)
}

/// Drops a user, database or extension. `database` tells extensions of one name apart; empty means the only one, or
/// the one in the default database.
///
/// # Errors
/// `STATE_FORBIDS` unless the instance runs, or when something depends on it; `INSTANCE_BUSY`, `UNAVAILABLE`,
/// `NOT_FOUND`, `PERMISSION_MISSING`.
pub async fn drop(
    tx: &mut Tx,
    caller: &Caller,
    name: &InstanceName,
    kind: ObjectKind,
    object: &str,
    database: &str,
) -> Result<OperationId, Error> {
    let row = find_locked(tx, caller, name, Permission::ProjectWrite, Named::Present).await?;
    let objects = objects_of_tx(tx, row.id).await?;
    let named: Vec<_> = objects
        .iter()
        .filter(|o| o.key.kind == kind && o.key.name == object && (database.is_empty() || o.key.database == database))
        .collect();
    let key = ObjectKey { kind, name: object.to_owned(), database: database.to_owned() };
    let target = path(&row, &key);
    let found = match named[..] {
        [] => return Err(Error::not_found(kind.as_str(), target)),
        // An extension that is in several databases goes from the default one first.
        [first, ..] => {
            let default = row.spec.engine.descriptor().default_database;
            named.iter().find(|o| o.key.database == default).copied().unwrap_or(first)
        }
    };
    check_droppable(row.spec.engine.descriptor(), &objects, found)?;
    let operation = begin(tx, caller, &row, target, &found.key, Wish::Drop).await?;
    object_set_state_tx(tx, row.id, &found.key, ObjectState::Dropping).await?;
    Ok(operation)
}

/// The objects of an instance, of one kind or of all, by kind and name.
///
/// # Errors
/// `NOT_FOUND`, `PERMISSION_MISSING`.
pub async fn list(
    cx: &Context,
    caller: &Caller,
    name: &InstanceName,
    kind: Option<ObjectKind>,
) -> Result<(InstanceRow, Vec<ObjectRow>), Error> {
    let mut tx = cx.db.begin().await?;
    let row = find(&mut tx, caller, name, Permission::ProjectRead, Named::Present).await?;
    let mut objects = objects_of_tx(&mut tx, row.id).await?;
    objects.retain(|object| kind.is_none_or(|kind| object.key.kind == kind));
    Ok((row, objects))
}

async fn begin(
    tx: &mut Tx,
    caller: &Caller,
    row: &InstanceRow,
    target: String,
    key: &ObjectKey,
    wish: Wish,
) -> Result<OperationId, Error> {
    let request =
        sagas::Request { project: Some(row.project_id), instance: Some(row.id), target, actor: caller.actor() };
    let data = object_apply::Data { instance: row.id, key: key.clone(), wish };
    let operation = sagas::start::<ObjectApply>(tx, request, &data).await?;
    if row.lifecycle != Lifecycle::Running {
        return Err(Error::precondition(
            Reason::StateForbids,
            format!(
                "the instance is {}; its users, databases and extensions change only while it is RUNNING",
                row.lifecycle
            ),
        )
        .with_metadata("state", row.lifecycle));
    }
    if let Some(member) = primary_of(tx, row.id).await? {
        require_online(&member)?;
    }
    instances::instance_set_operation_tx(tx, row.id, operation).await?;
    Ok(operation)
}

/// Checks a new object against the engine and the objects that are there.
fn check(engine: &Descriptor, objects: &[ObjectRow], ask: &CreateObject) -> Result<ObjectKey, Error> {
    let mut faults: Vec<FieldViolation> = Vec::new();
    let mut fault = |field: &str, description: String| {
        faults.push(FieldViolation { field: field.to_owned(), description });
    };
    let there =
        |kind: ObjectKind, name: &str| objects.iter().any(|object| object.key.kind == kind && object.key.name == name);
    let name = match ask.kind {
        ObjectKind::Extension => SqlName::parse_extension("object_id", &ask.name),
        ObjectKind::Database | ObjectKind::User => SqlName::parse("object_id", &ask.name),
    };
    if let Err(error) = name {
        for violation in error.violations {
            fault("object_id", violation.description);
        }
    }
    let mut only_for = |field: &str, given: bool, kind: ObjectKind| {
        if given && ask.kind != kind {
            fault(field, format!("is for a {kind}, not for a {}; leave it empty", ask.kind));
        }
    };
    only_for("object.owner", !ask.owner.is_empty(), ObjectKind::Database);
    only_for("object.databases", !ask.databases.is_empty(), ObjectKind::User);
    only_for("object.database", !ask.database.is_empty(), ObjectKind::Extension);
    only_for("password", !ask.password.expose_secret().is_empty(), ObjectKind::User);
    let mut database = String::new();
    match ask.kind {
        ObjectKind::Database => {
            if !ask.owner.is_empty() && !there(ObjectKind::User, &ask.owner) {
                fault("object.owner", format!("user {:?} does not exist; create it first", ask.owner));
            }
        }
        ObjectKind::User => {
            for name in ask.databases.iter().filter(|name| !there(ObjectKind::Database, name)) {
                fault("object.databases", format!("database {name:?} does not exist; create it first"));
            }
            let password = ask.password.expose_secret();
            if !password.is_empty() && !(PASSWORD_MIN..=PASSWORD_MAX).contains(&password.len()) {
                fault(
                    "password",
                    format!("must have {PASSWORD_MIN} to {PASSWORD_MAX} bytes; leave it empty to get one"),
                );
            }
            if password.chars().any(char::is_control) {
                fault("password", "has a control character; remove it".to_owned());
            }
        }
        ObjectKind::Extension if !engine.has_extensions => {
            fault("object.kind", format!("{} has no extensions", engine.title));
        }
        ObjectKind::Extension => {
            database = if ask.database.is_empty() { engine.default_database.to_owned() } else { ask.database.clone() };
            if !there(ObjectKind::Database, &database) {
                fault("object.database", format!("database {database:?} does not exist; create it first"));
            }
        }
    }
    if faults.is_empty() {
        Ok(ObjectKey { kind: ask.kind, name: ask.name.clone(), database })
    } else {
        Err(Error::violations(faults))
    }
}

/// Refuses to drop what Windlass needs or what others depend on.
fn check_droppable(engine: &Descriptor, objects: &[ObjectRow], object: &ObjectRow) -> Result<(), Error> {
    let name = &object.key.name;
    let refuse = |why: String| Err(Error::precondition(Reason::StateForbids, why));
    match object.key.kind {
        ObjectKind::User if name == engine.admin_user => {
            refuse(format!("user {name} is the instance's administrator and cannot be dropped"))
        }
        ObjectKind::Database if name == engine.default_database => {
            refuse(format!("database {name} is the one clients connect to by default and cannot be dropped"))
        }
        ObjectKind::User => {
            let owned: Vec<_> = objects
                .iter()
                .filter(|o| o.key.kind == ObjectKind::Database && o.owner == *name)
                .map(|o| o.key.name.as_str())
                .collect();
            if owned.is_empty() {
                return Ok(());
            }
            refuse(format!("user {name} owns the database {}; drop that first", owned.join(", ")))
        }
        ObjectKind::Database | ObjectKind::Extension => Ok(()),
    }
}
