//! A small world around the real decisions: members with logs and orders, messages that are late, lost or repeated,
//! crashes, and a control plane that may suspect anybody at any time.
//!
//! What is real: `decide`, `orders`, the stored cluster. What is modelled: an agent with its server, as the
//! specification has it. A log is a list of entries; its length is the position. Time does not exist: whatever a clock
//! could claim (somebody is silent, somebody was away for long) may be claimed at any moment, true or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;
use windlass_core::{
    id::{HostId, MemberId},
    replication::{Durability, ReplicaState, Replication},
};
use windlass_logic::ha::{Barrier, Cluster, Enforced, Facts, Kind, Member, Order, Stay, orders};

use super::belief::{Belief, Mutation};

/// One record of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Entry {
    /// A client's commit; each is written once in the whole history.
    Commit(u16),
    /// A barrier row.
    Barrier { barrier: Barrier, nonce: u64 },
}

/// A member: its agent and its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// The host runs.
    pub(super) up: bool,
    /// On disk.
    pub(super) max_epoch: u64,
    /// On disk.
    pub(super) applied_rev: u64,
    /// The last order taken; on disk.
    pub(super) order: Option<Arc<Order>>,
    /// On disk.
    pub(super) log: Vec<Entry>,
    /// Where it stands.
    pub(super) state: ReplicaState,
    /// Leader: what its server makes commits wait for, and the rev of the order it came from.
    pub(super) enforced: Option<Arc<Enforced>>,
    /// Leader: how far each follower that streams under its epoch name is known to be.
    pub(super) flushed_of: BTreeMap<usize, usize>,
    /// Leader: newest barrier that was acknowledged.
    pub(super) acknowledged: Barrier,
    /// Leader: entries from here on were written by clients that still wait.
    pub(super) since: usize,
}

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// A member gets the order with this index of those ever sent to it.
    Deliver(usize, usize),
    /// A leader's server takes the ordered set and writes its barrier.
    Enforce(usize),
    /// A follower receives one entry, or has its history made one with the leader's.
    Replicate(usize),
    /// A client commits at an open leader.
    Write(usize),
    /// A leader releases whatever its set has acknowledged.
    Acknowledge(usize),
    /// The host dies; its disk stays.
    Crash(usize),
    /// It comes back.
    Restart(usize),
    /// A follower's data is gone or not trusted any more.
    Spoil(usize),
    /// The control plane hears a member's facts.
    Report(usize),
    /// The control plane hears everybody but one, whose last facts grow old.
    Hear(Option<usize>),
    /// The control plane decides, believing what it is told here.
    Decide(Belief),
    /// The control plane starts anew and has heard nothing.
    Forget,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct World {
    pub(super) cluster: Arc<Cluster>,
    pub(super) nodes: Vec<Node>,
    pub(super) sent: Vec<Vec<Arc<Order>>>,
    pub(super) known: Vec<Option<Arc<Facts>>>,
    pub(super) written: u16,
    /// Commits that a client was told of, with the epoch that told it.
    pub(super) acked: BTreeMap<u16, u64>,
    /// Who ever led each epoch.
    pub(super) leaders: BTreeMap<u64, BTreeSet<usize>>,
    pub(super) crashes: u8,
    pub(super) spoiled: u8,
    pub(super) mutation: Mutation,
}

/// Only what tells two worlds of one run apart: hashing is most of the work of an exhaustive search.
impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let cluster = &self.cluster;
        (cluster.epoch, cluster.rev, &cluster.phase, &cluster.reign, &cluster.previous, &cluster.intent).hash(state);
        for node in &self.nodes {
            (node.up, node.max_epoch, node.applied_rev, &node.log, node.state, node.since).hash(state);
            (&node.enforced, &node.flushed_of, node.acknowledged).hash(state);
            node.order.as_ref().map(|order| (order.epoch, order.rev, order.goal.word())).hash(state);
        }
        for order in self.sent.iter().flatten() {
            (order.epoch, order.rev, order.goal.word()).hash(state);
        }
        for facts in &self.known {
            let Some(facts) = facts else { continue };
            (facts.max_epoch, facts.applied_rev, facts.state, facts.barrier, facts.flushed).hash(state);
            (&facts.downstream, &facts.enforced, facts.upstream.is_some()).hash(state);
        }
        (self.written, &self.acked, &self.leaders, self.crashes).hash(state);
    }
}

