//! What the scheduler knows of a host: facts of its row, of its last heartbeat, and of the members it holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use windlass_core::{engine::Engine, id::HostId, size::Resources};

/// A snapshot of one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostView {
    /// The host.
    pub id: HostId,
    /// Its name, for explanations.
    pub name: String,
    /// Its agent polls.
    pub online: bool,
    /// An operator wants no new members on it.
    pub cordoned: bool,
    /// Its certificate was revoked.
    pub revoked: bool,
    /// Region, empty if unset.
    pub region: String,
    /// Zone within the region, empty if unset.
    pub zone: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What the machine has, as its agent reported.
    pub capacity: Resources,
    /// What members reserve of it.
    pub reserved: Resources,
    /// How many times each part may be promised.
    pub overcommit: Overcommit,
    /// Engines that are installed, with their major versions.
    pub engines: Vec<(Engine, String)>,
    /// Ports for members.
    pub ports: Ports,
    /// Relative price, 0 to 1,000.
    pub cost_weight: f64,
    /// Measured load; zeros if unknown.
    pub load: Load,
    /// Members it holds of the instance that is being placed.
    pub instance_members: u32,
    /// Members it holds of the same project, those of the instance included.
    pub project_members: u32,
}

/// How many times the parts of a host may be promised; 1 promises what is there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Overcommit {
    /// Processor, 0.1 to 100.
    pub cpu: f64,
    /// Memory, 0.1 to 10.
    pub memory: f64,
    /// Disk, 0.1 to 10.
    pub disk: f64,
}

impl Overcommit {
    /// Promises what is there.
    pub const NONE: Self = Self { cpu: 1.0, memory: 1.0, disk: 1.0 };

    /// The most that may be reserved on a host of this capacity, rounded down.
    pub fn limit(&self, capacity: &Resources) -> Resources {
        let times = |whole: u64, factor: f64| (whole as f64 * factor) as u64;
        Resources {
            cpu_millis: times(capacity.cpu_millis, self.cpu),
            memory_bytes: times(capacity.memory_bytes, self.memory),
            disk_bytes: times(capacity.disk_bytes, self.disk),
        }
    }
}

/// The ports of a host that members may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// First port.
    pub low: u16,
    /// Last port, inclusive.
    pub high: u16,
    /// How many of them are given out or found to be held by something else.
    pub taken: u32,
}

impl Ports {
    /// How many the range has.
    pub fn total(&self) -> u32 {
        if self.low == 0 || self.high < self.low { 0 } else { u32::from(self.high - self.low) + 1 }
    }

    /// How many are left.
    pub fn free(&self) -> u32 {
        self.total().saturating_sub(self.taken)
    }
}

/// Load as measured by the agent. Pressures are PSI "some avg10": the share of the last 10 s in which some task waited.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Processor use in percent of the whole machine.
    pub cpu_percent: f64,
    /// Processor pressure in percent.
    pub psi_cpu: f64,
    /// Memory pressure in percent.
    pub psi_memory: f64,
    /// Disk pressure in percent.
    pub psi_io: f64,
}

impl HostView {
    /// The most that may be reserved, overcommit included.
    pub fn limit(&self) -> Resources {
        self.overcommit.limit(&self.capacity)
    }
}
