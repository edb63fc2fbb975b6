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
