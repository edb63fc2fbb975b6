//! Replication of an instance as its user wants it, and the words for where its members stand.
//!
//! Owns: how many replicas, what is promised when they are lost, the bounds of every number. Pure.

use serde::{Deserialize, Serialize};

use crate::{Error, error::FieldViolation, id::MemberId};

/// Most replicas beside the primary.
pub const REPLICAS_MAX: u32 = 4;

crate::words! {
    /// What happens to commits when no synchronous replica is left.
    pub enum Durability {
        /// The primary goes on alone.
        Availability = "availability",
        /// Commits wait until one is back.
        Durability = "durability",
    }
}

crate::words! {
    /// Where a replicated member stands. Also the text of `ReplicaState` in the agent's protocol, where each is explained.
    pub enum ReplicaState {
        /// No data, no order.
        New = "NEW",
        /// Copies the leader's data.
        Cloning = "CLONING",
        /// Follows under a name that cannot acknowledge.
        Catchup = "CATCHUP",
        /// Follows under its epoch name.
        Standby = "STANDBY",
        /// Follows nobody of a lower epoch.
        Sealed = "SEALED",
        /// Becomes the leader.
        Promoting = "PROMOTING",
        /// Leads; nobody may enter.
        Gated = "GATED",
        /// Leads; applications enter.
        Open = "OPEN",
        /// Leads, shut by itself.
        Fenced = "FENCED",
        /// Is being stopped in order.
        Draining = "DRAINING",
        /// Was stopped in order.
        CleanStop = "CLEAN_STOP",
        /// Its server died.
        Crashed = "CRASHED",
        /// Somebody else leads; stopped.
        Demoted = "DEMOTED",
        /// Its history is made one with the leader's.
        Rejoining = "REJOINING",
        /// Its data is not trusted.
        Quarantine = "QUARANTINE",
        /// At rest by order.
        Resting = "RESTING",
    }
}

crate::words! {
    /// What a member is ordered to be. Also the names of the goals in the agent's protocol.
    pub enum ReplicaGoal {
        /// Lead the epoch.
        Lead = "LEAD",
        /// Follow the epoch's leader.
        Follow = "FOLLOW",
        /// Follow nobody of a lower epoch.
        Seal = "SEAL",
        /// Stop in order.
        Drain = "DRAIN",
        /// Do not run.
        Rest = "REST",
    }
}

/// The name under which a member streams so that its receipts count, for example `m0123456789ab_e7`. At most 63 bytes.
pub fn epoch_name(member: MemberId, epoch: u64) -> String {
    format!("m{}_e{epoch}", member.short())
}

/// The name under which a member streams before it is proven; it never stands in `synchronous_standby_names`.
pub fn catchup_name(member: MemberId) -> String {
    format!("m{}_catchup", member.short())
}

/// The physical replication slot of a member.
pub fn slot_name(member: MemberId) -> String {
    format!("m{}", member.short())
}

/// The epoch of an [`epoch_name`] of this member.
pub fn epoch_of_name(member: MemberId, name: &str) -> Option<u64> {
    name.strip_prefix(&format!("m{}_e", member.short()))?.parse().ok()
}

/// Members beside the primary, and what is promised.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Replication {
    /// Members beside the primary, 0 to 4.
    #[serde(default)]
    pub replicas: u32,
    /// How many of them never acknowledge and are never promoted by themselves.
    #[serde(default)]
    pub asynchronous: u32,
    /// When no synchronous replica is left.
    #[serde(default = "availability")]
    pub durability: Durability,
    /// Synchronous replicas that must have a commit; 0 for the default of the size.
    #[serde(default)]
    pub acknowledgements: u32,
    /// When things are decided.
    #[serde(default)]
    pub timings: Timings,
}

const fn availability() -> Durability {
    Durability::Availability
}

impl Default for Replication {
    fn default() -> Self {
        Self {
            replicas: 0,
            asynchronous: 0,
            durability: Durability::Availability,
            acknowledgements: 0,
            timings: Timings::default(),
        }
    }
}

