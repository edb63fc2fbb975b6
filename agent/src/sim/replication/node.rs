//! One replicated member of a simulated host: its database, what its agent keeps on disk, and how it obeys.
//!
//! It is quick and honest, not real: every effect takes no time, and facts are read back from the model. Whether a real
//! agent gets there is for the agent's own tests.

use std::collections::BTreeMap;

use windlass_core::{id::MemberId, replication::epoch_name};
use windlass_proto::agent::v1::{self as pb, replication_order::Goal};

use super::log::{Log, Record};

/// One member.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) instance: String,
    pub(super) host: String,
    pub(super) log: Option<Log>,
    pub(super) server: Server,
    pub(super) memory: Memory,
    pub(super) starts: u64,
    pub(super) crashes: u32,
    pub(super) beyond_repair: Repair,
    pub(super) lost_writes: String,
}

/// Whether a restart cures what ended the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// It does.
    Restart,
    /// It does not: a full disk, corruption.
    Hopeless,
}

/// The database server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Server {
    Stopped,
    Crashed,
    Leader(Leader),
    Follower(Follower),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) epoch: u64,
    pub(super) enforced: Enforced,
    pub(super) gate: Gate,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Enforced {
    pub(super) rev: u64,
    pub(super) acks: Vec<String>,
    pub(super) needed: usize,
    /// Of the barrier that proves it.
    pub(super) barrier_rev: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Shut,
    Open,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Follower {
    pub(super) leader: String,
    /// Epoch in its name; 0 for one that cannot acknowledge.
    pub(super) epoch: u64,
    pub(super) streaming: bool,
}

/// What the agent has on disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    pub(super) max_epoch: u64,
    pub(super) order: Option<pb::ReplicationOrder>,
}

impl Memory {
    /// Takes an order unless it is old. Says whether it is news.
    pub(super) fn take(&mut self, order: &pb::ReplicationOrder) -> bool {
        let applied = self.order.as_ref().map_or(0, |known| known.rev);
        let news = order.epoch >= self.max_epoch && order.rev > applied;
        if news {
            self.max_epoch = order.epoch;
            self.order = Some(order.clone());
        }
        news
    }
}

impl Node {
    pub(super) fn new(instance: String, host: String, log: Option<Log>) -> Self {
        Self {
            instance,
            host,
            log,
            server: Server::Stopped,
            memory: Memory::default(),
            starts: 0,
            crashes: 0,
            beyond_repair: Repair::Restart,
            lost_writes: String::new(),
        }
    }

    /// What the agent does next, given the leader's log if it is reached. Does as much as it can at once.
    pub(super) fn obey(&mut self, others: &BTreeMap<String, Log>) {
        if let Server::Leader(leader) = &self.server
            && leader.epoch < self.memory.max_epoch
        {
            self.server = Server::Stopped;
        }
        let Some(order) = self.memory.order.clone() else { return };
        if order.epoch < self.memory.max_epoch {
            return;
        }
        match order.goal {
            Some(Goal::Lead(lead)) => self.lead(order.epoch, order.rev, &lead),
            Some(Goal::Follow(follow)) => self.follow(order.epoch, &follow, others),
            Some(Goal::Seal(_) | Goal::Rest(_)) => self.server = Server::Stopped,
            Some(Goal::Drain(_)) => self.drain(),
            None => {}
        }
    }

    fn lead(&mut self, epoch: u64, rev: u64, lead: &pb::Lead) {
        if self.beyond_repair == Repair::Hopeless {
            return;
        }
        let Some(log) = &mut self.log else { return };
        let enforced = Enforced {
            rev,
            acks: lead.acks.clone(),
            needed: usize::try_from(lead.acks_needed).unwrap_or(usize::MAX),
            barrier_rev: lead.barrier_rev,
        };
        match &mut self.server {
            Server::Leader(leader) if leader.epoch == epoch => leader.enforced = enforced,
            Server::Follower(_) | Server::Leader(_) | Server::Stopped | Server::Crashed => {
                // A follower's log has no timeline of its own; a former leader of the same epoch goes on.
                if epoch > 1 && log.barrier().epoch < epoch {
                    log.promote();
                }
                self.starts += 1;
                self.server = Server::Leader(Leader { epoch, enforced, gate: Gate::Shut });
            }
        }
        let held = log.barrier();
        if (held.epoch, held.rev) < (epoch, lead.barrier_rev) {
            log.push(Record::Barrier { epoch, rev: lead.barrier_rev, nonce: lead.nonce.clone() });
        }
    }

