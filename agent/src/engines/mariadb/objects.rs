//! Databases and users of a MariaDB server.
//!
//! Every statement can be repeated. A user with a list gets its databases, one without gets the role
//! [`ALL_DATABASES`], which has every database that is made here. The administrator gets that role too, and databases
//! of its own making by the pattern `app_%`. Nobody gets a global privilege: CREATE USER or rights on the system's
//! schema would let its holder become root, and FILE would open the files of every database on the host.

use mysql_async::prelude::Queryable;
use windlass_core::{Error, name::SqlName};

use super::run::{Connection, refused};
use crate::engines::object::{ALL_DATABASES, Access, Object, User};

pub(super) async fn apply(connection: &mut Connection, object: &Object) -> Result<(), Error> {
    match object {
        Object::Database { name, .. } => database(connection, name.as_str()).await,
        Object::NoDatabase(name) => drop_database(connection, name.as_str()).await,
        Object::User(user) => apply_user(connection, user).await,
        Object::NoUser(name) => connection.run(&format!("drop user if exists {}", account(name.as_str()))).await,
        // Parsing refuses extensions for an engine without them.
        Object::Extension { .. } | Object::NoExtension { .. } => {
            Err(Error::invalid("object.kind", "MariaDB has no extensions"))
        }
    }
}

async fn apply_user(connection: &mut Connection, user: &User) -> Result<(), Error> {
    let account = account(user.name.as_str());
    let login = user
        .verifier
        .as_ref()
        .map(|verifier| format!(" identified via mysql_native_password using {}", literal(verifier.expose())));
    // Without a verifier a new account is locked, and an old one is left as it is.
    let new = login.clone().unwrap_or_else(|| " account lock".to_owned());
    connection.run(&format!("create user if not exists {account}{new}")).await?;
    if let Some(login) = login {
        connection.run(&format!("alter user {account}{login} account unlock")).await?;
    }
    all_databases_role(connection).await?;
    match &user.access {
        Access::Administrator => {
            let home = connection.server.installation.engine.descriptor().default_database;
            database(connection, home).await?;
            connection.run(&format!("grant all on `{}\\_%`.* to {account}", home.replace('_', "\\_"))).await?;
            all_databases(connection, &account).await
        }
        Access::AllDatabases => all_databases(connection, &account).await,
        Access::Databases(wanted) => only(connection, &account, wanted).await,
    }
}

async fn all_databases(connection: &mut Connection, account: &str) -> Result<(), Error> {
    connection.run(&format!("grant {ALL_DATABASES} to {account}")).await?;
    connection.run(&format!("set default role {ALL_DATABASES} for {account}")).await
}

/// Exactly these databases: what was granted before and is not in the list is taken away.
async fn only(connection: &mut Connection, account: &str, wanted: &[SqlName]) -> Result<(), Error> {
    let known = databases(connection).await?;
    if let Some(name) = wanted.iter().find(|name| known.iter().all(|database| database != name.as_str())) {
        return Err(Error::not_found("database", name));
    }
    connection.run(&format!("revoke all privileges, grant option from {account}")).await?;
    for name in wanted {
        connection.run(&format!("grant all on {}.* to {account}", pattern(name.as_str()))).await?;
    }
    Ok(())
}

async fn all_databases_role(connection: &mut Connection) -> Result<(), Error> {
    connection.run(&format!("create role if not exists {ALL_DATABASES}")).await
}

async fn database(connection: &mut Connection, name: &str) -> Result<(), Error> {
    connection.run(&format!("create database if not exists {}", quote(name))).await?;
    all_databases_role(connection).await?;
    connection.run(&format!("grant all on {}.* to {ALL_DATABASES}", pattern(name))).await
}

/// Grants outlive their database in MariaDB; they go with it, so that a later one of the same name is not open to
/// who used the former.
async fn drop_database(connection: &mut Connection, name: &str) -> Result<(), Error> {
    connection.run(&format!("drop database if exists {}", quote(name))).await?;
    let escaped = name.replace('_', "\\_");
    let query = format!("select user, host from mysql.db where db = {}", literal(&escaped));
    let holders = connection.conn.query::<(String, String), _>(query).await.map_err(refused)?;
    for (user, host) in holders {
        let holder = if host.is_empty() { quote(&user) } else { format!("{}@{}", quote(&user), quote(&host)) };
        connection.run(&format!("revoke all on {}.* from {holder}", pattern(name))).await?;
    }
    Ok(())
}

async fn databases(connection: &mut Connection) -> Result<Vec<String>, Error> {
    let query = "select schema_name from information_schema.schemata \
        where schema_name not in ('mysql', 'sys', 'information_schema', 'performance_schema')";
    connection.conn.query(query).await.map_err(refused)
}

impl Connection {
    async fn run(&mut self, statement: &str) -> Result<(), Error> {
        self.conn.query_drop(statement).await.map_err(refused)
    }
}

fn account(name: &str) -> String {
    format!("{}@'%'", quote(name))
}

fn quote(identifier: &str) -> String {
    format!("`{}`", identifier.replace('`', "``"))
}

/// The name of a database in a grant is a pattern: `_` would stand for any character.
fn pattern(database: &str) -> String {
    quote(&database.replace('_', "\\_"))
}

/// The session's `sql_mode` is empty, so backslashes escape.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled_and_patterns_escaped() {
        assert_eq!(quote("a`b"), "`a``b`");
        assert_eq!(pattern("a_b"), "`a\\_b`");
        assert_eq!(literal("a'b\\"), "'a''b\\\\'");
    }
}
