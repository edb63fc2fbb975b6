//! The liveness table: pure state and decisions, time as an argument.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde_json::Value;
use windlass_core::{
    host::HostState,
    id::{HostId, MemberId},
    member::Process,
};

/// Of the hosts that are there, the part that must fall silent at once to be taken for a fault on our side.
const MASS_SHARE: f64 = 0.3;
/// Fewer silent hosts than this are never taken for it.
const MASS_LEAST: usize = 3;
/// How long such a silence is waited for.
const MASS_PATIENCE: Duration = Duration::from_secs(60);

/// What matters of a member's facts: a change of it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemberKey {
    pub(super) process: Process,
    pub(super) generation: u64,
    pub(super) pid: i64,
    pub(super) problem: String,
    pub(super) pending_restart: Vec<String>,
    pub(super) restarts: u64,
    pub(super) in_recovery: bool,
}

/// What is known of a host.
#[derive(Debug)]
struct Host {
    name: String,
    /// As stored.
    state: HostState,
    heard: Instant,
    load: Value,
    /// Whether it was heard since the last touch.
    fresh: bool,
    /// Whether this node itself heard it since it last told the other nodes.
    untold: bool,
    members: HashMap<MemberId, MemberKey>,
    orphans: Option<Vec<String>>,
}

/// If nobody looked at the table for so long, this node itself stood still and heard nobody.
const STOOD_STILL: Duration = Duration::from_secs(5);

/// The table.
#[derive(Debug)]
pub(super) struct Liveness {
    hosts: HashMap<HostId, Host>,
    /// No host is declared OFFLINE before.
    quiet_until: Instant,
    /// When the silence was last looked at.
    looked: Instant,
    /// Since when a large part of the fleet is silent.
    mass_since: Option<Instant>,
}

/// What the silence of hosts means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nobody is silent for too long.
    None,
    /// These have gone.
    Gone(Vec<HostId>),
    /// So many of so many fell silent that the fault may be ours: wait. Said once.
    MassBegins { silent: usize, of: usize },
    /// Still waiting.
    MassGoesOn,
}

impl Liveness {
    pub(super) fn new(now: Instant, grace: Duration) -> Self {
        Self { hosts: HashMap::new(), quiet_until: now + grace, looked: now, mass_since: None }
    }

    /// Learns a host from its row, which another node may have changed; one that is known keeps what was heard of it.
    pub(super) fn learn(&mut self, id: HostId, name: &str, state: HostState, now: Instant) {
        let host = self.hosts.entry(id).or_insert_with(|| Host {
            name: name.to_owned(),
            state,
            heard: now,
            load: Value::Object(serde_json::Map::new()),
            fresh: false,
            untold: false,
            members: HashMap::new(),
            orphans: None,
        });
        name.clone_into(&mut host.name);
        host.state = state;
    }

