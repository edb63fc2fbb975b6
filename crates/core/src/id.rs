//! Typed identifiers: one type per kind of thing, so that a host id cannot be passed for an instance id.
//!
//! All are UUIDs of version 7 (time-ordered, RFC 9562), shown in the usual hyphenated form.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Error;

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident, $word:literal;)+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh id.
            #[expect(clippy::new_without_default, reason = "a fresh id is not a default value")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The last twelve hex digits: random, short enough for paths and unit names.
            pub fn short(self) -> String {
                let text = self.0.simple().to_string();
                text[20..].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($word, ":{}"), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                Uuid::parse_str(text)
                    .map(Self)
                    .map_err(|_| Error::invalid(concat!($word, "_id"), format!("{text:?} is not a UUID; copy the uid that the API printed")))
            }
        }
    )+};
}

ids! {
    /// A project.
    ProjectId, "project";
    /// An instance: one database service.
    InstanceId, "instance";
    /// A member: one server process of an instance on one host.
    MemberId, "member";
    /// A host that runs an agent.
    HostId, "host";
    /// A proxy: one process that routes clients.
    ProxyId, "proxy";
    /// A user-visible long-running operation; its saga carries the same id.
    OperationId, "operation";
    /// A command to one agent.
    CommandId, "command";
    /// An API key.
    ApiKeyId, "api_key";
    /// A one-use token with which a host enrols.
    JoinTokenId, "join_token";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_and_reject_rubbish_by_name() {
        let id = HostId::new();
        assert_eq!(id.to_string().parse::<HostId>().expect("round trip"), id);
        assert_eq!("x".parse::<HostId>().expect_err("rubbish").violations[0].field, "host_id");
        assert_eq!(id.short().len(), 12);
    }
}
