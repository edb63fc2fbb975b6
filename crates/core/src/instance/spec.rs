//! What is wanted of an instance. Stored as JSON beside a generation that grows with each change.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{engine::Engine, replication::Replication, size::Resources};

crate::words! {
    /// Whether the members are to run.
    pub enum Power {
        /// They run and serve.
        On = "ON",
        /// They are stopped; data is kept.
        Off = "OFF",
    }
}

/// Where the members may be placed. Empty means anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlacementRules {
    /// Only hosts of this region.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Only hosts of this zone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Only hosts that carry all these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub host_labels: BTreeMap<String, String>,
}

/// The desired state of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Which engine.
    pub engine: Engine,
    /// Major version as the engine counts it, for example `15` or `10.11`.
    pub version: String,
    /// Size of each member.
    pub resources: Resources,
    /// Whether it is to run.
    pub power: Power,
    /// The user's parameters; what is absent follows the defaults for the size.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Where members may be placed.
    #[serde(default)]
    pub placement: PlacementRules,
    /// Refuse to delete while true.
    #[serde(default)]
    pub deletion_protection: bool,
    /// Grows with each requested restart, so that a restart is desired state and not a lost message.
    #[serde(default)]
    pub restarts: u64,
    /// Members beside the primary.
    #[serde(default)]
    pub replication: Replication,
}
