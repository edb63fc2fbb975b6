//! Commands to agents: their kinds and the life of one.
//!
//! A command is delivered at least once and has its effect once: it carries a uid, and the agent's journal answers a
//! repeat with the stored result. Invariants: a terminal state is never left; a result counts only with the attempt
//! under which it was leased.

use crate::{Error, Reason, error::ErrorKind};

crate::words! {
    /// What an agent is asked to do.
    pub enum CommandKind {
        /// Bring a member to a goal: data directory, configuration, certificate, process.
        ApplyMember = "member.apply",
        /// Stop a member and put its data aside.
        RemoveMember = "member.remove",
        /// Delete data that was put aside.
        PurgeMember = "member.purge",
        /// Create, change or drop a user, database or extension.
        ApplyObject = "object.apply",
    }
}

impl CommandKind {
    /// Whether one with a newer generation makes an older one that is still queued for the member pointless.
    pub const fn superseded_by_newer(self) -> bool {
        match self {
            Self::ApplyMember => true,
            Self::RemoveMember | Self::PurgeMember | Self::ApplyObject => false,
        }
    }
}

crate::words! {
    /// Where a command stands.
    pub enum CommandState {
        /// Waits to be fetched.
        Queued = "QUEUED",
        /// An agent has it.
        Leased = "LEASED",
        /// Carried out.
        Succeeded = "SUCCEEDED",
        /// The agent could not do it, or it was delivered too often.
        Failed = "FAILED",
        /// Cancelled before or while it was carried out.
        Cancelled = "CANCELLED",
        /// A newer generation took its place before it was fetched.
        Superseded = "SUPERSEDED",
        /// Not carried out before its deadline.
        Expired = "EXPIRED",
    }
}

impl CommandState {
    /// Whether nothing more will happen.
    pub const fn done(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Superseded | Self::Expired => true,
            Self::Queued | Self::Leased => false,
        }
    }

    /// The error that stands for an end without a report of the agent; None for the other states.
    pub fn silent_end(self) -> Option<Error> {
        let (reason, message) = match self {
            Self::Expired => (
                Reason::CommandExpired,
                "the host did not carry the command out before its deadline; check that its agent runs",
            ),
            Self::Cancelled => (Reason::OperationCancelled, "the command was cancelled"),
            Self::Superseded => (Reason::CommandSuperseded, "a newer change took the place of this one"),
            Self::Queued | Self::Leased | Self::Succeeded | Self::Failed => return None,
        };
        Some(Error::new(ErrorKind::Aborted, reason, message))
    }
}

/// Deliveries after which a command without an answer is given up ("poisoned").
pub const MAX_ATTEMPTS: i32 = 5;
