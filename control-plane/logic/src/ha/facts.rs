//! What agents report of replicated members: facts read back from the server, never wishes. The typed mirror of
//! `ReplicaFacts` in the agent's protocol.
//!
//! Positions are PostgreSQL's 64-bit LSNs; 0 is not known. Facts live in memory only: a control plane that starts anew
//! hears them again within one report.

use std::{collections::BTreeSet, time::Duration};

use uuid::Uuid;
use windlass_core::{id::MemberId, replication::ReplicaState};

/// A barrier row: the proof that everything before it is in a member's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Barrier {
    /// Epoch in which it was written; 0 if there is none.
    pub epoch: u64,
    /// rev of the ack set under which it was written.
    pub rev: u64,
}

/// What identifies a history; a timeline's number alone does not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Lineage {
    /// PostgreSQL's system identifier; empty if not known.
    pub system: String,
    /// Timeline.
    pub timeline: u32,
    /// Where the timeline left its parent.
    pub fork: u64,
    /// Of the newest barrier row in its data.
    pub nonce: Option<Uuid>,
}

/// A follower's connection to its leader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Whom it follows, if the agent knows.
    pub member: Option<MemberId>,
    /// The connection stands.
    pub streaming: bool,
    /// The name under which it streams.
    pub application_name: String,
    /// Since the last message from the leader.
    pub silent_for: Duration,
}

/// A follower as its leader's server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Downstream {
    /// Who.
    pub member: MemberId,
    /// Epoch in its name; 0 for a name that cannot acknowledge.
    pub epoch: u64,
    /// The connection stands.
    pub streaming: bool,
    /// It counts for commits now.
    pub acknowledges: bool,
    /// Durable there.
    pub flushed: u64,
    /// Visible there.
    pub replayed: u64,
}

/// What a leader's server makes commits wait for, read back from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Enforced {
    /// rev of the order it obeys.
    pub rev: u64,
    /// Members whose receipt releases a commit.
    pub acks: BTreeSet<MemberId>,
    /// How many of them.
    pub needed: u32,
    /// rev of the barrier that proves it, acknowledged or not; 0 if unknown.
    pub barrier_rev: u64,
}

/// What is known of one member.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Highest epoch it has seen, on its disk.
    pub max_epoch: u64,
    /// rev of the last order it took, on its disk.
    pub applied_rev: u64,
    /// Where it stands.
    pub state: ReplicaState,
    /// Epoch that it leads, follows or is sealed for.
    pub role_epoch: u64,
    /// Its history.
    pub lineage: Lineage,
    /// Newest barrier in its data.
    pub barrier: Barrier,
    /// Durable end; of a clean stop, its last record's end.
    pub flushed: u64,
    /// Replayed end.
    pub replayed: u64,
    /// Bytes that a crash restart has to redo; estimate.
    pub redo_bytes: u64,
    /// Followers: the connection to the leader.
    pub upstream: Option<Upstream>,
    /// Leaders: who streams from it.
    pub downstream: Vec<Downstream>,
    /// Leaders: what commits wait for.
    pub enforced: Option<Enforced>,
    /// For people.
    pub reason: String,
    /// Grows with each start of the server.
    pub starts: u64,
    /// Crashes within the last minute.
    pub crashes: u32,
    /// A restart would not cure it: PANIC, full disk, I/O error, corruption.
    pub must_not_restart: bool,
    /// What lay behind the fork when it rejoined, for people.
    pub lost_writes: String,
    /// Per cent of a clone or rewind under way.
    pub progress_percent: Option<u8>,
    /// Leaders: rev of the newest checkpoint that was asked for and written.
    pub checkpoint_rev: u64,
}

impl Facts {
    /// Facts of a member of which nothing but its state is known.
    pub fn of(state: ReplicaState) -> Self {
        Self {
            max_epoch: 0,
            applied_rev: 0,
            state,
            role_epoch: 0,
            lineage: Lineage::default(),
            barrier: Barrier::default(),
            flushed: 0,
            replayed: 0,
            redo_bytes: 0,
            upstream: None,
            downstream: Vec::new(),
            enforced: None,
            reason: String::new(),
            starts: 0,
            crashes: 0,
            must_not_restart: false,
            lost_writes: String::new(),
            progress_percent: None,
            checkpoint_rev: 0,
        }
    }

    /// Leads an epoch now, with its gate open or shut.
    pub fn leads(&self, epoch: u64) -> bool {
        self.role_epoch == epoch
            && match self.state {
                ReplicaState::Promoting | ReplicaState::Gated | ReplicaState::Open | ReplicaState::Fenced => true,
                ReplicaState::New
                | ReplicaState::Cloning
                | ReplicaState::Catchup
                | ReplicaState::Standby
                | ReplicaState::Sealed
                | ReplicaState::Draining
                | ReplicaState::CleanStop
                | ReplicaState::Crashed
                | ReplicaState::Demoted
                | ReplicaState::Rejoining
                | ReplicaState::Quarantine
                | ReplicaState::Resting => false,
            }
    }

    /// A follower's connection to its leader is lost, or has said nothing for so long.
    pub fn cut_off(&self, silence: Duration) -> bool {
        self.upstream.as_ref().is_none_or(|up| !up.streaming || up.silent_for >= silence)
    }

    /// The leader's view of one follower.
    pub fn downstream_of(&self, member: MemberId) -> Option<&Downstream> {
        self.downstream.iter().find(|down| down.member == member)
    }
}
