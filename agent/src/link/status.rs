//! How the connection stands, for `windlass-agent status` and for tests.

use serde::{Deserialize, Serialize};

/// How the connection stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum LinkStatus {
    /// The host has no identity yet.
    Enrolling {
        /// Why the last attempt failed; empty before the first.
        problem: String,
    },
    /// No connection now.
    Connecting {
        /// Why the last one ended or failed; empty before the first.
        problem: String,
    },
    /// Talking to this address.
    Connected {
        /// The address.
        endpoint: String,
    },
    /// The control plane does not want this host; it is asked again now and then.
    Refused {
        /// Why.
        problem: String,
    },
}