pub(super) fn id(node: usize) -> MemberId {
    MemberId(Uuid::from_u128(node as u128 + 1))
}

pub(super) fn index(id: MemberId) -> usize {
    id.0.as_u128() as usize - 1
}

pub(super) fn host(node: usize) -> HostId {
    HostId(Uuid::from_u128(node as u128 + 1001))
}

pub(super) fn member(node: usize, kind: Kind) -> Member {
    Member {
        host: host(node),
        host_name: format!("h{node}"),
        address: String::new(),
        port: 5432,
        kind,
        priority: 0,
        stay: Stay::Staying,
        clone_anew: false,
        order_rev: 0,
    }
}

impl World {
    /// A new instance.
    pub(super) fn found(nodes: usize, durability: Durability, acknowledgements: u32) -> Self {
        let members = (0..nodes).map(|node| (id(node), member(node, Kind::Synchronous))).collect();
        let replication = Replication { durability, acknowledgements, ..Replication::default() };
        let cluster = Cluster::found(members, id(0), replication, Uuid::from_u128(1));
        let node = Node {
            up: true,
            max_epoch: 0,
            applied_rev: 0,
            order: None,
            log: Vec::new(),
            state: ReplicaState::New,
            enforced: None,
            flushed_of: BTreeMap::new(),
            acknowledged: Barrier::default(),
            since: 0,
        };
        let mut world = Self {
            cluster: Arc::new(cluster),
            nodes: vec![node; nodes],
            sent: vec![Vec::new(); nodes],
            known: vec![None; nodes],
            written: 0,
            acked: BTreeMap::new(),
            leaders: BTreeMap::new(),
            crashes: 0,
            spoiled: 0,
            mutation: Mutation::None,
        };
        world.send();
        world
    }

    /// Stores a value that an operation made.
    pub(super) fn store(&mut self, next: Cluster) {
        assert!(next.epoch >= self.cluster.epoch && next.rev >= self.cluster.rev);
        self.cluster = Arc::new(next);
        self.send();
    }

    fn send(&mut self) {
        for (id, order) in orders(&self.cluster) {
            let sent = &mut self.sent[index(id)];
            if sent.last().map(AsRef::as_ref) != Some(&order) {
                assert!(sent.last().is_none_or(|last| (last.epoch, last.rev) < (order.epoch, order.rev)), "{order:?}");
                sent.push(Arc::new(order));
            }
        }
    }

    /// What can happen now, without crashes, suspicions and clients.
    pub(super) fn calm_actions(&self) -> Vec<Action> {
        self.actions(Belief::Calm)
    }

    fn actions(&self, belief: Belief) -> Vec<Action> {
        let mut actions = Vec::new();
        for node in 0..self.nodes.len() {
            let it = &self.nodes[node];
            if !it.up {
                continue;
            }
            let newer = |order: &Arc<Order>| order.epoch >= it.max_epoch && order.rev > it.applied_rev;
            if self.sent[node].last().is_some_and(newer) {
                actions.push(Action::Deliver(node, self.sent[node].len() - 1));
            }
            if self.may_enforce(node) {
                actions.push(Action::Enforce(node));
            }
            if self.may_replicate(node) {
                actions.push(Action::Replicate(node));
            }
            if self.clone().acknowledge(node) {
                actions.push(Action::Acknowledge(node));
            }
            if self.known[node].as_deref() != Some(&self.facts(node)) {
                actions.push(Action::Report(node));
            }
        }
        if self.decision(belief).next.is_some() {
            actions.push(Action::Decide(belief));
        }
        actions
    }

    /// Late and skipped orders: any that was ever sent and would be obeyed.
    pub(super) fn deliverable(&self, node: usize) -> impl Iterator<Item = usize> {
        let it = &self.nodes[node];
        let newer = |order: &Arc<Order>| it.up && order.epoch >= it.max_epoch && order.rev > it.applied_rev;
        (0..self.sent[node].len()).filter(move |at| newer(&self.sent[node][*at]))
    }

