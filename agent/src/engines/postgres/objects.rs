//! Databases, users and extensions of a PostgreSQL server.
//!
//! Every statement can be repeated. Grants, in short: PUBLIC may connect to no database; a user with a list gets its
//! databases, one without gets the role [`ALL_DATABASES`], which holds the same grants on each database. In a database
//! a user may make things in `public` and read and write what its owner makes. The administrator owns its databases and
//! is a member of every user, so that it can manage what they make.
//! The administrator may create roles only from version 16 on: before, CREATEROLE lets its holder take
//! `pg_execute_server_program` and so the files of every database on the host (release notes of 16, "CREATEROLE").

use tokio_postgres::Client;
use windlass_core::{Error, ErrorKind, Reason, error::nearest, name::SqlName};

use super::run::{Connection, open, refused};
use crate::engines::object::{ALL_DATABASES, Access, Object, User};

/// First major version in which CREATEROLE is confined to roles that its holder made.
const CONFINED_CREATEROLE: u32 = 16;

pub(super) async fn apply(connection: &mut Connection, object: &Object) -> Result<(), Error> {
    match object {
        Object::Database { name, owner } => {
            let admin = admin(connection);
            database(connection, name.as_str(), owner.as_ref().map_or(admin, SqlName::as_str)).await
        }
        Object::NoDatabase(name) => {
            let statement = format!("drop database if exists {} with (force)", quote(name.as_str()));
            connection.client.batch_execute(&statement).await.map_err(refused)
        }
        Object::User(user) => apply_user(connection, user).await,
        Object::NoUser(name) => drop_user(connection, name.as_str()).await,
        Object::Extension { name, database } => create_extension(connection, name, database.as_str()).await,
        Object::NoExtension { name, database } => {
            if !exists(&connection.client, "pg_database", "datname", database.as_str()).await? {
                return Ok(());
            }
            let client = open(&connection.server, database.as_str()).await?;
            client.batch_execute(&format!("drop extension if exists {}", quote(name))).await.map_err(refused)
        }
    }
}

fn admin(connection: &Connection) -> &'static str {
    connection.server.installation.engine.descriptor().admin_user
}

async fn apply_user(connection: &Connection, user: &User) -> Result<(), Error> {
    let (client, name) = (&connection.client, user.name.as_str());
    let mut attributes = String::new();
    if let Some(verifier) = &user.verifier {
        attributes.push_str(&format!(" login password {}", literal(verifier.expose())));
    }
    if user.access == Access::Administrator {
        attributes.push_str(" createdb");
        if version_key(connection) >= CONFINED_CREATEROLE {
            attributes.push_str(" createrole");
        }
    }
    let verb = if exists(client, "pg_roles", "rolname", name).await? { "alter" } else { "create" };
    if verb == "create" || !attributes.is_empty() {
        client.batch_execute(&format!("{verb} role {}{attributes}", quote(name))).await.map_err(refused)?;
    }
    match &user.access {
        Access::Administrator => administrator(connection, name).await,
        Access::AllDatabases => {
            all_databases_role(client).await?;
            let grant =
                format!("grant {ALL_DATABASES} to {0}; grant {0} to {1}", quote(name), quote(admin(connection)));
            client.batch_execute(&grant).await.map_err(refused)
        }
        Access::Databases(wanted) => {
            all_databases_role(client).await?;
            let start =
                format!("revoke {ALL_DATABASES} from {0}; grant {0} to {1}", quote(name), quote(admin(connection)));
            client.batch_execute(&start).await.map_err(refused)?;
            for (database, owner) in databases(client).await? {
                if wanted.iter().any(|wanted| wanted.as_str() == database) {
                    grant(connection, &database, &owner, name).await?;
                } else {
                    let revoke = format!("revoke all on database {} from {}", quote(&database), quote(name));
                    client.batch_execute(&revoke).await.map_err(refused)?;
                }
            }
            missing(client, wanted).await
        }
    }
}

/// A user's list may name only what exists.
async fn missing(client: &Client, wanted: &[SqlName]) -> Result<(), Error> {
    let known = databases(client).await?;
    match wanted.iter().find(|name| known.iter().all(|(database, _)| database != name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Error::not_found("database", name)),
    }
}

/// The administrator's database, monitoring rights, and the statistics extension.
async fn administrator(connection: &Connection, name: &str) -> Result<(), Error> {
    let client = &connection.client;
    let home = connection.server.installation.engine.descriptor().default_database;
    if exists(client, "pg_database", "datname", home).await? {
        return Ok(());
    }
    super::replication::ensure_schema(client).await?;
    all_databases_role(client).await?;
    let grant = format!("grant pg_monitor, pg_signal_backend to {}", quote(name));
    client.batch_execute(&grant).await.map_err(refused)?;
    database(connection, home, name).await?;
    if super::conf::has_library(&connection.server, "pg_stat_statements") {
        create_extension(connection, "pg_stat_statements", home).await?;
    }
    Ok(())
}

