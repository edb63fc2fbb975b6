//! Users, databases and extensions inside instances, as wanted.
//!
//! A user's password is kept sealed (needed for `connect`); databases get only the verifier. The key of an object is
//! its kind, name and database: an extension may be in several databases of one instance.

use jiff::Timestamp;
use sqlx::{PgConnection, types::Json};
use windlass_core::{
    Error,
    id::InstanceId,
    object::{ObjectKind, ObjectState},
};

use crate::error::DbResult as _;

/// What tells objects of one instance apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct ObjectKey {
    /// What it is.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// The database that an extension is in; empty for the others.
    pub database: String,
}

/// An object as stored.
#[derive(Debug, Clone)]
pub struct ObjectRow {
    /// What tells it apart.
    pub key: ObjectKey,
    /// Where it stands.
    pub state: ObjectState,
    /// A database's owner.
    pub owner: String,
    /// Databases that a user may use; empty for all.
    pub databases: Vec<String>,
    /// Whether a user may create users and databases.
    pub administrator: bool,
    /// A user's verifier.
    pub verifier: String,
    /// A user's password, sealed.
    pub secret_sealed: Option<Vec<u8>>,
    /// When it was asked for.
    pub create_time: Timestamp,
}

/// An object to be stored.
#[derive(Debug)]
pub struct NewObject<'a> {
    /// What tells it apart.
    pub key: &'a ObjectKey,
    /// Where it stands.
    pub state: ObjectState,
    /// A database's owner.
    pub owner: &'a str,
    /// Databases that a user may use; empty for all.
    pub databases: &'a [String],
    /// Whether a user may create users and databases.
    pub administrator: bool,
    /// A user's verifier.
    pub verifier: &'a str,
    /// A user's password, sealed.
    pub secret_sealed: Option<&'a [u8]>,
}

/// Stores an object, in place of one that FAILED if there is such a one.
///
/// # Errors
/// `NAME_IN_USE` when it exists in any other state.
pub async fn object_put_tx(tx: &mut PgConnection, instance: InstanceId, new: &NewObject<'_>) -> Result<(), Error> {
    sqlx::query!(
        "delete from database_object
          where instance_id = $1 and kind = $2 and name = $3 and database = $4 and state = 'FAILED'",
        instance.0,
        new.key.kind.as_str(),
        new.key.name,
        new.key.database
    )
    .execute(&mut *tx)
    .await
    .db()?;
    sqlx::query!(
        "insert into database_object
                (instance_id, kind, name, database, state, owner, databases, administrator, verifier, secret_sealed)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        instance.0,
        new.key.kind.as_str(),
        new.key.name,
        new.key.database,
        new.state.as_str(),
        new.owner,
        Json(new.databases) as _,
        new.administrator,
        new.verifier,
        new.secret_sealed
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// All objects of an instance by kind, name and database, without their secrets' meaning.
///
/// # Errors
/// Those of the database.
pub async fn objects_of_tx(tx: &mut PgConnection, instance: InstanceId) -> Result<Vec<ObjectRow>, Error> {
    let rows = sqlx::query!(
        r#"select kind as "kind: ObjectKind", name, database, state as "state: ObjectState", owner,
                  databases as "databases: Json<Vec<String>>", administrator, verifier, secret_sealed, create_time
             from database_object where instance_id = $1
            order by kind, name, database"#,
        instance.0
    )
    .fetch_all(tx)
    .await
    .db()?;
    Ok(rows
        .into_iter()
        .map(|r| ObjectRow {
            key: ObjectKey { kind: r.kind, name: r.name, database: r.database },
            state: r.state,
            owner: r.owner,
            databases: r.databases.0,
            administrator: r.administrator,
            verifier: r.verifier,
            secret_sealed: r.secret_sealed,
            create_time: r.create_time.to_jiff(),
        })
        .collect())
}

/// The object of this key.
///
/// # Errors
/// Those of the database.
pub async fn object_by_key_tx(
    tx: &mut PgConnection,
    instance: InstanceId,
    key: &ObjectKey,
) -> Result<Option<ObjectRow>, Error> {
    Ok(objects_of_tx(tx, instance).await?.into_iter().find(|object| object.key == *key))
}

/// Moves an object to another state.
///
/// # Errors
/// Those of the database.
pub async fn object_set_state_tx(
    tx: &mut PgConnection,
    instance: InstanceId,
    key: &ObjectKey,
    state: ObjectState,
) -> Result<(), Error> {
    sqlx::query!(
        "update database_object set state = $5
          where instance_id = $1 and kind = $2 and name = $3 and database = $4",
        instance.0,
        key.kind.as_str(),
        key.name,
        key.database,
        state.as_str()
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// Forgets an object; with a database go its extensions.
///
/// # Errors
/// Those of the database.
pub async fn object_delete_tx(tx: &mut PgConnection, instance: InstanceId, key: &ObjectKey) -> Result<(), Error> {
    sqlx::query!(
        "delete from database_object
          where instance_id = $1
            and ((kind = $2 and name = $3 and database = $4)
                 or ($2 = 'database' and kind = 'extension' and database = $3))",
        instance.0,
        key.kind.as_str(),
        key.name,
        key.database
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}
