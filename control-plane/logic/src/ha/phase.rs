//! What is going on in a cluster, and what operations ask of it.
//!
//! An operation writes an [`Intent`] and waits for the [`Outcome`] of the same id; it never changes a role itself.

use serde::{Deserialize, Serialize};
use windlass_core::id::{MemberId, OperationId};

/// What is going on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "name", content = "step", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Phase {
    /// Somebody leads; the ack set follows the members.
    Steady,
    /// Members are sealed for the epoch; from the first seal on only forward.
    Electing(Election),
    /// The reign's leader is told to lead, and is awaited.
    Promoting(Promotion),
    /// The leader is being replaced in order.
    Switchover(Switch),
    /// Agents know more than this row: it is being rebuilt from their facts.
    Reconciling,
    /// Stopped by its user.
    Resting(RestStep),
}

impl Phase {
    /// The word that the API shows.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Steady => "STEADY",
            Self::Electing(_) => "ELECTING",
            Self::Promoting(_) => "PROMOTING",
            Self::Switchover(_) => "SWITCHOVER",
            Self::Reconciling => "RECONCILING",
            Self::Resting(_) => "RESTING",
        }
    }
}

/// An election.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Election {
    /// Why the old leader is given up, for people.
    pub cause: String,
    /// Whom an operator wants; none: the best.
    #[serde(default)]
    pub to: Option<MemberId>,
    /// Whether it may go on without the quorum's proof.
    #[serde(default)]
    pub loss: Loss,
}

/// Whether acknowledged commits may be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Never.
    #[default]
    Forbidden,
    /// An operator vouches that the old leader is dead, and takes what is left.
    Allowed,
}

/// Why a leader is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    /// The instance is new.
    Founding,
    /// It was elected.
    Failover,
    /// It took over in order.
    Switchover,
    /// It led before and opens again: a switchover was given up, or the instance was started.
    Reopening,
    /// It was found leading after the metadata lost rows.
    Adoption,
}

/// A switchover under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Switch {
    /// The operation.
    pub id: OperationId,
    /// Who takes over.
    pub to: MemberId,
    /// What happens to open transactions.
    pub patience: Patience,
    /// rev of the checkpoint that the old leader is asked for.
    #[serde(default)]
    pub checkpoint_rev: u64,
    /// rev of the route that pauses clients; 0 until then.
    pub pause_rev: u64,
    /// How far it is.
    pub step: SwitchStep,
}

/// How far a switchover is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwitchStep {
    /// The leader writes a checkpoint, so that its stop is short; clients notice nothing.
    Preparing,
    /// Proxies hold new transactions and let running ones end.
    Pausing,
    /// The leader stops in order; its end position is awaited, then the candidate's.
    Draining,
}

/// What a switchover does to transactions that do not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Patience {
    /// It is given up.
    #[default]
    GiveUp,
    /// They are ended.
    EndTransactions,
}

/// How far a stop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestStep {
    /// The leader stops first, so that all it wrote reaches the others.
    Leader,
    /// The others stop.
    Followers,
    /// All that answer are at rest.
    Done,
}

/// What an operation asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Intent {
    /// Nothing.
    #[default]
    None,
    /// Replace the leader in order.
    Switchover {
        /// The operation.
        id: OperationId,
        /// Who takes over; none: the best candidate.
        to: Option<MemberId>,
        /// What happens to open transactions.
        patience: Patience,
    },
    /// Replace the leader without it.
    Failover {
        /// The operation.
        id: OperationId,
        /// Who takes over; none: the best.
        to: Option<MemberId>,
        /// Whether acknowledged commits may be given up.
        loss: Loss,
    },
    /// Stop all members.
    Rest {
        /// The operation.
        id: OperationId,
    },
}

impl Intent {
    /// The operation behind it.
    pub const fn id(&self) -> Option<OperationId> {
        match self {
            Self::None => None,
            Self::Switchover { id, .. } | Self::Failover { id, .. } | Self::Rest { id } => Some(*id),
        }
    }
}

/// What came of an intent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Outcome {
    /// The operation.
    pub id: OperationId,
    /// Empty if it was reached, otherwise why not.
    #[serde(default)]
    pub failure: String,
}
