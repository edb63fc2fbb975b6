//! All members of a test's simulated hosts, and what connects them.
//!
//! Nothing here takes time: after each change everything that follows from it is done at once, so that a test sees a
//! settled world. Invariants: a transaction is acknowledged only if the set that its leader enforces has it; a member
//! acknowledges only under the epoch's name.

use std::collections::{BTreeMap, BTreeSet};

use windlass_proto::agent::v1::{self as pb, replication_order::Goal};

use super::{
    log::{Log, Record},
    node::{Follower, Gate, Leader, Node, Repair, Server},
};

/// Rounds after which a world that does not come to rest is a fault of this model.
const ROUNDS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) nodes: BTreeMap<String, Node>,
    /// Hosts whose agent lives.
    pub(super) agents: BTreeSet<String>,
    /// Pairs of hosts that do not reach each other, both ways round.
    cut: BTreeSet<(String, String)>,
    /// Transactions by number, with whether they were acknowledged.
    commits: BTreeMap<u64, (String, bool)>,
}

impl World {
    pub(super) fn cut(&mut self, one: &str, other: &str) {
        self.cut.insert((one.to_owned(), other.to_owned()));
        self.cut.insert((other.to_owned(), one.to_owned()));
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(super) fn crash(&mut self, member: &str, repair: Repair) {
        if let Some(node) = self.nodes.get_mut(member) {
            node.crash(repair);
        }
    }

    pub(super) fn repair(&mut self, member: &str) {
        if let Some(node) = self.nodes.get_mut(member) {
            node.beyond_repair = Repair::Restart;
        }
    }

    /// A transaction at a member; None if it lets nobody in.
    pub(super) fn write(&mut self, member: &str) -> Option<u64> {
        let node = self.nodes.get_mut(member)?;
        let Server::Leader(Leader { gate: Gate::Open, .. }) = &node.server else { return None };
        let id = self.commits.len() as u64 + 1;
        node.log.as_mut()?.push(Record::Commit { id, unique: uuid::Uuid::now_v7() });
        self.commits.insert(id, (member.to_owned(), false));
        Some(id)
    }

    pub(super) fn is_acknowledged(&self, id: u64) -> bool {
        self.commits.get(&id).is_some_and(|(_, acknowledged)| *acknowledged)
    }

    /// Transactions that were acknowledged and that this member does not have.
    pub(super) fn lost_at(&self, member: &str) -> Vec<u64> {
        let Some(log) = self.nodes.get(member).and_then(|node| node.log.as_ref()) else { return Vec::new() };
        let instance = &self.nodes[member].instance;
        let of_instance = |by: &String| self.nodes.get(by).is_none_or(|node| node.instance == *instance);
        let acknowledged = self.commits.iter().filter(|(_, (by, acknowledged))| *acknowledged && of_instance(by));
        acknowledged.filter(|(id, _)| log.position_of(**id).is_none()).map(|(id, _)| *id).collect()
    }

    /// Does everything that follows. Gives the hosts whose facts changed.
    pub(super) fn settle(&mut self) -> BTreeSet<String> {
        let mut changed = BTreeSet::new();
        for _ in 0..ROUNDS {
            let before: BTreeMap<_, _> = self.nodes.keys().map(|id| (id.clone(), self.facts(id))).collect();
            self.obey();
            self.stream();
            self.acknowledge();
            let moved = before.iter().filter(|(id, facts)| self.facts(id) != **facts);
            let moved: Vec<_> = moved.map(|(id, _)| self.nodes[id].host.clone()).collect();
            if moved.is_empty() {
                break;
            }
            changed.extend(moved);
        }
        changed
    }

    fn obey(&mut self) {
        let ids: Vec<_> = self.nodes.keys().cloned().collect();
        for id in ids {
            if self.agents.contains(&self.nodes[&id].host) {
                let reached = self.leaders_reached_by(&id);
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.obey(&reached);
                }
            }
        }
    }

    /// Logs of leaders that this member's server could stream from.
    fn leaders_reached_by(&self, member: &str) -> BTreeMap<String, Log> {
        let own = &self.nodes[member];
        let leaders = self.nodes.iter().filter(|(id, node)| {
            *id != member && matches!(node.server, Server::Leader(_)) && self.connected(&own.host, &node.host)
        });
        leaders.filter_map(|(id, node)| Some((id.clone(), node.log.clone()?))).collect()
    }

    fn connected(&self, one: &str, other: &str) -> bool {
        !self.cut.contains(&(one.to_owned(), other.to_owned()))
    }

    /// Followers get what their leaders have.
    fn stream(&mut self) {
        let ids: Vec<_> = self.nodes.keys().cloned().collect();
        for id in ids {
            let Server::Follower(Follower { leader, .. }) = self.nodes[&id].server.clone() else { continue };
            let log = self.leaders_reached_by(&id).remove(&leader);
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            let flows = log.filter(|theirs| node.log.as_ref().is_some_and(|own| own.leads_to(theirs)));
            if let Server::Follower(follower) = &mut node.server {
                follower.streaming = flows.is_some();
            }
            if flows.is_some() {
                node.log = flows;
            }
        }
    }