    /// Notes that another node heard a host then.
    pub(super) fn heard_elsewhere(&mut self, id: HostId, at: Instant) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.heard = host.heard.max(at);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.hosts.len()
    }

    pub(super) fn knows(&self, id: HostId) -> bool {
        self.hosts.contains_key(&id)
    }

    pub(super) fn name(&self, id: HostId) -> Option<String> {
        self.hosts.get(&id).map(|host| host.name.clone())
    }

    pub(super) fn forget(&mut self, id: HostId) {
        self.hosts.remove(&id);
    }

    /// Notes a sign of life. True when the host's row does not say ONLINE yet.
    pub(super) fn heard(&mut self, id: HostId, now: Instant) -> bool {
        self.hosts.get_mut(&id).is_some_and(|host| {
            host.heard = now;
            host.fresh = true;
            host.untold = true;
            host.state != HostState::Online
        })
    }

    pub(super) fn load(&mut self, id: HostId, load: Value) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.load = load;
        }
    }

    /// Notes what the host's row says now.
    pub(super) fn stored(&mut self, id: HostId, state: HostState) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.state = state;
        }
    }

    /// A new session: whatever was stored of the members may be outdated.
    pub(super) fn new_session(&mut self, id: HostId) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.members.clear();
            host.orphans = None;
        }
    }

    /// Whether no heartbeat of the session was stored yet.
    pub(super) fn first_of_session(&self, id: HostId) -> bool {
        self.hosts.get(&id).is_some_and(|host| host.orphans.is_none())
    }

    /// Whether a member's facts differ from those stored last.
    pub(super) fn differs(&self, id: HostId, member: MemberId, key: &MemberKey) -> bool {
        self.hosts.get(&id).is_none_or(|host| host.members.get(&member) != Some(key))
    }

    pub(super) fn remember(&mut self, id: HostId, member: MemberId, key: MemberKey) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.members.insert(member, key);
        }
    }

    /// Whether the host's orphans differ from those stored last.
    pub(super) fn orphans_differ(&self, id: HostId, orphans: &[String]) -> bool {
        self.hosts.get(&id).is_none_or(|host| host.orphans.as_deref() != Some(orphans))
    }

    pub(super) fn remember_orphans(&mut self, id: HostId, orphans: &[String]) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.orphans = Some(orphans.to_vec());
        }
    }

    /// Hosts heard since the last call, with their load.
    pub(super) fn take_fresh(&mut self) -> Vec<(HostId, Value)> {
        let mut fresh = Vec::new();
        for (id, host) in &mut self.hosts {
            if std::mem::take(&mut host.fresh) {
                fresh.push((*id, host.load.clone()));
            }
        }
        fresh
    }

    /// Hosts that this node heard since the last call.
    pub(super) fn take_untold(&mut self) -> Vec<HostId> {
        self.hosts.iter_mut().filter_map(|(id, host)| std::mem::take(&mut host.untold).then_some(*id)).collect()
    }

    /// What the silence of hosts means now, if `limit` is the longest that counts as being there.
    pub(super) fn silence(&mut self, now: Instant, limit: Duration) -> Silence {
        if now.duration_since(std::mem::replace(&mut self.looked, now)) > STOOD_STILL {
            self.quiet_until = self.quiet_until.max(now + limit);
        }
        if now < self.quiet_until {
            return Silence::None;
        }
        let online: Vec<_> = self.hosts.iter().filter(|(_, host)| host.state == HostState::Online).collect();
        let of = online.len();
        let gone: Vec<HostId> =
            online.into_iter().filter(|(_, host)| now.duration_since(host.heard) > limit).map(|(id, _)| *id).collect();
        let mass = gone.len() >= MASS_LEAST && gone.len() as f64 > of as f64 * MASS_SHARE;
        if gone.is_empty() {
            self.mass_since = None;
            return Silence::None;
        }
        if !mass {
            self.mass_since = None;
            return Silence::Gone(gone);
        }
        match self.mass_since {
            None => {
                self.mass_since = Some(now);
                Silence::MassBegins { silent: gone.len(), of }
            }
            Some(since) if now.duration_since(since) < MASS_PATIENCE => Silence::MassGoesOn,
            Some(_) => Silence::Gone(gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(15);
    const GRACE: Duration = Duration::from_secs(20);

    fn fleet(n: usize, now: Instant) -> (Liveness, Vec<HostId>) {
        let mut table = Liveness::new(now, GRACE);
        let ids: Vec<_> = (0..n).map(|_| HostId::new()).collect();
        for id in &ids {
            table.learn(*id, "h", HostState::Online, now);
        }
        (table, ids)
    }

    /// The silence as seen by a node that has looked all the time.
    fn silence(table: &mut Liveness, now: Instant) -> Silence {
        table.looked = now;
        table.silence(now, LIMIT)
    }

    #[test]
    fn a_node_that_stood_still_gives_the_hosts_time_to_be_heard() {
        let start = Instant::now();
        let (mut table, ids) = fleet(1, start);
        let awake = start + Duration::from_secs(600);
        assert_eq!(table.silence(awake, LIMIT), Silence::None);
        assert_eq!(silence(&mut table, awake + LIMIT), Silence::Gone(ids));
    }

    #[test]
    fn nobody_goes_during_the_grace_after_the_start() {
        let start = Instant::now();
        let (mut table, ids) = fleet(1, start);
        assert_eq!(silence(&mut table, start + LIMIT + Duration::from_secs(1)), Silence::None);
        assert_eq!(silence(&mut table, start + GRACE), Silence::Gone(ids));
    }

    #[test]
    fn a_host_that_was_heard_stays_and_one_that_is_offline_does_not_go_again() {
        let start = Instant::now();
        let (mut table, ids) = fleet(2, start);
        let now = start + Duration::from_secs(60);
        assert!(!table.heard(ids[0], now));
        assert_eq!(silence(&mut table, now), Silence::Gone(vec![ids[1]]));
        table.stored(ids[1], HostState::Offline);
        assert_eq!(silence(&mut table, now), Silence::None);
        assert!(table.heard(ids[1], now), "it is back");
    }

    #[test]
    fn a_host_that_another_node_hears_is_not_silent_and_is_not_told_on() {
        let start = Instant::now();
        let (mut table, ids) = fleet(2, start);
        let now = start + Duration::from_secs(60);
        table.heard(ids[0], now);
        table.heard_elsewhere(ids[1], now - Duration::from_secs(5));
        assert_eq!(silence(&mut table, now), Silence::None);
        assert_eq!(table.take_untold(), [ids[0]]);
        assert!(table.take_untold().is_empty(), "it is told once");
        table.heard_elsewhere(ids[0], start);
        assert_eq!(silence(&mut table, now + Duration::from_secs(11)), Silence::Gone(vec![ids[1]]));
    }

    #[test]
    fn what_another_node_stored_of_a_host_is_learnt() {
        let start = Instant::now();
        let (mut table, ids) = fleet(1, start);
        table.learn(ids[0], "h", HostState::Offline, start);
        assert!(table.heard(ids[0], start), "so it is stored as online again");
    }

    #[test]
    fn a_large_part_falling_silent_at_once_is_waited_for_and_said_once() {
        let start = Instant::now();
        let (mut table, ids) = fleet(10, start);
        let now = start + Duration::from_secs(60);
        for id in &ids[4..] {
            table.heard(*id, now);
        }
        assert_eq!(silence(&mut table, now), Silence::MassBegins { silent: 4, of: 10 });
        assert_eq!(silence(&mut table, now + Duration::from_secs(1)), Silence::MassGoesOn);
        for id in &ids {
            table.heard(*id, now);
        }
        assert_eq!(silence(&mut table, now + Duration::from_secs(2)), Silence::None);
        let late = now + Duration::from_secs(100);
        assert_eq!(silence(&mut table, late), Silence::MassBegins { silent: 10, of: 10 });
        let Silence::Gone(gone) = silence(&mut table, late + MASS_PATIENCE) else { panic!("patience ends") };
        assert_eq!(gone.len(), 10);
    }

    #[test]
    fn three_of_ten_go_without_ado() {
        let start = Instant::now();
        let (mut table, ids) = fleet(10, start);
        let now = start + Duration::from_secs(60);
        for id in &ids[3..] {
            table.heard(*id, now);
        }
        let Silence::Gone(gone) = silence(&mut table, now) else { panic!("not more than 30 %") };
        assert_eq!(gone.len(), 3);
    }

    #[test]
    fn facts_are_new_only_when_they_differ_or_the_session_is_new() {
        let start = Instant::now();
        let (mut table, ids) = fleet(1, start);
        let (host, member) = (ids[0], MemberId::new());
        let key = MemberKey {
            process: Process::Running,
            generation: 1,
            pid: 5,
            problem: String::new(),
            pending_restart: Vec::new(),
            restarts: 0,
            in_recovery: false,
        };
        assert!(table.differs(host, member, &key));
        table.remember(host, member, key.clone());
        assert!(!table.differs(host, member, &key));
        assert!(table.differs(host, member, &MemberKey { pid: 6, ..key.clone() }));
        table.new_session(host);
        assert!(table.differs(host, member, &key));
    }
}
