//! The instance state machine: two axes, one total transition function.
//!
//! `Lifecycle` is what the control plane is doing with the instance; `Health` is what the hosts report of it. They
//! are independent: a RUNNING instance may be DEGRADED or UNKNOWN, and health never moves the lifecycle by itself.
//!
//! Invariants: `next` is total, and every change of a stored lifecycle goes through it; DELETED is left only by an
//! undelete (data back in service) or a purge (the row goes away).

use serde::{Deserialize, Serialize};

use crate::{Error, Reason};

crate::words! {
    /// Where the instance stands in its life (mission row M4).
    pub enum Lifecycle {
        /// Accepted, nothing done yet.
        Pending = "PENDING",
        /// Being created or brought back from deletion.
        Creating = "CREATING",
        /// In service.
        Running = "RUNNING",
        /// Being resized, reconfigured, started or restarted.
        Modifying = "MODIFYING",
        /// Being stopped.
        Stopping = "STOPPING",
        /// Stopped by request; data kept, nothing runs.
        Stopped = "STOPPED",
        /// Asleep until a client connects.
        Suspended = "SUSPENDED",
        /// Being deleted.
        Deleting = "DELETING",
        /// Deleted; data kept until the undelete window ends.
        Deleted = "DELETED",
        /// The last operation left it unusable; it can be deleted, started or restarted.
        Error = "ERROR",
    }
}

crate::words! {
    /// What the hosts report of the instance, as far as is known.
    pub enum Health {
        /// No host has reported yet, or the reports are too old.
        Unknown = "UNKNOWN",
        /// Every member does what its goal says.
        Healthy = "HEALTHY",
        /// It serves, but something is wrong: a member down, the disk nearly full, drift not yet mended.
        Degraded = "DEGRADED",
        /// It should serve and does not.
        Unhealthy = "UNHEALTHY",
    }
}

/// What happens to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LifecycleEvent {
    /// The create or undelete saga has begun.
    CreateBegun,
    /// A resize, reconfiguration, start or restart has begun.
    ModifyBegun,
    /// A stop has begun.
    StopBegun,
    /// The sleep of an idle instance has begun.
    SuspendBegun,
    /// A delete has begun.
    DeleteBegun,
    /// An undelete has begun.
    UndeleteBegun,
    /// The members run and serve.
    Served,
    /// The members are stopped by request.
    CameToRest,
    /// The members are stopped because nobody uses them.
    FellAsleep,
    /// The instance is gone from its hosts but for the retained data.
    Removed,
    /// The operation failed and could not be undone.
    Failed,
}

impl LifecycleEvent {
    /// Every event.
    pub const ALL: [Self; 11] = [
        Self::CreateBegun,
        Self::ModifyBegun,
        Self::StopBegun,
        Self::SuspendBegun,
        Self::DeleteBegun,
        Self::UndeleteBegun,
        Self::Served,
        Self::CameToRest,
        Self::FellAsleep,
        Self::Removed,
        Self::Failed,
    ];

    const fn verb(self) -> &'static str {
        match self {
            Self::CreateBegun => "be created",
            Self::ModifyBegun => "be changed, started or restarted",
            Self::StopBegun => "be stopped",
            Self::SuspendBegun => "be suspended",
            Self::DeleteBegun => "be deleted",
            Self::UndeleteBegun => "be undeleted",
            Self::Served => "come into service",
            Self::CameToRest => "come to rest",
            Self::FellAsleep => "fall asleep",
            Self::Removed => "be removed",
            Self::Failed => "fail",
        }
    }
}

impl Lifecycle {
    /// Whether an operation is working on the instance in this state.
    pub const fn transient(self) -> bool {
        match self {
            Self::Pending | Self::Creating | Self::Modifying | Self::Stopping | Self::Deleting => true,
            Self::Running | Self::Stopped | Self::Suspended | Self::Deleted | Self::Error => false,
        }
    }