    /// Carries an action out; false if it is not possible.
    pub(super) fn apply(&mut self, action: Action) -> bool {
        match action {
            Action::Deliver(node, at) => self.deliver(node, at),
            Action::Enforce(node) => self.enforce(node),
            Action::Replicate(node) => self.replicate(node),
            Action::Write(node) => {
                if self.nodes[node].state != ReplicaState::Open || !self.nodes[node].up {
                    return false;
                }
                self.written += 1;
                self.nodes[node].log.push(Entry::Commit(self.written));
                true
            }
            Action::Acknowledge(node) => self.acknowledge(node),
            Action::Crash(node) => {
                self.crashes += 1;
                let it = &mut self.nodes[node];
                std::mem::replace(&mut it.up, false)
            }
            Action::Restart(node) => self.restart(node),
            Action::Spoil(node) => {
                self.spoiled += 1;
                let it = &mut self.nodes[node];
                it.log.clear();
                it.state = ReplicaState::Quarantine;
                for other in &mut self.nodes {
                    other.flushed_of.remove(&node);
                }
                true
            }
            Action::Report(node) => {
                let facts = self.facts(node);
                let up = self.nodes[node].up;
                if up {
                    self.known[node] = Some(Arc::new(facts));
                }
                up
            }
            Action::Hear(but) => {
                let before = self.known.clone();
                for node in (0..self.nodes.len()).filter(|node| Some(*node) != but) {
                    self.apply(Action::Report(node));
                }
                self.known != before
            }
            Action::Decide(belief) => {
                let Some(next) = self.decision(belief).next else { return false };
                self.store(next);
                true
            }
            Action::Forget => {
                let had = self.known.iter().any(Option::is_some);
                self.known.fill(None);
                had
            }
        }
    }

    /// P1: whoever leads an epoch has everything that was acknowledged in it and before it.
    pub(super) fn nothing_acknowledged_is_lost(&self) -> bool {
        (0..self.nodes.len()).filter(|node| self.leads(*node)).all(|node| {
            let it = &self.nodes[node];
            let epoch = it.order.as_ref().map_or(0, |order| order.epoch);
            self.acked.iter().all(|(commit, of)| *of > epoch || it.log.contains(&Entry::Commit(*commit)))
        })
    }

    /// P2: what a leader enforces is among the sets that an election takes into account.
    pub(super) fn enforced_is_recorded(&self) -> bool {
        let reigns: Vec<_> = std::iter::once(&self.cluster.reign).chain(&self.cluster.previous).collect();
        self.nodes.iter().enumerate().filter(|(node, _)| self.leads(*node)).all(|(node, it)| {
            let (Some(enforced), Some(order)) = (&it.enforced, &it.order) else { return true };
            reigns
                .iter()
                .filter(|reign| reign.epoch == order.epoch && reign.leader == id(node))
                .all(|reign| reign.sets.iter().any(|set| set.members == enforced.acks && set.needed == enforced.needed))
        })
    }

    /// P4: one leader for each epoch.
    pub(super) fn one_leader_per_epoch(&self) -> bool {
        self.leaders.values().all(|leaders| leaders.len() <= 1)
    }

    /// Everything that can happen by itself happens, until nothing does; hosts that are down are known to be.
    pub(super) fn settle(&mut self) {
        for _ in 0..2_000 {
            if let Some(action) = self.actions(Belief::Truth).first().copied() {
                assert!(self.apply(action), "{action:?}");
                continue;
            }
            // Nothing moves: time passes.
            let Some(next) = self.decision_after(Belief::Truth, Duration::from_secs(3600)).next else { return };
            self.store(next);
        }
        panic!("it never settles: {self:#?}");
    }

    /// What can happen next if the control plane knows who is down.
    pub(super) fn truthful_actions(&self) -> Vec<Action> {
        self.actions(Belief::Truth)
    }

    /// What it waits for after everything settled.
    pub(super) fn waits(&self) -> String {
        self.decision(Belief::Truth).waits.join("; ")
    }

    /// The open leader of the highest epoch.
    pub(super) fn serving(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|node| {
            let it = &self.nodes[*node];
            it.up
                && it.state == ReplicaState::Open
                && self.cluster.primary() == Some(id(*node))
                && it.order.as_ref().is_some_and(|order| order.epoch == self.cluster.epoch)
        })
    }
}
