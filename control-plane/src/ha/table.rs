//! What a node knows of hosts and clusters. Pure state; time is an argument, since the start of the node.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;
use windlass_core::{
    id::{HostId, InstanceId, MemberId},
    replication::ReplicaState,
};
use windlass_db::{
    Guard,
    events::NewEvent,
    ha::{ClusterOwner, PeerHost},
};
use windlass_logic::ha::{
    Cluster, Facts, Happened, HostSeen, Member, Node, Observed, Phase, ProxySeen, Tracker, Witness, decide,
    is_mass_silence,
};
use windlass_proto::agent::v1 as pb;

use super::{
    events::noticed,
    facts::{duration, outline, read},
    peers::{Probes, probes},
};

/// A cluster is looked at this often though nothing was reported, because silence is no report.
const IDLE: Duration = Duration::from_millis(500);
/// The shortest time between two looks that nothing but time asks for.
const SOONEST: Duration = Duration::from_millis(10);
/// Silence that counts towards a mass silence: two reports are missing.
const MISSING: Duration = Duration::from_millis(1200);
/// Those that fell silent within this fell silent at once.
const AT_ONCE: Duration = Duration::from_secs(1);
/// A mass silence is remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(30);
/// An agent whose timers ran so late abstains.
const LATE: Duration = Duration::from_millis(500);
/// A node that did not look for so long stood still: what it takes for silence of others may be its own.
const STOOD_STILL: Duration = Duration::from_millis(750);

/// Ownership of all clusters by this node.
#[derive(Debug, Clone)]
pub(super) struct Term {
    pub(super) guard: Guard,
    /// Since when silence is measured: the term's beginning, or the end of the last standstill.
    pub(super) since: Duration,
}

/// What is known of a host's agent.
#[derive(Debug)]
pub(super) struct Host {
    session: String,
    sequence: u64,
    heard: Option<Duration>,
    late: bool,
    sightings: Vec<(HostId, Option<Duration>, u32)>,
    /// Woken when there may be other orders for it.
    pub(super) wake: watch::Sender<u64>,
    /// Session and pace of the last answer.
    pub(super) told: Option<(String, Pace)>,
}

/// What a host is told beside orders.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pace {
    pub(super) reports: bool,
    pub(super) peers: Vec<pb::Peer>,
}

/// A cluster of this node's term.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) cluster: Cluster,
    pub(super) owner: ClusterOwner,
    /// The newest facts, as they came.
    pub(super) facts: BTreeMap<MemberId, (Facts, Duration)>,
    pub(super) waits: Vec<String>,
    /// Why the last leader was given up.
    pub(super) cause: String,
    tracker: Tracker,
    look_at: Duration,
    /// A decision is being stored.
    pub(super) busy: bool,
}

/// A decision to be stored.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) instance: InstanceId,
    pub(super) owner: ClusterOwner,
    pub(super) before: Cluster,
    pub(super) next: Cluster,
    pub(super) happened: Vec<Happened>,
    /// Why the last leader was given up.
    pub(super) cause: String,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) term: Option<Term>,
    pub(super) hosts: HashMap<HostId, Host>,
    pub(super) clusters: HashMap<InstanceId, Entry>,
    by_host: HashMap<HostId, BTreeSet<InstanceId>>,
    /// What agents did by themselves, to be stored.
    pub(super) noticed: Vec<NewEvent>,
    /// Members whose servers came up, to be stored.
    pub(super) running: BTreeSet<MemberId>,
    /// Clusters whose rows were changed by somebody else.
    pub(super) reload: BTreeSet<InstanceId>,
    fleet: HashMap<HostId, PeerHost>,
    probes: Probes,
    /// The same by whom is probed.
    probers: HashMap<HostId, Vec<HostId>>,
    /// Who probes whom is to be chosen anew.
    unsurveyed: bool,
    mass: Option<Duration>,
    looked: Duration,
    pub(super) round_trip: Duration,
}

impl Host {
    fn new() -> Self {
        Self {
            session: String::new(),
            sequence: 0,
            heard: None,
            late: false,
            sightings: Vec::new(),
            wake: watch::Sender::new(0),
            told: None,
        }
    }
}

impl Table {
    pub(super) fn host(&mut self, host: HostId) -> &mut Host {
        self.hosts.entry(host).or_insert_with(Host::new)
    }

