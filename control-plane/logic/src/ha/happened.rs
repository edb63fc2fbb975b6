//! What a decision did, for events, the audit and the timeline of a failover.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use windlass_core::id::MemberId;

/// When the steps of a change of the leader happened, by the clock of the node that noted them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Timeline {
    /// The last sign of life of the old leader; of a switchover, the pause.
    pub lost: Timestamp,
    /// It was decided.
    pub detected: Timestamp,
    /// Enough members were sealed.
    #[serde(default)]
    pub sealed: Option<Timestamp>,
    /// The new leader was told.
    #[serde(default)]
    pub promoted: Option<Timestamp>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Happened {
    /// The leader is given up; members are sealed for this epoch.
    Detected {
        /// The new epoch.
        epoch: u64,
        /// The old leader.
        leader: MemberId,
        /// Why.
        cause: String,
    },
    /// An operator gave up proof; `cause` says what it overrides. To be audited.
    DataLossAccepted {
        /// The epoch.
        epoch: u64,
        /// Who leads now.
        leader: MemberId,
        /// What is not proven.
        cause: String,
    },
    /// Enough members were sealed and one was chosen.
    Promoted {
        /// The epoch.
        epoch: u64,
        /// Who.
        leader: MemberId,
        /// Who acknowledges to it; empty: it starts alone.
        acks: Vec<MemberId>,
    },
    /// A leader let applications in.
    Opened {
        /// The epoch.
        epoch: u64,
        /// Who.
        leader: MemberId,
        /// From the old leader's last sign of life, in milliseconds; none if nobody was replaced.
        rto_ms: Option<u64>,
        /// The steps.
        timeline: Option<Timeline>,
    },
    /// The set of ackers was told to change.
    SetChanged {
        /// rev of the set.
        rev: u64,
        /// Who acknowledges; empty: alone.
        acks: Vec<MemberId>,
        /// How many must.
        needed: u32,
        /// Why.
        cause: String,
    },
    /// A barrier proved that the set is in force.
    SetConfirmed {
        /// rev of the set.
        rev: u64,
        /// Who acknowledges.
        acks: Vec<MemberId>,
        /// How many must.
        needed: u32,
    },
    /// A switchover paused the clients.
    SwitchoverStarted {
        /// Who takes over.
        to: MemberId,
    },
    /// A switchover was given up; the old leader goes on.
    SwitchoverGivenUp {
        /// Why.
        cause: String,
    },
    /// A member's data is not trusted; it is copied anew.
    CloneOrdered {
        /// Who.
        member: MemberId,
        /// Why.
        cause: String,
    },
    /// Agents know more than the row: it is being rebuilt.
    ReconcileStarted {
        /// Why.
        cause: String,
    },
    /// A leader was found and taken over.
    Adopted {
        /// The new epoch.
        epoch: u64,
        /// Who.
        leader: MemberId,
    },
    /// All members that answer are at rest.
    Rested,
}