async fn all_databases_role(client: &Client) -> Result<(), Error> {
    if exists(client, "pg_roles", "rolname", ALL_DATABASES).await? {
        return Ok(());
    }
    client.batch_execute(&format!("create role {ALL_DATABASES} nologin")).await.map_err(refused)
}

async fn database(connection: &Connection, name: &str, owner: &str) -> Result<(), Error> {
    let client = &connection.client;
    if !exists(client, "pg_roles", "rolname", owner).await? {
        return Err(Error::not_found("user", owner));
    }
    if !exists(client, "pg_database", "datname", name).await? {
        let create = format!("create database {} owner {}", quote(name), quote(owner));
        client.batch_execute(&create).await.map_err(refused)?;
    }
    all_databases_role(client).await?;
    let statements = format!(
        "alter database {0} owner to {1}; revoke connect, temporary on database {0} from public",
        quote(name),
        quote(owner)
    );
    client.batch_execute(&statements).await.map_err(refused)?;
    grant(connection, name, owner, ALL_DATABASES).await
}

/// What a user of a database gets, on what is there and on what the owner makes later.
async fn grant(connection: &Connection, database: &str, owner: &str, user: &str) -> Result<(), Error> {
    let client = open(&connection.server, database).await?;
    let (database, owner, user) = (quote(database), quote(owner), quote(user));
    let own = format!("alter default privileges for role {owner} grant");
    let statements = format!(
        "grant connect, temporary on database {database} to {user}; \
         grant usage, create on schema public to {user}; \
         grant select, insert, update, delete on all tables in schema public to {user}; \
         grant usage, select, update on all sequences in schema public to {user}; \
         {own} select, insert, update, delete on tables to {user}; \
         {own} usage, select, update on sequences to {user}"
    );
    client.batch_execute(&statements).await.map_err(refused)
}

/// What the user owned goes to the administrator, in every database; then nothing holds the role.
async fn drop_user(connection: &Connection, name: &str) -> Result<(), Error> {
    if !exists(&connection.client, "pg_roles", "rolname", name).await? {
        return Ok(());
    }
    let (name, heir) = (quote(name), quote(admin(connection)));
    for (database, _) in databases(&connection.client).await? {
        let client = open(&connection.server, &database).await?;
        let statements = format!("reassign owned by {name} to {heir}; drop owned by {name}");
        client.batch_execute(&statements).await.map_err(refused)?;
    }
    connection.client.batch_execute(&format!("drop role if exists {name}")).await.map_err(refused)
}

async fn create_extension(connection: &Connection, name: &str, database: &str) -> Result<(), Error> {
    if !exists(&connection.client, "pg_database", "datname", database).await? {
        return Err(Error::not_found("database", database));
    }
    let client = open(&connection.server, database).await?;
    let rows =
        client.query("select name::text from pg_available_extensions order by name", &[]).await.map_err(refused)?;
    let known: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    if !known.iter().any(|known| known == name) {
        let hint = nearest(name, known.iter().map(String::as_str)).map(|near| format!("; did you mean {near}?"));
        let message = format!(
            "this host has no extension {name}{}",
            hint.unwrap_or_else(|| format!("; it has: {}", known.join(", ")))
        );
        return Err(Error::new(ErrorKind::NotFound, Reason::NotFound, message));
    }
    // An extension goes where an application looks for it; the agent's own search path has the system's schema only.
    let create = format!("set search_path = public; create extension if not exists {} cascade", quote(name));
    client.batch_execute(&create).await.map_err(|error| {
        let error = refused(error);
        if error.message.contains("shared_preload_libraries") {
            let message = format!(
                "extension {name} must be loaded at start: add it to the parameter shared_preload_libraries, restart the instance, then create it again"
            );
            return Error::precondition(Reason::DatabaseRefused, message).with_source(error);
        }
        error
    })
}

/// Databases of applications with their owners.
async fn databases(client: &Client) -> Result<Vec<(String, String)>, Error> {
    let list = "select d.datname::text, r.rolname::text from pg_database d join pg_roles r on r.oid = d.datdba \
        where not d.datistemplate and d.datallowconn and d.datname <> 'postgres' order by 1";
    let rows = client.query(list, &[]).await.map_err(refused)?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

async fn exists(client: &Client, catalogue: &str, column: &str, name: &str) -> Result<bool, Error> {
    let query = format!("select exists (select from {catalogue} where {column} = $1::text::name)");
    Ok(client.query_one(&query, &[&name]).await.map_err(refused)?.get(0))
}

fn version_key(connection: &Connection) -> u32 {
    let installation = &connection.server.installation;
    (installation.engine.descriptor().version_key)(&installation.version).0
}

fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("a'b"), "'a''b'");
    }
}