    /// Begins or ends a term. What is known of hosts and members stays: it is only ever older than it seems.
    pub(super) fn begin(&mut self, now: Duration, guard: Guard, rows: Vec<(InstanceId, Cluster, ClusterOwner)>) {
        self.term = Some(Term { guard, since: now });
        self.looked = now;
        let known: BTreeSet<_> = rows.iter().map(|(id, _, _)| *id).collect();
        let gone: Vec<_> = self.clusters.keys().filter(|id| !known.contains(id)).copied().collect();
        for id in gone {
            self.forget(id);
        }
        for (id, cluster, owner) in rows {
            self.put(now, id, cluster, owner);
        }
    }

    pub(super) fn end(&mut self) {
        self.term = None;
        self.clusters.clear();
        self.by_host.clear();
        self.reload.clear();
        self.unsurveyed = true;
    }

    /// Knows a cluster as it is stored.
    pub(super) fn put(&mut self, now: Duration, id: InstanceId, cluster: Cluster, owner: ClusterOwner) {
        let hosts = hosts_of(&cluster);
        let before = self.clusters.get(&id).map(|entry| hosts_of(&entry.cluster)).unwrap_or_default();
        let entry = self.clusters.entry(id).or_insert_with(|| Entry {
            cluster: cluster.clone(),
            owner: owner.clone(),
            facts: BTreeMap::new(),
            waits: Vec::new(),
            cause: String::new(),
            tracker: Tracker::default(),
            look_at: now,
            busy: false,
        });
        entry.tracker.know(now, &cluster);
        entry.facts.retain(|member, _| cluster.members.contains_key(member));
        entry.cluster = cluster;
        entry.owner = owner;
        entry.look_at = now;
        entry.busy = false;
        self.index(id, &before, &hosts);
        self.wake(&hosts);
    }

    pub(super) fn forget(&mut self, id: InstanceId) {
        if let Some(entry) = self.clusters.remove(&id) {
            let hosts = hosts_of(&entry.cluster);
            self.index(id, &hosts, &BTreeSet::new());
            self.wake(&hosts);
        }
    }

    fn index(&mut self, id: InstanceId, before: &BTreeSet<HostId>, after: &BTreeSet<HostId>) {
        for host in before.difference(after) {
            if let Some(of) = self.by_host.get_mut(host) {
                of.remove(&id);
            }
        }
        for host in after.difference(before) {
            self.by_host.entry(*host).or_default().insert(id);
        }
        self.unsurveyed |= before != after;
    }

    /// Wakes whoever is parked for orders of these hosts.
    pub(super) fn wake(&mut self, hosts: &BTreeSet<HostId>) {
        for host in hosts {
            self.host(*host).wake.send_modify(|n| *n += 1);
        }
    }

    /// Of these hosts, those that nobody is parked for here.
    pub(super) fn elsewhere(&self, hosts: &BTreeSet<HostId>) -> Vec<HostId> {
        let here = |host: &HostId| self.hosts.get(host).is_some_and(|known| known.wake.receiver_count() > 0);
        hosts.iter().filter(|host| !here(host)).copied().collect()
    }

    /// Clusters with a member on the host.
    pub(super) fn on_host(&self, host: HostId) -> impl Iterator<Item = (InstanceId, &Entry)> {
        let ids = self.by_host.get(&host).into_iter().flatten();
        ids.filter_map(|id| Some((*id, self.clusters.get(id)?)))
    }

    /// The hosts that there are.
    pub(super) fn set_fleet(&mut self, fleet: Vec<PeerHost>) {
        let fleet: HashMap<_, _> = fleet.into_iter().map(|host| (host.id, host)).collect();
        self.unsurveyed |= fleet != self.fleet;
        self.fleet = fleet;
    }

    /// Chooses anew who probes whom, if hosts or clusters changed, and wakes those whose part changed.
    pub(super) fn survey(&mut self) {
        if !std::mem::take(&mut self.unsurveyed) {
            return;
        }
        let mut fleet: Vec<_> = self.fleet.values().cloned().collect();
        fleet.sort_by_key(|host| host.id);
        let clusters: Vec<Vec<HostId>> =
            self.clusters.values().map(|entry| hosts_of(&entry.cluster).into_iter().collect()).collect();
        let fresh = probes(&fleet, clusters.iter().map(Vec::as_slice));
        let changed: BTreeSet<HostId> =
            fresh.keys().chain(self.probes.keys()).filter(|id| fresh.get(id) != self.probes.get(id)).copied().collect();
        self.probers.clear();
        for (prober, targets) in &fresh {
            for target in targets {
                self.probers.entry(*target).or_default().push(*prober);
            }
        }
        self.probes = fresh;
        self.wake(&changed);
    }

