//! What is seen of a member, and the state that it is in by it. Pure.

use std::time::Duration;

use windlass_core::replication::ReplicaState;

use super::state::{Opened, ProcessId, Record, Role};
use crate::engines::postgres::replication::{Gate, Live};

/// A server that does not answer for this long counts as dead, though its process lives: it is frozen, or its disk hangs.
pub(super) const SILENT: Duration = Duration::from_secs(2);
/// A leader whose log does not get to disk for this long counts as dead.
pub(super) const STUCK: Duration = Duration::from_secs(5);

/// What is seen of a member's server.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sight {
    /// There is no data directory.
    NoData,
    /// It does not run.
    Down(Down),
    /// It runs and does not accept connections yet.
    Starting(Start),
    /// It ran and answers no more.
    Silent(Duration),
    /// It answers.
    Live(Box<Live>),
}

/// A server that does not run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Down {
    /// How it ended, as far as is known.
    pub(super) how: String,
    /// How long ago; since the agent's start if it is not known.
    pub(super) since: Duration,
    /// Why a restart cures nothing.
    pub(super) incurable: Option<&'static str>,
    /// Why it cannot start as a standby any more.
    pub(super) hopeless: Option<&'static str>,
    /// Bytes that a restart has to redo.
    pub(super) redo: u64,
}

/// How a start goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Of a server that had stopped in order, or whose end was not seen.
    Plain,
    /// It redoes what a crash left.
    AfterCrash,
    /// It waits for a part of the log that nobody sends; why.
    Astray(&'static str),
}

/// What a member does for longer than a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Busy {
    Copying,
    Rewinding,
    Draining,
}

/// What the state follows from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing<'a> {
    pub(super) record: &'a Record,
    pub(super) sight: &'a Sight,
    pub(super) process: Option<ProcessId>,
    pub(super) gate: Gate,
    pub(super) busy: Option<Busy>,
    /// It shut itself.
    pub(super) fenced: bool,
    /// Its log does not get to disk.
    pub(super) stuck: bool,
    pub(super) resting: bool,
}

impl Standing<'_> {
    /// The state to report, and to act from.
    pub(super) fn state(&self) -> ReplicaState {
        let record = self.record;
        if !record.distrust.is_empty() && self.busy != Some(Busy::Copying) {
            return ReplicaState::Quarantine;
        }
        match self.busy {
            Some(Busy::Copying) => return ReplicaState::Cloning,
            Some(Busy::Rewinding) => return ReplicaState::Rejoining,
            Some(Busy::Draining) => return ReplicaState::Draining,
            None => {}
        }
        match (self.sight, record.role) {
            (Sight::NoData, _) => ReplicaState::New,
            (Sight::Down(_), Role::Unborn) | (_, Role::Unborn) => ReplicaState::New,
            (Sight::Down(_), _) if self.resting => ReplicaState::Resting,
            (Sight::Down(_), _) if record.stopped_at.is_some() => ReplicaState::CleanStop,
            (Sight::Down(_), Role::Demoted(_)) => ReplicaState::Demoted,
            (Sight::Down(_) | Sight::Silent(_) | Sight::Starting(Start::AfterCrash), Role::Leader(_)) => {
                ReplicaState::Crashed
            }
            (Sight::Down(_), Role::Follower(_) | Role::HandedOver(_) | Role::Proven(_) | Role::Sealed(_)) => {
                ReplicaState::Crashed
            }
            (Sight::Starting(_) | Sight::Silent(_) | Sight::Live(_), Role::Demoted(_)) => ReplicaState::Rejoining,
            (Sight::Starting(_), Role::Leader(_)) => ReplicaState::Gated,
            (Sight::Live(_), Role::Leader(_)) => self.leading(),
            (Sight::Live(live), role)
                if record.promoting.is_some_and(|p| p.epoch == record.max_epoch) && !live.recovering =>
            {
                debug_assert!(!matches!(role, Role::Leader(_)), "a leader was handled before");
                ReplicaState::Promoting
            }
            (Sight::Live(live), Role::Sealed(_)) if live.is_sealed() => ReplicaState::Sealed,
            (Sight::Live(live), Role::Proven(epoch)) if streams_as_acknowledger(record, live, epoch) => {
                ReplicaState::Standby
            }
            (
                Sight::Starting(_) | Sight::Silent(_) | Sight::Live(_),
                Role::Follower(_) | Role::HandedOver(_) | Role::Proven(_) | Role::Sealed(_),
            ) => ReplicaState::Catchup,
        }
    }

    fn leading(&self) -> ReplicaState {
        let proof = |opened: &Opened| Some(opened.process) == self.process && opened.epoch == self.record.role.epoch();
        let opened = self.record.opened.filter(proof);
        if self.stuck {
            ReplicaState::Crashed
        } else if self.fenced && self.gate == Gate::Shut {
            ReplicaState::Fenced
        } else if self.gate == Gate::Open && opened.is_some() {
            ReplicaState::Open
        } else {
            ReplicaState::Gated
        }
    }
}

fn streams_as_acknowledger(record: &Record, live: &Live, epoch: u64) -> bool {
    let name = windlass_core::replication::epoch_name(record.member, epoch);
    live.receiver.as_ref().is_some_and(|receiver| {
        receiver.status == "streaming" && receiver.value("application_name").as_deref() == Some(name.as_str())
    })
}

#[cfg(test)]
mod tests {
    use windlass_core::id::{InstanceId, MemberId};

    use super::*;

    #[test]
    fn a_leader_is_open_by_the_proof_of_its_own_epoch_only() {
        let process = ProcessId { pid: 7, second: 7 };
        let live = Sight::Live(Box::default());
        for (epoch, state) in [(8, ReplicaState::Open), (7, ReplicaState::Gated)] {
            let record = Record {
                role: Role::Leader(8),
                opened: Some(Opened { epoch, barrier_rev: 1, process }),
                ..Record::new(InstanceId::new(), MemberId::new())
            };
            let standing = Standing {
                record: &record,
                sight: &live,
                process: Some(process),
                gate: Gate::Open,
                busy: None,
                fenced: false,
                stuck: false,
                resting: false,
            };
            assert_eq!(standing.state(), state);
        }
    }
}
