//! The facade that the rest of the agent uses.

use std::sync::Arc;

use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use windlass_core::{Error, engine::Engine, id::MemberId, parameter::Catalogue};
use windlass_kit::failpoint::Failpoints;
use windlass_proto::agent::v1 as pb;

use super::{MemberCertificates, MembersConfig};

/// What becomes of a removed member's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposal {
    /// Put aside, for an undelete.
    Retain,
    /// Deleted.
    Purge,
}

/// An engine version that this host has.
#[derive(Debug, Clone, PartialEq)]
pub struct InstalledEngine {
    /// The engine.
    pub engine: Engine,
    /// Major version as the engine counts it.
    pub version: String,
    /// The whole version.
    pub full_version: String,
    /// Its parameters; None until the engine was asked.
    pub catalogue: Option<Catalogue>,
}

/// The database servers of this host.
pub struct Members {
    happenings: broadcast::Sender<pb::Happening>,
    changed: watch::Sender<u64>,
}

impl Members {
    /// Reads what is on disk and finds the servers that still run. Starts nothing; see [`Self::run`].
    ///
    /// # Errors
    /// `INVALID_FIELD` for settings that cannot work; `INTERNAL` for a state directory that cannot be used.
    pub async fn open(
        _config: MembersConfig,
        _certificates: Arc<dyn MemberCertificates>,
        _failpoints: Failpoints,
    ) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self { happenings: broadcast::Sender::new(256), changed: watch::Sender::new(0) }))
    }

    /// Brings a member to the goal. Idempotent; a goal of a lower generation than applied changes nothing.
    ///
    /// # Errors
    /// As each step says; after a failed create nothing is left, after a failed change the former goal holds.
    pub async fn apply(&self, _goal: pb::MemberGoal, _cancel: &CancellationToken) -> Result<pb::MemberFacts, Error> {
        Err(Error::unavailable("members are not built yet"))
    }

    /// Stops a member, takes everything of it away and disposes of its data. Succeeds when there is nothing.
    ///
    /// # Errors
    /// `STOP_FAILED`, `INTERNAL`.
    pub async fn remove(&self, _member: MemberId, _disposal: Disposal) -> Result<pb::MemberFacts, Error> {
        Err(Error::unavailable("members are not built yet"))
    }

    /// Deletes data that was put aside. Succeeds when there is none.
    ///
    /// # Errors
    /// `INTERNAL` when files cannot be removed.
    pub async fn purge(&self, _member: MemberId) -> Result<pb::MemberFacts, Error> {
        Err(Error::unavailable("members are not built yet"))
    }

    /// Creates, changes or drops a user, database or extension. Idempotent.
    ///
    /// # Errors
    /// `STATE_FORBIDS` while the member does not run, `DATABASE_REFUSED`, `INVALID_FIELD`.
    pub async fn apply_object(&self, _member: MemberId, _object: pb::ApplyObject) -> Result<pb::MemberFacts, Error> {
        Err(Error::unavailable("members are not built yet"))
    }

    /// What is known of every member. Cheap: answers from memory.
    pub fn facts(&self) -> Vec<pb::MemberFacts> {
        Vec::new()
    }

    /// Names of data directories that no goal owns.
    pub fn orphans(&self) -> Vec<String> {
        Vec::new()
    }

    /// Engine versions of this host.
    pub fn engines(&self) -> Vec<InstalledEngine> {
        Vec::new()
    }

    /// What the agent did by itself or saw, from now on. Subscribe before [`Self::run`].
    pub fn happenings(&self) -> broadcast::Receiver<pb::Happening> {
        self.happenings.subscribe()
    }

    /// Changes when facts or engines changed in a way worth an early heartbeat.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Supervision: restarts what crashed, puts hand-made changes right, refills the warm pool. Returns on shutdown;
    /// the servers go on.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        shutdown.cancelled().await;
    }
}