    /// What the host is told beside orders.
    pub(super) fn pace(&self, host: HostId) -> Pace {
        let peer = |id: &HostId| {
            let known = self.fleet.get(id)?;
            let port = known.peer_port.into();
            Some(pb::Peer { host_id: id.to_string(), address: known.address.clone(), port })
        };
        let peers: Vec<_> = self.probes.get(&host).into_iter().flatten().filter_map(peer).collect();
        Pace { reports: !peers.is_empty() || self.by_host.get(&host).is_some_and(|of| !of.is_empty()), peers }
    }

    /// Takes a report in. True if a decision may follow from it at once.
    pub(super) fn report(&mut self, now: Duration, from: HostId, report: pb::ReplicationReport) -> bool {
        let host = self.host(from);
        if host.session == report.session_id && report.sequence <= host.sequence {
            return false;
        }
        host.session = report.session_id;
        host.sequence = report.sequence;
        host.heard = Some(now);
        host.late = report.late_by.map(duration).unwrap_or_default() > LATE;
        host.sightings = report.sightings.into_iter().filter_map(sighting).collect();
        let mut news = false;
        for (instance, member, facts) in report.members.into_iter().filter_map(read) {
            let Some(entry) = self.clusters.get_mut(&instance) else { continue };
            let before = entry.facts.get(&member).map(|(facts, _)| runs(facts.state));
            let came_up = runs(facts.state) && before != Some(true);
            let (of_interest, noticed) = entry.report(now, (instance, from, member), facts);
            news |= of_interest;
            if came_up {
                self.running.insert(member);
            }
            self.noticed.extend(noticed);
        }
        news
    }

    /// Clusters in which something may be due now; each is then under way until [`Self::put`] or [`Self::failed`].
    pub(super) fn due(&mut self, now: Duration, proxies: &dyn Fn(InstanceId, &Cluster) -> Vec<ProxySeen>) -> Vec<Job> {
        let Some(term) = &mut self.term else { return Vec::new() };
        if now.saturating_sub(std::mem::replace(&mut self.looked, now)) > STOOD_STILL {
            term.since = now;
        }
        let since = term.since;
        self.note_mass_silence(now, since);
        let mut clusters = std::mem::take(&mut self.clusters);
        let mut jobs = Vec::new();
        for (id, entry) in &mut clusters {
            if entry.busy || entry.look_at > now {
                continue;
            }
            if let Some(next) = readdressed(&entry.cluster, |host| self.fleet.get(&host).map(|known| &*known.address)) {
                jobs.push(entry.job(*id, next, Vec::new()));
                continue;
            }
            let detect = Duration::from_millis(entry.cluster.timings().detect_ms.into());
            let node = Node {
                full_round: now.saturating_sub(since) >= detect,
                mass_silence: self.mass.map(|at| now.saturating_sub(at)).filter(|ago| *ago < REMEMBERED),
                meta_round_trip: self.round_trip,
            };
            let hosts = hosts_of(&entry.cluster).into_iter();
            let hosts = hosts.map(|host| (host, self.seen(now, since, host, detect))).collect();
            let observed: Observed =
                entry.tracker.observe(now, Timestamp::now(), hosts, proxies(*id, &entry.cluster), node);
            let decision = decide(&entry.cluster, &observed, Uuid::new_v4());
            entry.waits = decision.waits;
            entry.look_at = now + decision.look_again.map_or(IDLE, |again| again.clamp(SOONEST, IDLE));
            if let Some(next) = decision.next {
                jobs.push(entry.job(*id, next, decision.happened));
            }
        }
        self.clusters = clusters;
        jobs
    }

    /// Clusters that are to be read anew, but for those whose decision is being stored.
    pub(super) fn take_reloads(&mut self) -> BTreeSet<InstanceId> {
        let busy = |id: &InstanceId| self.clusters.get(id).is_some_and(|entry| entry.busy);
        let (later, now) = self.reload.iter().copied().partition(busy);
        self.reload = later;
        now
    }

    /// Looks at once at clusters that wait for proxies.
    pub(super) fn hurry_switchovers(&mut self, now: Duration) {
        for entry in self.clusters.values_mut().filter(|entry| matches!(entry.cluster.phase, Phase::Switchover(_))) {
            entry.look_at = entry.look_at.min(now);
        }
    }

    /// When the next cluster is due.
    pub(super) fn next_look(&self) -> Option<Duration> {
        self.term.as_ref()?;
        self.clusters.values().filter(|entry| !entry.busy).map(|entry| entry.look_at).min()
    }

    /// A decision could not be stored; it is made anew.
    pub(super) fn failed(&mut self, id: InstanceId, again: Duration) {
        if let Some(entry) = self.clusters.get_mut(&id) {
            entry.busy = false;
            entry.look_at = again;
        }
    }

