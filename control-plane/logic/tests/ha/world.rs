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

use jiff::Timestamp;
use uuid::Uuid;
use windlass_core::{
    id::{HostId, MemberId},
    replication::{Durability, ReplicaGoal, ReplicaState, Replication},
};
use windlass_logic::ha::{
    Barrier, Cluster, Decision, Downstream, Enforced, Facts, Goal, HostSeen, Kind, Lineage, Link, Member, Observed,
    Order, Phase, Seen, Stay, Upstream, Witness, decide, orders, table,
};

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

/// What a nemesis may break on purpose, to see that the checks would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mutation {
    /// Nothing.
    None,
    /// A new set counts for elections at once, before the leader confirmed it.
    CandidateBeforeConfirmation,
    /// Members are believed to hold the newest barrier of the epoch when they hold any.
    NoBarrier,
    /// One seal is always enough.
    OneSealIsEnough,
    /// Members count as sealed before they have promised anything.
    SealsNotAwaited,
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

/// What the control plane believes beside the facts it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Belief {
    /// Everybody is well.
    Calm,
    /// The leader's host is dead and all evidence says so.
    LeaderDead,
    /// This member's host is dead, and it has been away from the leader for long.
    Away(usize),
    /// So are all hosts that are down.
    Truth,
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

fn index(id: MemberId) -> usize {
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

    /// Whom a member leads or follows: the epoch of its order.
    fn goal(&self, node: usize) -> Option<&Goal> {
        self.nodes[node].order.as_ref().map(|order| &order.goal)
    }

    fn leads(&self, node: usize) -> bool {
        let it = &self.nodes[node];
        it.up && matches!(it.state, ReplicaState::Gated | ReplicaState::Open)
    }

    fn leader_of(&self, node: usize) -> Option<usize> {
        let Some(Goal::Follow { leader, .. }) = self.goal(node) else { return None };
        let order = self.nodes[node].order.as_ref()?;
        let leader = index(leader.member);
        let leads = self.leads(leader) && self.nodes[leader].order.as_ref().is_some_and(|of| of.epoch == order.epoch);
        (self.nodes[node].up && leads).then_some(leader)
    }

    /// A follower has proven its history by the barrier of the epoch.
    fn named(&self, node: usize) -> bool {
        let epoch = self.nodes[node].order.as_ref().map_or(0, |order| order.epoch);
        self.nodes[node]
            .log
            .iter()
            .any(|entry| matches!(entry, Entry::Barrier { barrier, .. } if barrier.epoch == epoch))
    }

    fn newest(&self, node: usize) -> (Barrier, Option<Uuid>) {
        let barriers = self.nodes[node].log.iter().filter_map(|entry| match entry {
            Entry::Barrier { barrier, nonce } => Some((*barrier, Some(Uuid::from_u128((*nonce).into())))),
            Entry::Commit(_) => None,
        });
        barriers.max_by_key(|(barrier, _)| *barrier).unwrap_or_default()
    }

    /// What the agent would report.
    pub(super) fn facts(&self, node: usize) -> Facts {
        let it = &self.nodes[node];
        let (barrier, nonce) = self.newest(node);
        let leads = self.leads(node);
        let end = it.log.len() as u64;
        let epoch = it.order.as_ref().map_or(0, |order| order.epoch);
        let streams = self.leader_of(node).filter(|leader| self.nodes[*leader].log.starts_with(&it.log));
        let downstream =
            (0..self.nodes.len()).filter(|other| leads && self.leader_of(*other) == Some(node)).map(|other| {
                let named = self.named(other) && it.log.starts_with(&self.nodes[other].log);
                Downstream {
                    member: id(other),
                    epoch: if named { epoch } else { 0 },
                    streaming: true,
                    acknowledges: named && it.enforced.as_ref().is_some_and(|set| set.acks.contains(&id(other))),
                    flushed: self.nodes[other].log.len() as u64,
                    replayed: self.nodes[other].log.len() as u64,
                }
            });
        Facts {
            max_epoch: it.max_epoch,
            applied_rev: it.applied_rev,
            role_epoch: epoch,
            lineage: Lineage {
                system: if it.log.is_empty() { String::new() } else { "s".to_owned() },
                timeline: 1,
                fork: 0,
                nonce,
            },
            barrier: if leads { it.acknowledged } else { barrier },
            flushed: end,
            replayed: end,
            upstream: streams.map(|leader| Upstream {
                member: Some(id(leader)),
                streaming: true,
                application_name: String::new(),
                silent_for: Duration::ZERO,
            }),
            downstream: downstream.collect(),
            enforced: it.enforced.as_deref().filter(|_| leads).cloned(),
            ..Facts::of(it.state)
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

    fn deliver(&mut self, node: usize, at: usize) -> bool {
        let order = self.sent[node][at].clone();
        let it = &mut self.nodes[node];
        if !it.up || order.epoch < it.max_epoch || order.rev <= it.applied_rev {
            return false;
        }
        let pair = (it.state, order.goal.word());
        assert!(table::pairs().any(|known| known == pair), "P14: {pair:?} is not in the table");
        it.max_epoch = order.epoch;
        it.applied_rev = order.rev;
        let led = matches!(it.state, ReplicaState::Gated | ReplicaState::Open);
        let same =
            it.order.as_ref().is_some_and(|old| old.epoch == order.epoch && old.goal.word() == ReplicaGoal::Lead);
        match &order.goal {
            Goal::Lead { .. } => {
                self.leaders.entry(order.epoch).or_default().insert(node);
                if !(led && same) {
                    it.state = ReplicaState::Gated;
                    it.enforced = None;
                    it.flushed_of.clear();
                    it.acknowledged = Barrier::default();
                    it.since = it.log.len();
                }
            }
            Goal::Follow { clone_anew, .. } => {
                it.state = match it.state {
                    _ if *clone_anew => {
                        it.log.clear();
                        ReplicaState::Cloning
                    }
                    ReplicaState::Cloning | ReplicaState::Quarantine => it.state,
                    _ if led => ReplicaState::Demoted,
                    _ => ReplicaState::Catchup,
                };
            }
            Goal::Seal => {
                it.state = match it.state {
                    ReplicaState::Quarantine | ReplicaState::Cloning => it.state,
                    _ if led => ReplicaState::Demoted,
                    _ => ReplicaState::Sealed,
                };
            }
            Goal::Drain => it.state = ReplicaState::CleanStop,
            Goal::Rest => it.state = ReplicaState::Resting,
        }
        it.order = Some(order);
        // What can never be obeyed again need not be remembered.
        let (epoch, rev) = (it.max_epoch, it.applied_rev);
        let last = self.sent[node].len() - 1;
        let mut at = 0;
        self.sent[node].retain(|order| {
            at += 1;
            at > last || (order.epoch >= epoch && order.rev > rev)
        });
        true
    }

    fn may_enforce(&self, node: usize) -> bool {
        let Some(Goal::Lead { acks, acks_needed, barrier_rev, .. }) = self.goal(node) else { return false };
        let it = &self.nodes[node];
        self.leads(node)
            && it
                .enforced
                .as_ref()
                .is_none_or(|has| has.acks != *acks || has.needed != *acks_needed || has.rev < *barrier_rev)
    }

    fn enforce(&mut self, node: usize) -> bool {
        if !self.may_enforce(node) {
            return false;
        }
        let it = &mut self.nodes[node];
        let Some(order) = &it.order else { return false };
        let Goal::Lead { acks, acks_needed, barrier_rev, nonce, .. } = &order.goal else { return false };
        it.enforced = Some(Arc::new(Enforced { rev: order.rev, acks: acks.clone(), needed: *acks_needed }));
        let barrier = Barrier { epoch: order.epoch, rev: *barrier_rev };
        it.log.push(Entry::Barrier { barrier, nonce: nonce.as_u128() as u64 });
        true
    }

    fn may_replicate(&self, node: usize) -> bool {
        let Some(leader) = self.leader_of(node) else { return false };
        let (own, its) = (&self.nodes[node], &self.nodes[leader]);
        let able = match own.state {
            ReplicaState::Catchup | ReplicaState::Standby | ReplicaState::Demoted | ReplicaState::Cloning => true,
            _ => false,
        };
        let behind =
            !its.log.starts_with(&own.log) || own.log.len() < its.log.len() || own.state == ReplicaState::Cloning;
        let unsaid = self.named(node) && its.flushed_of.get(&node) != Some(&own.log.len());
        let renamed = self.named(node) && own.state != ReplicaState::Standby;
        able && (behind || unsaid || renamed)
    }

    fn replicate(&mut self, node: usize) -> bool {
        if !self.may_replicate(node) {
            return false;
        }
        let Some(leader) = self.leader_of(node) else { return false };
        let its = self.nodes[leader].log.clone();
        let own = &mut self.nodes[node];
        if own.state == ReplicaState::Cloning {
            // A copy is all or nothing.
            own.log.clone_from(&its);
            own.state = ReplicaState::Catchup;
            return true;
        }
        if its.starts_with(&own.log) {
            own.log.extend(its.get(own.log.len()).copied());
        } else {
            let common = own.log.iter().zip(&its).take_while(|(a, b)| a == b).count();
            own.log.truncate(common);
            own.state = ReplicaState::Catchup;
            return true;
        }
        let end = own.log.len();
        if self.named(node) {
            self.nodes[node].state = ReplicaState::Standby;
            self.nodes[leader].flushed_of.insert(node, end);
        } else {
            self.nodes[node].state = ReplicaState::Catchup;
        }
        true
    }

    /// Releases commits and barriers; opens the gate.
    fn acknowledge(&mut self, node: usize) -> bool {
        if !self.leads(node) {
            return false;
        }
        let it = &mut self.nodes[node];
        let Some(set) = it.enforced.clone() else { return false };
        let mut ends: Vec<usize> =
            set.acks.iter().map(|id| it.flushed_of.get(&index(*id)).copied().unwrap_or(0)).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let end = match set.needed as usize {
            0 => it.log.len(),
            needed => ends.get(needed - 1).copied().unwrap_or(0),
        };
        let mut changed = false;
        let epoch = it.order.as_ref().map_or(0, |order| order.epoch);
        for at in it.since..end.min(it.log.len()) {
            match it.log[at] {
                Entry::Commit(commit) => changed |= self.acked.insert(commit, epoch).is_none(),
                Entry::Barrier { barrier, .. } if barrier.epoch == epoch && barrier > it.acknowledged => {
                    it.acknowledged = barrier;
                    changed = true;
                }
                Entry::Barrier { .. } => {}
            }
        }
        let wanted = match it.order.as_ref().map(|order| &order.goal) {
            Some(Goal::Lead { barrier_rev, .. }) => Barrier { epoch, rev: *barrier_rev },
            _ => return changed,
        };
        if it.state == ReplicaState::Gated && it.acknowledged >= wanted && set.rev >= wanted.rev {
            it.state = ReplicaState::Open;
            changed = true;
        }
        changed
    }

    fn restart(&mut self, node: usize) -> bool {
        let it = &mut self.nodes[node];
        if it.up {
            return false;
        }
        it.up = true;
        it.enforced = None;
        it.flushed_of.clear();
        it.acknowledged = Barrier::default();
        it.since = it.log.len();
        it.state = match it.order.as_ref().map(|order| order.goal.word()) {
            _ if matches!(it.state, ReplicaState::Quarantine | ReplicaState::Cloning) => it.state,
            Some(ReplicaGoal::Lead) => ReplicaState::Gated,
            Some(ReplicaGoal::Follow) => ReplicaState::Catchup,
            Some(ReplicaGoal::Seal) => match it.state {
                ReplicaState::Demoted => ReplicaState::Demoted,
                _ => ReplicaState::Sealed,
            },
            Some(ReplicaGoal::Drain) => ReplicaState::CleanStop,
            Some(ReplicaGoal::Rest) => ReplicaState::Resting,
            None => ReplicaState::New,
        };
        for other in &mut self.nodes {
            other.flushed_of.remove(&node);
        }
        true
    }

    /// What the control plane would do.
    pub(super) fn decision(&self, belief: Belief) -> Decision {
        self.decision_after(belief, Duration::ZERO)
    }

    /// The same if everything has been as it is for so long.
    pub(super) fn decision_after(&self, belief: Belief, long: Duration) -> Decision {
        let observed = self.observed(belief, long);
        let mut cluster = Cluster::clone(&self.cluster);
        if self.mutation == Mutation::OneSealIsEnough && matches!(cluster.phase, Phase::Electing(_)) {
            for set in &mut cluster.reign.sets {
                set.needed = set.members.len() as u32;
            }
        }
        let mut decision = decide(&cluster, &observed, Uuid::from_u128(u128::from(self.cluster.rev) + 1_000));
        if self.mutation == Mutation::CandidateBeforeConfirmation
            && let Some(next) = &mut decision.next
        {
            let old = next.reign.sets.len() - 1;
            next.reign.sets.drain(..old);
        }
        decision
    }

    /// What the control plane knows and believes, if everything has been as it is for so long.
    pub(super) fn observed(&self, belief: Belief, long: Duration) -> Observed {
        let ages = Duration::from_secs(3600);
        let leader = index(self.cluster.reign.leader);
        let mut observed = Observed::nothing(Timestamp::UNIX_EPOCH);
        observed.step_for = ages.max(long);
        observed.pause_for = long;
        observed.intent_for = long;
        for (node, known) in self.known.iter().enumerate() {
            let dead = match belief {
                Belief::Calm => false,
                Belief::LeaderDead => node == leader,
                Belief::Away(away) => node == away,
                Belief::Truth => !self.nodes[node].up,
            };
            let silent_for = if dead { ages } else { Duration::ZERO };
            let witness = |by| Witness {
                by: host(by),
                silent_for: Some(silent_for),
                unanswered: u32::from(dead) * 9,
                late: false,
            };
            let witnesses = (100..103).map(witness).collect();
            observed.hosts.insert(host(node), HostSeen { silent_for, witnesses });
            let Some(facts) = known else { continue };
            let mut facts = Facts::clone(facts);
            if belief == Belief::LeaderDead {
                facts.upstream = None;
            }
            if self.mutation == Mutation::SealsNotAwaited
                && matches!(self.cluster.phase, Phase::Electing(_))
                && facts.state == ReplicaState::Standby
            {
                facts.state = ReplicaState::Sealed;
                facts.role_epoch = self.cluster.epoch;
            }
            if self.mutation == Mutation::NoBarrier && facts.barrier.epoch == self.cluster.reign.epoch {
                facts.barrier.rev = self.cluster.reign.ordered().rev;
            }
            observed.members.insert(id(node), Seen { facts, age: silent_for, state_for: long });
            let streams = self.known[leader]
                .as_ref()
                .and_then(|facts| facts.downstream_of(id(node)))
                .is_some_and(|down| down.epoch == self.cluster.epoch);
            let away_for = if dead { Some(ages) } else { (!streams).then_some(long) };
            observed.links.insert(id(node), Link { away_for, slow_for: None });
        }
        observed
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