    /// The state after `event`.
    ///
    /// # Errors
    /// `STATE_FORBIDS` when the event is not legal in this state.
    pub fn next(self, event: LifecycleEvent) -> Result<Self, Error> {
        use Lifecycle as S;
        use LifecycleEvent as E;
        let next = match (self, event) {
            (S::Pending, E::CreateBegun) => S::Creating,
            (S::Running | S::Stopped | S::Suspended | S::Error, E::ModifyBegun) => S::Modifying,
            (S::Running | S::Error, E::StopBegun) => S::Stopping,
            (S::Running, E::SuspendBegun) => S::Stopping,
            (S::Pending | S::Creating | S::Running | S::Stopped | S::Suspended | S::Error, E::DeleteBegun) => {
                S::Deleting
            }
            (S::Deleted, E::UndeleteBegun) => S::Creating,
            (S::Creating | S::Modifying | S::Stopping, E::Served) => S::Running,
            (S::Creating | S::Modifying | S::Stopping, E::CameToRest) => S::Stopped,
            (S::Modifying | S::Stopping, E::FellAsleep) => S::Suspended,
            (S::Pending | S::Creating | S::Deleting, E::Removed) => S::Deleted,
            (S::Pending | S::Creating | S::Modifying | S::Stopping | S::Deleting, E::Failed) => S::Error,
            (
                S::Pending
                | S::Creating
                | S::Running
                | S::Modifying
                | S::Stopping
                | S::Stopped
                | S::Suspended
                | S::Deleting
                | S::Deleted
                | S::Error,
                _,
            ) => {
                return Err(Error::precondition(
                    Reason::StateForbids,
                    format!("the instance is {self} and cannot {} now", event.verb()),
                )
                .with_metadata("state", self));
            }
        };
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table, so that a change of the machine is seen in review: rows are states, columns are events.
    #[test]
    fn the_table_is_exactly_this() {
        let table: Vec<String> = Lifecycle::ALL
            .iter()
            .map(|state| {
                let row: Vec<_> = LifecycleEvent::ALL
                    .iter()
                    .map(|event| state.next(*event).map_or("-".to_owned(), |next| next.as_str().to_owned()))
                    .collect();
                format!("{state}: {}", row.join(" "))
            })
            .collect();
        assert_eq!(
            table,
            [
                "PENDING: CREATING - - - DELETING - - - - DELETED ERROR",
                "CREATING: - - - - DELETING - RUNNING STOPPED - DELETED ERROR",
                "RUNNING: - MODIFYING STOPPING STOPPING DELETING - - - - - -",
                "MODIFYING: - - - - - - RUNNING STOPPED SUSPENDED - ERROR",
                "STOPPING: - - - - - - RUNNING STOPPED SUSPENDED - ERROR",
                "STOPPED: - MODIFYING - - DELETING - - - - - -",
                "SUSPENDED: - MODIFYING - - DELETING - - - - - -",
                "DELETING: - - - - - - - - - DELETED ERROR",
                "DELETED: - - - - - CREATING - - - - -",
                "ERROR: - MODIFYING STOPPING - DELETING - - - - - -",
            ]
        );
    }

    #[test]
    fn every_state_is_reachable_and_every_transient_one_can_end() {
        let mut reached = vec![Lifecycle::Pending];
        while let Some(next) = reached
            .iter()
            .flat_map(|s| LifecycleEvent::ALL.iter().filter_map(|e| s.next(*e).ok()))
            .find(|s| !reached.contains(s))
        {
            reached.push(next);
        }
        assert_eq!(reached.len(), Lifecycle::ALL.len());
        for state in Lifecycle::ALL.iter().filter(|s| s.transient()) {
            assert!(
                LifecycleEvent::ALL.iter().any(|e| state.next(*e).is_ok_and(|n| !n.transient())),
                "{state} has no end"
            );
        }
    }

    #[test]
    fn a_refusal_names_the_state_and_the_verb() {
        let error = Lifecycle::Stopped.next(LifecycleEvent::StopBegun).expect_err("stopped twice");
        assert_eq!(
            (error.reason, error.message.as_str()),
            (Reason::StateForbids, "the instance is STOPPED and cannot be stopped now")
        );
    }
}
