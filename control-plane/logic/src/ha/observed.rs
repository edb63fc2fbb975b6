//! What one node of the control plane knows at an instant, as plain values.
//!
//! All times are "for how long", measured by this node's monotonic clock, so nothing compares clocks of two machines.
//! The one exception is `wall`, which only counts failovers of the last minutes and dates events.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use windlass_core::id::{HostId, MemberId, ProxyId};

use super::facts::Facts;

/// A snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Now, for people and for counting failovers.
    pub wall: Timestamp,
    /// The last facts of each member that this node ever had.
    pub members: BTreeMap<MemberId, Seen>,
    /// How the leader's server sees its followers, kept by the tracker.
    pub links: BTreeMap<MemberId, Link>,
    /// The hosts of the members.
    pub hosts: BTreeMap<HostId, HostSeen>,
    /// Proxies that serve the instance.
    pub proxies: Vec<ProxySeen>,
    /// How far this node trusts itself.
    pub node: Node,
    /// For how long this node has known the cluster's present step (`Cluster::step_rev`).
    pub step_for: Duration,
    /// For how long this node has known the cluster's present intent.
    pub intent_for: Duration,
    /// For how long this node has known the pause of the switchover under way.
    pub pause_for: Duration,
}

/// The last facts of a member.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Facts.
    pub facts: Facts,
    /// Since they came, by any path.
    pub age: Duration,
    /// For how long its state has been the same.
    pub state_for: Duration,
}

/// One follower as the leader reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// For how long the leader has reported that it does not stream under its epoch name, or that nothing arrives there;
    /// none if it does.
    pub away_for: Option<Duration>,
    /// For how long it has been far behind; none if it is not.
    pub slow_for: Option<Duration>,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostSeen {
    /// E1: since its agent's last report on any path, at most since this node started.
    pub silent_for: Duration,
    /// E3: what others say of it; only reports younger than the detection time.
    pub witnesses: Vec<Witness>,
}

/// What one agent says of another host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Witness {
    /// Who says it.
    pub by: HostId,
    /// Since the last answer to a probe, at the time of this snapshot; none if there never was one.
    pub silent_for: Option<Duration>,
    /// Probes without an answer since then.
    pub unanswered: u32,
    /// Its own timers ran late, so it abstains.
    pub late: bool,
}

/// One proxy.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxySeen {
    /// Which.
    pub proxy: ProxyId,
    /// Since it last polled or reported.
    pub age: Duration,
    /// Highest rev of a pause of this instance that it took.
    pub paused_rev: Option<u64>,
    /// E4: connections to the leader that failed within the detection time.
    pub connects_failed: u32,
    /// E4: connections to the leader that worked within the detection time.
    pub connects_done: u32,
}

/// How far a node trusts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// It owned this cluster for one whole round of reports (the detection time), so silence means something.
    pub full_round: bool,
    /// Since more than the tolerated share of agents fell silent at once; none if not lately.
    pub mass_silence: Option<Duration>,
    /// The last round trip to the metadata.
    pub meta_round_trip: Duration,
}

impl Default for Node {
    fn default() -> Self {
        Self { full_round: true, mass_silence: None, meta_round_trip: Duration::ZERO }
    }
}

/// Whether so many agents fell silent within one second that this node distrusts itself: more than 30 %. One or two
/// hosts are no mass, unless they are all there is.
pub fn is_mass_silence(silent: usize, agents: usize) -> bool {
    silent * 10 > agents * 3 && (silent >= 3 || (silent >= 2 && silent == agents))
}

impl Observed {
    /// Nothing is known yet.
    pub fn nothing(wall: Timestamp) -> Self {
        Self {
            wall,
            members: BTreeMap::new(),
            links: BTreeMap::new(),
            hosts: BTreeMap::new(),
            proxies: Vec::new(),
            node: Node::default(),
            step_for: Duration::ZERO,
            intent_for: Duration::ZERO,
            pause_for: Duration::ZERO,
        }
    }

    /// The facts of a member, if they are younger than `limit`.
    pub fn fresh(&self, member: MemberId, limit: Duration) -> Option<&Facts> {
        self.members.get(&member).filter(|seen| seen.age < limit).map(|seen| &seen.facts)
    }
}