impl Replication {
    /// Replicas that acknowledge.
    pub const fn synchronous(&self) -> u32 {
        self.replicas.saturating_sub(self.asynchronous)
    }

    /// How many receipts a commit waits for while every synchronous replica is there; 0 without any.
    pub fn acknowledgements_wanted(&self) -> u32 {
        let default = if self.replicas < 3 { 1 } else { 2 };
        let wanted = if self.acknowledgements == 0 { default } else { self.acknowledgements };
        wanted.min(self.synchronous())
    }

    /// Checks every number.
    ///
    /// # Errors
    /// `INVALID_FIELD` naming each field below `field` that breaks a rule, with its limits.
    pub fn check(&self, field: &str) -> Result<(), Error> {
        let mut faults = Vec::new();
        let mut fault = |name: &str, message: String| {
            faults.push(FieldViolation { field: format!("{field}.{name}"), description: message });
        };
        if self.replicas > REPLICAS_MAX {
            fault("replicas", format!("is {}; an instance has 0 to {REPLICAS_MAX} replicas", self.replicas));
        }
        if self.asynchronous > self.replicas {
            fault(
                "asynchronous",
                format!("is {}, but there are only {} replicas; make it smaller", self.asynchronous, self.replicas),
            );
        }
        if self.acknowledgements > self.synchronous() {
            fault(
                "acknowledgements",
                format!(
                    "is {}, but only {} replicas are synchronous; every commit would wait for ever",
                    self.acknowledgements,
                    self.synchronous()
                ),
            );
        }
        for (name, (value, low, high)) in self.timings.bounds() {
            if !(low..=high).contains(&value) {
                fault(&format!("timings.{name}"), format!("is {value}; it may be {low} to {high} milliseconds"));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::violations(faults)) }
    }
}

/// When things are decided, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Timings {
    /// Silence after which a host may be held for dead.
    pub detect_ms: u32,
    /// How long a synchronous replica may be away before commits no longer wait for it.
    pub shrink_ms: u32,
    /// Isolation after which a primary shuts itself.
    pub fence_ms: u32,
    /// Longest pause of a switchover.
    pub switchover_ms: u32,
}

impl Default for Timings {
    fn default() -> Self {
        Self { detect_ms: 1_500, shrink_ms: 3_000, fence_ms: 5_000, switchover_ms: 5_000 }
    }
}

impl Timings {
    fn bounds(&self) -> [(&'static str, (u32, u32, u32)); 4] {
        [
            ("detect_ms", (self.detect_ms, 1_000, 60_000)),
            ("shrink_ms", (self.shrink_ms, 1_000, 300_000)),
            ("fence_ms", (self.fence_ms, 3_000, 300_000)),
            ("switchover_ms", (self.switchover_ms, 500, 60_000)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_read_back() {
        let member = MemberId::new();
        let name = epoch_name(member, u64::MAX);
        assert!(name.len() <= 63, "{name}");
        assert_eq!(epoch_of_name(member, &name), Some(u64::MAX));
        assert_eq!(epoch_of_name(member, &catchup_name(member)), None);
        assert_eq!(epoch_of_name(MemberId::new(), &name), None);
    }

    #[test]
    fn every_fault_is_named_with_its_limit() {
        let wrong = Replication {
            replicas: 5,
            asynchronous: 6,
            acknowledgements: 1,
            timings: Timings { detect_ms: 10, ..Timings::default() },
            ..Replication::default()
        };
        let error = wrong.check("instance.replication").expect_err("wrong");
        let fields: Vec<_> = error.violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(
            fields,
            ["replicas", "asynchronous", "acknowledgements", "timings.detect_ms"]
                .map(|name| format!("instance.replication.{name}"))
        );
    }

    #[test]
    fn the_default_quorum_grows_with_the_size() {
        let of = |replicas, asynchronous| {
            Replication { replicas, asynchronous, ..Replication::default() }.acknowledgements_wanted()
        };
        assert_eq!([of(0, 0), of(1, 0), of(2, 0), of(2, 2), of(4, 0), of(4, 3)], [0, 1, 1, 0, 2, 1]);
    }
}