    /// Leaders open their gates and release commits as far as their sets have them.
    fn acknowledge(&mut self) {
        let leaders: Vec<_> = self
            .nodes
            .iter()
            .filter_map(|(id, node)| match &node.server {
                Server::Leader(leader) => Some((id.clone(), leader.clone())),
                Server::Follower(_) | Server::Stopped | Server::Crashed => None,
            })
            .collect();
        for (id, leader) in leaders {
            let Some(durable) = self.acknowledged_up_to(&id, &leader) else { continue };
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            let Some(log) = &node.log else { continue };
            for (commit, (by, acknowledged)) in &mut self.commits {
                *acknowledged |= *by == id && log.position_of(*commit).is_some_and(|position| position <= durable);
            }
            let held = log.barrier();
            let proven = (held.epoch, held.rev) == (leader.epoch, leader.enforced.barrier_rev) && log.end() <= durable;
            if let (Server::Leader(leader), true) = (&mut node.server, proven) {
                leader.gate = Gate::Open;
            }
        }
    }

    /// Up to where commits of a leader count; None if nowhere.
    fn acknowledged_up_to(&self, id: &str, leader: &Leader) -> Option<u64> {
        let own = self.nodes.get(id)?.log.as_ref()?.end();
        if leader.enforced.acks.is_empty() {
            return Some(own);
        }
        let mut ends: Vec<u64> = leader
            .enforced
            .acks
            .iter()
            .filter(|acker| self.streams(acker, id).is_some_and(|follower| follower.epoch == leader.epoch))
            .filter_map(|acker| Some(self.nodes.get(acker)?.log.as_ref()?.end()))
            .collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.get(leader.enforced.needed.max(1) - 1).copied()
    }

    fn streams(&self, member: &str, leader: &str) -> Option<&Follower> {
        match &self.nodes.get(member)?.server {
            Server::Follower(follower) if follower.streaming && follower.leader == leader => Some(follower),
            Server::Follower(_) | Server::Leader(_) | Server::Stopped | Server::Crashed => None,
        }
    }

    /// What the agent of a member reads back.
    pub(super) fn facts(&self, member: &str) -> pb::ReplicaFacts {
        let Some(node) = self.nodes.get(member) else { return pb::ReplicaFacts::default() };
        let order = node.memory.order.as_ref();
        let barrier = node.log.as_ref().map(Log::barrier).unwrap_or_default();
        let end = node.log.as_ref().map_or(0, Log::end);
        let mut facts = pb::ReplicaFacts {
            instance_id: node.instance.clone(),
            member_id: member.to_owned(),
            max_epoch: node.memory.max_epoch,
            applied_rev: order.map_or(0, |order| order.rev),
            state: node.state().into(),
            role_epoch: order.map_or(0, |order| order.epoch),
            lineage: node.log.as_ref().map(|log| {
                let (timeline, fork_lsn) = log.timeline();
                pb::Lineage { system: log.system().to_owned(), timeline, fork_lsn, nonce: barrier.nonce.clone() }
            }),
            barrier_epoch: barrier.epoch,
            barrier_rev: barrier.rev,
            flushed_lsn: end,
            replayed_lsn: end,
            starts: node.starts,
            crashes: node.crashes,
            must_not_restart: node.beyond_repair == Repair::Hopeless,
            lost_writes: node.lost_writes.clone(),
            progress_percent: -1,
            checkpoint_rev: match order.and_then(|order| order.goal.as_ref()) {
                Some(Goal::Lead(lead)) => lead.checkpoint_rev,
                Some(_) | None => 0,
            },
            ..pb::ReplicaFacts::default()
        };
        match &node.server {
            Server::Leader(leader) => {
                facts.role_epoch = leader.epoch;
                facts.enforced = Some(pb::Enforced {
                    rev: leader.enforced.rev,
                    acks: leader.enforced.acks.clone(),
                    acks_needed: u32::try_from(leader.enforced.needed).unwrap_or(u32::MAX),
                    barrier_rev: leader.enforced.barrier_rev,
                });
                facts.downstream = self.downstream(member, leader);
            }
            Server::Follower(follower) => {
                facts.upstream = Some(pb::Upstream {
                    member_id: follower.leader.clone(),
                    streaming: follower.streaming,
                    application_name: node.streaming_name(member),
                    silent_for: None,
                });
            }
            Server::Stopped | Server::Crashed => {}
        }
        facts
    }

    fn downstream(&self, member: &str, leader: &Leader) -> Vec<pb::Downstream> {
        let streams = self.nodes.iter().filter_map(|(id, node)| Some((id, node, self.streams(id, member)?)));
        streams
            .map(|(id, node, follower)| {
                let end = node.log.as_ref().map_or(0, Log::end);
                pb::Downstream {
                    member_id: id.clone(),
                    epoch: follower.epoch,
                    streaming: true,
                    acknowledges: follower.epoch == leader.epoch && leader.enforced.acks.contains(id),
                    flushed_lsn: end,
                    replayed_lsn: end,
                }
            })
            .collect()
    }
}