    fn follow(&mut self, epoch: u64, follow: &pb::Follow, others: &BTreeMap<String, Log>) {
        if self.beyond_repair == Repair::Hopeless {
            return;
        }
        let leader = follow.leader.clone().unwrap_or_default().member_id;
        let Some(theirs) = others.get(&leader) else {
            // Nobody to compare with; what runs goes on waiting.
            if let Server::Follower(follower) = &mut self.server {
                follower.streaming = false;
            } else {
                self.server = Server::Stopped;
            }
            return;
        };
        match &self.log {
            Some(own) if own.leads_to(theirs) => {}
            Some(own) => {
                self.lost_writes = match own.beyond(theirs) {
                    0 => String::new(),
                    lost => format!("{lost} transactions that nobody acknowledged"),
                };
                self.log = Some(theirs.clone());
                self.server = Server::Stopped;
            }
            None => self.log = Some(theirs.clone()),
        }
        if !matches!(self.server, Server::Follower(_)) {
            self.starts += 1;
        }
        let barrier = self.log.as_ref().map(Log::barrier).unwrap_or_default();
        let proven = barrier.epoch == epoch && barrier.nonce == follow.nonce && follow.may_acknowledge;
        self.server = Server::Follower(Follower { leader, epoch: if proven { epoch } else { 0 }, streaming: true });
    }

    fn drain(&mut self) {
        let (Server::Leader(leader), Some(log)) = (&mut self.server, &mut self.log) else { return };
        if log.is_shut_down() {
            // The followers have had their chance to get the last record.
            self.server = Server::Stopped;
        } else {
            leader.gate = Gate::Shut;
            log.push(Record::Shutdown { unique: uuid::Uuid::now_v7() });
        }
    }

    /// The server dies.
    pub(super) fn crash(&mut self, repair: Repair) {
        self.crashes += 1;
        self.beyond_repair = repair;
        self.server = Server::Crashed;
    }

    pub(super) fn state(&self) -> pb::ReplicaState {
        let goal = self.memory.order.as_ref().and_then(|order| order.goal.as_ref());
        match (&self.server, goal) {
            (Server::Crashed, _) => pb::ReplicaState::Crashed,
            (Server::Leader(leader), _) => match leader.gate {
                Gate::Open => pb::ReplicaState::Open,
                Gate::Shut => pb::ReplicaState::Gated,
            },
            (Server::Follower(follower), _) if follower.epoch > 0 => pb::ReplicaState::Standby,
            (Server::Follower(_), _) => pb::ReplicaState::Catchup,
            (Server::Stopped, Some(Goal::Rest(_))) => pb::ReplicaState::Resting,
            (Server::Stopped, Some(Goal::Drain(_))) => pb::ReplicaState::CleanStop,
            (Server::Stopped, _) if self.log.is_none() => pb::ReplicaState::New,
            (Server::Stopped, Some(Goal::Seal(_))) => pb::ReplicaState::Sealed,
            (Server::Stopped, Some(Goal::Lead(_) | Goal::Follow(_))) => pb::ReplicaState::Demoted,
            (Server::Stopped, None) => pb::ReplicaState::New,
        }
    }

    /// The name under which it streams.
    pub(super) fn streaming_name(&self, member: &str) -> String {
        let Ok(id) = member.parse::<MemberId>() else { return String::new() };
        match &self.server {
            Server::Follower(follower) if follower.epoch > 0 => epoch_name(id, follower.epoch),
            Server::Follower(_) | Server::Leader(_) | Server::Stopped | Server::Crashed => {
                windlass_core::replication::catchup_name(id)
            }
        }
    }
}