    /// E1 and E3 of one host.
    fn seen(&self, now: Duration, since: Duration, host: HostId, detect: Duration) -> HostSeen {
        let heard = self.hosts.get(&host).and_then(|known| known.heard).unwrap_or_default().max(since);
        let probers = self.probers.get(&host).into_iter().flatten().copied();
        let witness = |by: HostId| {
            let known = self.hosts.get(&by)?;
            let age = now.saturating_sub(known.heard?);
            let (_, silent, unanswered) = known.sightings.iter().find(|(of, _, _)| *of == host)?;
            (age < detect).then(|| Witness {
                by,
                silent_for: silent.map(|silent| silent + age),
                unanswered: *unanswered,
                late: known.late,
            })
        };
        HostSeen { silent_for: now.saturating_sub(heard), witnesses: probers.filter_map(witness).collect() }
    }

    fn note_mass_silence(&mut self, now: Duration, since: Duration) {
        let heard: Vec<Duration> = self.hosts.values().filter_map(|host| host.heard).map(|at| at.max(since)).collect();
        let ago = |at: &&Duration| now.saturating_sub(**at);
        let silent = heard.iter().filter(|at| (MISSING..MISSING + AT_ONCE).contains(&ago(at))).count();
        let agents = silent + heard.iter().filter(|at| ago(at) < MISSING).count();
        if is_mass_silence(silent, agents) {
            self.mass = Some(now);
        }
    }
}

impl Entry {
    /// What is to be stored; nothing else is decided meanwhile.
    fn job(&mut self, instance: InstanceId, next: Cluster, happened: Vec<Happened>) -> Job {
        self.busy = true;
        for happened in &happened {
            if let Happened::Detected { cause, .. } = happened {
                self.cause.clone_from(cause);
            }
        }
        let (owner, before, cause) = (self.owner.clone(), self.cluster.clone(), self.cause.clone());
        Job { instance, owner, before, next, happened, cause }
    }

    /// Takes facts of a member in. True if a decision may follow; and what is worth an event.
    fn report(
        &mut self,
        now: Duration,
        (instance, from, member): (InstanceId, HostId, MemberId),
        facts: Facts,
    ) -> (bool, Option<NewEvent>) {
        if self.cluster.members.get(&member).is_none_or(|known| known.host != from) {
            return (false, None);
        }
        let before = self.facts.insert(member, (facts.clone(), now));
        let known = before.as_ref().map(|(facts, _)| facts);
        let noticed = noticed(&self.owner, instance, &self.cluster, member, known, &facts);
        let news =
            self.cluster.phase != Phase::Steady || before.is_none_or(|(before, _)| outline(&before) != outline(&facts));
        self.tracker.report(now, &self.cluster, member, facts);
        if news {
            self.look_at = self.look_at.min(now);
        }
        (news, noticed)
    }
}

/// Hosts of a cluster's members.
pub(super) fn hosts_of(cluster: &Cluster) -> BTreeSet<HostId> {
    cluster.members.values().map(|member| member.host).collect()
}

/// The cluster with the addresses that hosts have now; None if they are the ones it knows. Every order names every
/// member's address, so each is a new one.
fn readdressed<'a>(cluster: &Cluster, address: impl Fn(HostId) -> Option<&'a str>) -> Option<Cluster> {
    let other = |member: &Member| address(member.host).filter(|now| !now.is_empty() && *now != member.address);
    if !cluster.members.values().any(|member| other(member).is_some()) {
        return None;
    }
    let mut next = cluster.clone();
    next.rev += 1;
    for member in next.members.values_mut() {
        member.order_rev = next.rev;
        if let Some(now) = other(member) {
            now.clone_into(&mut member.address);
        }
    }
    Some(next)
}

/// The server takes sessions, of applications or at least of its agent.
fn runs(state: ReplicaState) -> bool {
    match state {
        ReplicaState::Catchup
        | ReplicaState::Standby
        | ReplicaState::Sealed
        | ReplicaState::Gated
        | ReplicaState::Open
        | ReplicaState::Fenced => true,
        ReplicaState::New
        | ReplicaState::Cloning
        | ReplicaState::Promoting
        | ReplicaState::Draining
        | ReplicaState::CleanStop
        | ReplicaState::Crashed
        | ReplicaState::Demoted
        | ReplicaState::Rejoining
        | ReplicaState::Quarantine
        | ReplicaState::Resting => false,
    }
}

fn sighting(sighting: pb::PeerSighting) -> Option<(HostId, Option<Duration>, u32)> {
    Some((sighting.host_id.parse().ok()?, sighting.silent_for.map(duration), sighting.unanswered))
}
