//! From what a client says to the instance it means. Pure but for the table.
//!
//! In this order: the port it came in by, the name in its TLS handshake (SNI), the suffix of its user name. A user name
//! is taken apart only if nothing else says which instance is meant, because `@` may be a part of it.

use std::sync::Arc;

use windlass_core::Error;

use super::{Instance, RouteTable};

/// Ending of an instance's name that asks for a replica.
const READ_ONLY: &str = "-ro";

/// By which port a client came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entrance {
    /// The one for every instance.
    Main,
    /// One for this `instance.project` only, or its `-ro` name.
    Fixed(Arc<str>),
}

/// What a client wants of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The primary.
    ReadWrite,
    /// A replica.
    ReadOnly,
}

/// Where a client is brought.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The instance.
    pub instance: Arc<Instance>,
    /// Primary or replica.
    pub access: Access,
    /// The database's user, without a suffix.
    pub user: String,
}

impl RouteTable {
    /// Finds the instance that a client means. `domain` is what instances' names end with; empty if they have none.
    ///
    /// # Errors
    /// `NOT_FOUND` if the name that it gave is no instance's; `INVALID_FIELD` if it gave none.
    pub fn find(&self, entrance: &Entrance, sni: Option<&str>, user: &str, domain: &str) -> Result<Destination, Error> {
        let of = |key: &str, user: &str| {
            let (instance, access) = self.named(key)?;
            Some(Destination { instance, access, user: user.to_owned() })
        };
        if let Entrance::Fixed(key) = entrance {
            return of(key, user).ok_or_else(|| missing(key));
        }
        if let Some(key) = sni.and_then(|sni| below(sni, domain)) {
            return of(key, user).ok_or_else(|| missing(key));
        }
        let Some((user, key)) = user.rsplit_once('@') else {
            let example = if domain.is_empty() { String::new() } else { format!("INSTANCE.PROJECT.{domain}, or ") };
            return Err(Error::invalid(
                "user",
                format!(
                    "{user:?} does not say which instance is meant; connect to {example}as {user}@INSTANCE.PROJECT"
                ),
            ));
        };
        of(key, user).ok_or_else(|| missing(key))
    }

    fn named(&self, key: &str) -> Option<(Arc<Instance>, Access)> {
        if let Some(instance) = self.by_key(key) {
            return Some((instance, Access::ReadWrite));
        }
        let (name, project) = key.split_once('.')?;
        let name = name.strip_suffix(READ_ONLY)?;
        Some((self.by_key(&format!("{name}.{project}"))?, Access::ReadOnly))
    }
}

/// What stands before `domain` in `name`.
fn below<'a>(name: &'a str, domain: &str) -> Option<&'a str> {
    if domain.is_empty() {
        return None;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let at = name.len().checked_sub(domain.len())?;
    let (key, rest) = name.split_at_checked(at)?;
    rest.eq_ignore_ascii_case(domain).then_some(())?;
    key.strip_suffix('.')
}

fn missing(key: &str) -> Error {
    Error::not_found("instance", key)
}

#[cfg(test)]
mod tests {
    use windlass_core::ErrorKind;

    use super::*;
    use crate::{metrics::Metrics, routes::testing::route};

    fn table() -> RouteTable {
        let table = RouteTable::new(Arc::new(Metrics::new()));
        for name in ["db", "other", "other-ro"] {
            table.put(route(name, 1, 1));
        }
        table
    }

    fn found(sni: Option<&str>, user: &str, domain: &str) -> Result<String, Error> {
        let found = table().find(&Entrance::Main, sni, user, domain)?;
        Ok(format!("{} {:?} {}", found.instance.route().key(), found.access, found.user))
    }

    #[test]
    fn the_name_of_the_handshake_wins_and_then_a_user_may_have_any_name() {
        let by_name = |sni| found(Some(sni), "a@b", "db.net").expect(sni);
        assert_eq!(by_name("db.shop.db.net"), "db.shop ReadWrite a@b");
        assert_eq!(by_name("DB.Shop.DB.net."), "db.shop ReadWrite a@b");
        assert_eq!(by_name("db-ro.shop.db.net"), "db.shop ReadOnly a@b");
        assert_eq!(by_name("other-ro.shop.db.net"), "other-ro.shop ReadWrite a@b", "an instance of that very name");
        for missing in ["x.shop.db.net", "shop.db.net", ".db.net"] {
            assert_eq!(found(Some(missing), "a", "db.net").expect_err(missing).kind, ErrorKind::NotFound);
        }
    }

    #[test]
    fn the_users_suffix_counts_when_no_name_says_which_instance() {
        for (sni, domain) in [(None, "db.net"), (Some("db.shop.db.net"), ""), (Some("localhost"), "db.net")] {
            assert_eq!(found(sni, "a@b@db-ro.shop", domain).expect("found"), "db.shop ReadOnly a@b");
        }
        let error = found(None, "a", "db.net").expect_err("no instance named");
        assert!(error.message.contains("INSTANCE.PROJECT.db.net, or as a@INSTANCE.PROJECT"), "{error}");
    }

    #[test]
    fn a_port_of_its_own_is_for_one_instance_whatever_the_client_says() {
        let entrance = Entrance::Fixed("db.shop".into());
        let found = table().find(&entrance, Some("other.shop.db.net"), "a@other.shop", "db.net").expect("found");
        assert_eq!((found.instance.route().key().as_str(), found.user.as_str()), ("db.shop", "a@other.shop"));
    }
}
