//! Keeps, for one cluster on one node, since when things have been as they are.
//!
//! Facts come without durations that a decision could trust, so the node that decides measures them itself. A node that
//! starts or takes over begins at zero, which only ever makes it slower to act.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use windlass_core::{
    id::{HostId, MemberId, OperationId},
    replication::ReplicaState,
};

use super::{
    cluster::Cluster,
    facts::Facts,
    observed::{HostSeen, Link, Node, Observed, ProxySeen, Seen},
    phase::Phase,
};

/// A follower this far behind is held for slow.
pub const SLOW_BYTES: u64 = 64 << 20;

/// Since when things are as they are. Times are of the node's monotonic clock since its start.
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    members: BTreeMap<MemberId, Noted>,
    /// Of the leader of this epoch.
    links: BTreeMap<MemberId, Since>,
    links_of: Option<(MemberId, u64)>,
    step: Option<(u64, Duration)>,
    intent: Option<(OperationId, Duration)>,
    pause: Option<(u64, Duration)>,
}

#[derive(Debug, Clone)]
struct Noted {
    facts: Facts,
    at: Duration,
    state: ReplicaState,
    state_since: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct Since {
    away: Option<Duration>,
    slow: Option<Duration>,
    /// How far it was when it was first seen to lack something, and when; none if it lacks nothing.
    lacking: Option<(u64, Duration)>,
}

impl Tracker {
    /// Notes a member's facts. `at` is when they were true at the latest: for a relayed report, when it came.
    pub fn report(&mut self, at: Duration, cluster: &Cluster, member: MemberId, facts: Facts) {
        self.know(at, cluster);
        if member == cluster.reign.leader && facts.leads(cluster.epoch) {
            self.note_links(at, cluster, &facts);
        }
        let state_since = match self.members.get(&member) {
            Some(noted) if noted.state == facts.state => noted.state_since,
            Some(_) | None => at,
        };
        let state = facts.state;
        self.members.insert(member, Noted { facts, at, state, state_since });
    }

    fn note_links(&mut self, at: Duration, cluster: &Cluster, leader: &Facts) {
        for id in cluster.members.keys().filter(|id| **id != cluster.reign.leader) {
            let down = leader.downstream_of(*id).filter(|down| down.streaming && down.epoch == cluster.epoch);
            let slow = down.is_some_and(|down| leader.flushed.saturating_sub(down.flushed) > SLOW_BYTES);
            let since = self.links.entry(*id).or_default();
            // A host that vanished streams, as the leader sees it, until a timeout; but nothing arrives there any more.
            let lacks = down.filter(|down| down.flushed < leader.flushed).map(|down| down.flushed);
            let stuck = since.lacking.filter(|(flushed, _)| lacks == Some(*flushed));
            since.lacking = lacks.map(|flushed| stuck.unwrap_or((flushed, at)));
            since.away = match (down, stuck) {
                (None, _) => Some(since.away.unwrap_or(at)),
                (Some(_), Some((_, lacking_since))) => Some(since.away.unwrap_or(lacking_since)),
                (Some(_), None) => None,
            };
            since.slow = slow.then(|| since.slow.unwrap_or(at));
        }
    }

    /// Notes what the stored cluster says; to be called whenever a newer one is known.
    pub fn know(&mut self, at: Duration, cluster: &Cluster) {
        let leads = (cluster.reign.leader, cluster.epoch);
        if self.links_of != Some(leads) {
            self.links_of = Some(leads);
            self.links.clear();
        }
        self.members.retain(|id, _| cluster.members.contains_key(id));
        self.links.retain(|id, _| cluster.members.contains_key(id));
        keep(&mut self.step, Some(cluster.step_rev), at);
        keep(&mut self.intent, cluster.intent.id(), at);
        let pause = if let Phase::Switchover(switch) = &cluster.phase { Some(switch.pause_rev) } else { None };
        keep(&mut self.pause, pause, at);
    }

    /// The snapshot for a decision.
    pub fn observe(
        &self,
        now: Duration,
        wall: Timestamp,
        hosts: BTreeMap<HostId, HostSeen>,
        proxies: Vec<ProxySeen>,
        node: Node,
    ) -> Observed {
        let ago = |at: Duration| now.saturating_sub(at);
        let members = self.members.iter().map(|(id, noted)| {
            let seen = Seen { facts: noted.facts.clone(), age: ago(noted.at), state_for: ago(noted.state_since) };
            (*id, seen)
        });
        let links = self
            .links
            .iter()
            .map(|(id, since)| (*id, Link { away_for: since.away.map(ago), slow_for: since.slow.map(ago) }));
        Observed {
            wall,
            members: members.collect(),
            links: links.collect(),
            hosts,
            proxies,
            node,
            step_for: self.step.map_or(Duration::ZERO, |(_, at)| ago(at)),
            intent_for: self.intent.map_or(Duration::ZERO, |(_, at)| ago(at)),
            pause_for: self.pause.map_or(Duration::ZERO, |(_, at)| ago(at)),
        }
    }
}

/// Keeps the time of what stays the same.
fn keep<T: PartialEq>(slot: &mut Option<(T, Duration)>, key: Option<T>, at: Duration) {
    *slot = match (slot.take(), key) {
        (Some((old, since)), Some(new)) if old == new => Some((old, since)),
        (_, Some(new)) => Some((new, at)),
        (_, None) => None,
    };
}
