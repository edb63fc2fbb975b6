//! Objects inside a server that Windlass manages, parsed from the wire.
//!
//! Invariant: names are legal in both engines and belong to neither; a verifier has the exact form of its engine, so
//! it can stand in a statement. `Debug` never shows a verifier.

use secrecy::{ExposeSecret, SecretString};
use windlass_core::{Error, engine::Engine, name::SqlName};
use windlass_proto::agent::v1::{ApplyObject, apply_object::Kind};

/// The role that may use every database; holds the grants of users without a list. Its prefix is reserved.
pub const ALL_DATABASES: &str = "windlass_all";

/// An object as it shall be.
#[derive(Debug, Clone)]
pub enum Object {
    /// There shall be this database.
    Database {
        /// Its name.
        name: SqlName,
        /// Its owner; None: the administrator.
        owner: Option<SqlName>,
    },
    /// There shall be no such database.
    NoDatabase(SqlName),
    /// There shall be this user.
    User(User),
    /// There shall be no such user.
    NoUser(SqlName),
    /// The database shall have this extension.
    Extension {
        /// Its name.
        name: String,
        /// The database.
        database: SqlName,
    },
    /// The database shall not have this extension.
    NoExtension {
        /// Its name.
        name: String,
        /// The database.
        database: SqlName,
    },
}

/// A user that may log in.
#[derive(Debug, Clone)]
pub struct User {
    /// Its name.
    pub name: SqlName,
    /// Its verifier; None: it may not log in yet (a new one), or keeps the one it has.
    pub verifier: Option<Verifier>,
    /// What it may use.
    pub access: Access,
}

/// What a user may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everything that an application's administrator may.
    Administrator,
    /// Every database.
    AllDatabases,
    /// These.
    Databases(Vec<SqlName>),
}

/// What a server stores instead of a password.
#[derive(Debug, Clone)]
pub struct Verifier(SecretString);

impl Object {
    /// Parses an order for this engine.
    ///
    /// # Errors
    /// `INVALID_FIELD` naming the field.
    pub fn parse(engine: Engine, order: &ApplyObject) -> Result<Self, Error> {
        let field = "object.kind";
        let kind = Kind::try_from(order.kind).map_err(|_| Error::invalid(field, "is unknown to this agent"))?;
        match (kind, order.drop) {
            (Kind::Unspecified, _) => Err(Error::invalid(field, "is missing")),
            (Kind::Database, true) => Ok(Self::NoDatabase(sql_name("object.name", &order.name)?)),
            (Kind::Database, false) => Ok(Self::Database {
                name: sql_name("object.name", &order.name)?,
                owner: optional(&order.owner).map(|owner| sql_name("object.owner", owner)).transpose()?,
            }),
            (Kind::User, true) => Ok(Self::NoUser(sql_name("object.name", &order.name)?)),
            (Kind::User, false) => Ok(Self::User(User::parse(engine, order)?)),
            (Kind::Extension, drop) => {
                if !engine.descriptor().has_extensions {
                    return Err(Error::invalid(field, format!("{} has no extensions", engine.descriptor().title)));
                }
                let (name, database) = (extension_name(&order.name)?, sql_name("object.database", &order.database)?);
                Ok(if drop { Self::NoExtension { name, database } } else { Self::Extension { name, database } })
            }
        }
    }

    /// The administrator that every server has, without a verifier: what a fresh directory is prepared with.
    ///
    /// # Errors
    /// `INTERNAL` if the engine's descriptor names one that is no legal name.
    pub fn bare_administrator(engine: Engine) -> Result<Self, Error> {
        let name = SqlName::parse("admin_user", engine.descriptor().admin_user)?;
        Ok(Self::User(User { name, verifier: None, access: Access::Administrator }))
    }
}

impl User {
    fn parse(engine: Engine, order: &ApplyObject) -> Result<Self, Error> {
        let databases = order.databases.iter().map(|name| sql_name("object.databases", name));
        let databases: Vec<SqlName> = databases.collect::<Result<_, _>>()?;
        Ok(Self {
            name: sql_name("object.name", &order.name)?,
            verifier: optional(&order.verifier).map(|text| Verifier::parse(engine, text)).transpose()?,
            access: match (order.administrator, databases.is_empty()) {
                (true, _) => Access::Administrator,
                (false, true) => Access::AllDatabases,
                (false, false) => Access::Databases(databases),
            },
        })
    }
}

impl Verifier {
    fn parse(engine: Engine, text: &str) -> Result<Self, Error> {
        let (legal, form) = match engine {
            Engine::Postgres => (
                text.starts_with("SCRAM-SHA-256$")
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || "-$:+/=".contains(c)),
                "a SCRAM-SHA-256 verifier",
            ),
            Engine::Mariadb => (
                text.len() == 41 && text.starts_with('*') && text[1..].chars().all(|c| c.is_ascii_hexdigit()),
                "a mysql_native_password hash",
            ),
        };
        if legal { Ok(Self(text.into())) } else { Err(Error::invalid("object.verifier", format!("is not {form}"))) }
    }

    /// The text; for a statement only.
    pub(super) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

fn optional(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn sql_name(field: &str, text: &str) -> Result<SqlName, Error> {
    SqlName::parse(field, text)
}

/// Extensions name themselves (`uuid-ossp`, `pg_trgm`), so the reserved prefixes do not hold for them.
fn extension_name(text: &str) -> Result<String, Error> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if text.is_empty() || text.len() > 63 || !text.chars().all(legal) {
        return Err(Error::invalid(
            "object.name",
            format!("{text:?} is not the name of an extension; use a-z, 0-9, _ and -"),
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19";

    fn user(name: &str, verifier: &str) -> ApplyObject {
        ApplyObject { kind: Kind::User.into(), name: name.into(), verifier: verifier.into(), ..Default::default() }
    }

    #[test]
    fn a_verifier_must_have_its_engines_form_and_is_not_shown() {
        let object = Object::parse(Engine::Mariadb, &user("a", HASH)).expect("hash");
        assert!(!format!("{object:?}").contains("2470"), "{object:?}");
        for bad in ["secret", "*2470'; drop user x;--aaaaaaaaaaaaaaaaaaaa", "SCRAM-SHA-256$4096:a$b:c"] {
            let error = Object::parse(Engine::Mariadb, &user("a", bad)).expect_err(bad);
            assert!(!error.message.contains(bad), "{error}");
        }
        Object::parse(Engine::Postgres, &user("a", "SCRAM-SHA-256$4096:c2FsdA==$a+b/=:c")).expect("scram");
        Object::parse(Engine::Postgres, &user("a", "md5abc")).expect_err("md5");
    }

    #[test]
    fn names_of_the_engines_are_refused_and_extensions_are_postgres_only() {
        Object::parse(Engine::Postgres, &user("postgres", "")).expect_err("reserved");
        let order = ApplyObject {
            kind: Kind::Extension.into(),
            name: "pg_trgm".into(),
            database: "app".into(),
            ..Default::default()
        };
        Object::parse(Engine::Postgres, &order).expect("extension");
        let error = Object::parse(Engine::Mariadb, &order).expect_err("no extensions");
        assert!(error.message.contains("MariaDB has no extensions"), "{error}");
    }
}
