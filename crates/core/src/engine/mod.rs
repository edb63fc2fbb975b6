//! Engines: the closed list of database management systems and what is true of each without touching a host.
//!
//! Invariant: nothing outside this folder and the agent's `engines` folder matches on an engine; everybody else reads
//! the descriptor. The code names no single version: versions are discovered on hosts.

mod mariadb;
mod postgres;

use std::collections::BTreeMap;

use crate::{Error, size::Resources};

crate::words! {
    /// A database management system.
    pub enum Engine {
        /// PostgreSQL.
        Postgres = "postgres",
        /// MariaDB.
        Mariadb = "mariadb",
    }
}

/// How an engine stores a password without knowing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifierKind {
    /// `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>` (RFC 5803).
    ScramSha256,
    /// `*` and the upper hex of SHA1(SHA1(password)): MariaDB's `mysql_native_password`.
    MysqlNativePassword,
}

/// What is true of an engine without touching a host.
pub struct Descriptor {
    /// For people.
    pub title: &'static str,
    /// Name of the native client program.
    pub client: &'static str,
    /// Scheme of connection URIs.
    pub uri_scheme: &'static str,
    /// The database that exists from the start and to which clients connect by default.
    pub default_database: &'static str,
    /// The application's administrator that exists from the start.
    pub admin_user: &'static str,
    /// Whether `extension` objects exist.
    pub has_extensions: bool,
    /// Whether an instance may have replicas.
    pub has_replicas: bool,
    /// Numbers of which a replica must not have less than its primary, or it does not run.
    pub replica_minimums: &'static [&'static str],
    /// Whether proxies speak its protocol.
    pub has_proxy: bool,
    /// How users' passwords are stored.
    pub verifier: VerifierKind,
    /// Parameters that Windlass sets itself, each with the reason; a user may not set them.
    pub managed_parameters: &'static [(&'static str, &'static str)],
    /// Defaults for a member of this size. Keys are parameter names, values as the engine's file wants them.
    pub defaults: fn(&Resources) -> BTreeMap<String, String>,
    /// Orders versions: newer is greater. Unparsable versions are the smallest.
    pub version_key: fn(&str) -> (u32, u32),
}

impl Engine {
    /// The descriptor.
    pub const fn descriptor(self) -> &'static Descriptor {
        match self {
            Self::Postgres => &postgres::DESCRIPTOR,
            Self::Mariadb => &mariadb::DESCRIPTOR,
        }
    }

    /// The newest of some versions, if there is any.
    pub fn newest<'a>(self, versions: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        versions.max_by_key(|version| (self.descriptor().version_key)(version))
    }

    /// Refuses parameters that Windlass manages.
    ///
    /// # Errors
    /// `INVALID_FIELD` naming the parameter and why it is managed.
    pub fn check_not_managed(self, parameter: &str) -> Result<(), Error> {
        match self.descriptor().managed_parameters.iter().find(|(name, _)| *name == parameter) {
            None => Ok(()),
            Some((name, why)) => {
                Err(Error::invalid(format!("parameters.{name}"), format!("is set by Windlass ({why}); remove it")))
            }
        }
    }
}

/// Reads `major.minor` version keys; what is missing counts as 0.
fn version_key(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::{GIB, MIB};

    #[test]
    fn the_newest_version_is_chosen_by_number_not_by_text() {
        assert_eq!(Engine::Postgres.newest(["9", "15", "16"].into_iter()), Some("16"));
        assert_eq!(Engine::Mariadb.newest(["10.6", "10.11", "10.5"].into_iter()), Some("10.11"));
    }

    #[test]
    fn defaults_grow_with_memory_and_stay_far_below_it() {
        for engine in Engine::ALL {
            for memory in [128 * MIB, 512 * MIB, 4 * GIB, 64 * GIB] {
                let size = Resources { memory_bytes: memory, ..Resources::DEFAULT };
                let defaults = (engine.descriptor().defaults)(&size);
                let main = if *engine == Engine::Postgres { "shared_buffers" } else { "innodb_buffer_pool_size" };
                let text = &defaults[main];
                let bytes = text.trim_end_matches("MB").parse::<u64>().expect(text)
                    * if text.ends_with("MB") { MIB } else { 1 };
                assert!(bytes * 100 >= memory * 10 && bytes * 100 <= memory * 60, "{engine} {memory}: {text}");
            }
        }
    }

    #[test]
    fn a_managed_parameter_is_refused_with_the_reason() {
        let error = Engine::Postgres.check_not_managed("port").expect_err("port is ours");
        assert!(error.message.starts_with("parameters.port: is set by Windlass"), "{error}");
        Engine::Postgres.check_not_managed("work_mem").expect("work_mem is the user's");
    }
}
