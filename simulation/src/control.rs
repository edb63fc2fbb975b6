//! A node of the control plane: what it holds in memory, and how it comes to the pure decision.
//!
//! The decision, the tracker, the orders and the route are the real ones. Here is what surrounds them, in the order of the
//! real driver: facts in, a decision, a swap in the metadata, then orders and routes.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use windlass_core::id::{HostId, MemberId};
use windlass_logic::ha::{Cluster, Facts, HostSeen, Node, Observed, ProxySeen, Tracker, Witness, is_mass_silence};

use crate::server::Time;

/// A node that runs.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    /// Which start of it.
    pub(crate) life: u64,
    /// The term under which it decides.
    pub(crate) term: Option<u64>,
    /// Since when.
    pub(crate) since: Time,
    /// The row as it knows it.
    pub(crate) cluster: Option<Cluster>,
    /// A swap is under way.
    pub(crate) storing: bool,
    /// When it looks next by itself.
    pub(crate) looks_at: Time,
    /// What its last decision waited for.
    pub(crate) waits: String,
    tracker: Tracker,
    heard: BTreeMap<HostId, Time>,
    sightings: BTreeMap<(HostId, HostId), Sighting>,
    sequences: BTreeMap<HostId, (u64, u64)>,
    silent: usize,
    mass_silence: Option<Time>,
}

/// What one host said of another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sighting {
    pub(crate) at: Time,
    pub(crate) silent_for: Option<Duration>,
    pub(crate) unanswered: u32,
    pub(crate) late: bool,
}

/// A report as it arrives.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// Which start of the agent, and which report of it.
    pub(crate) sequence: (u64, u64),
    pub(crate) host: HostId,
    pub(crate) members: Vec<(MemberId, Facts)>,
    pub(crate) sightings: Vec<(HostId, Option<Duration>, u32)>,
    pub(crate) late: bool,
}

impl Control {
    pub(crate) fn new(life: u64) -> Self {
        Self {
            life,
            term: None,
            since: Time::ZERO,
            cluster: None,
            storing: false,
            looks_at: Time::ZERO,
            waits: String::new(),
            tracker: Tracker::default(),
            heard: BTreeMap::new(),
            sightings: BTreeMap::new(),
            sequences: BTreeMap::new(),
            silent: 0,
            mass_silence: None,
        }
    }

    /// Begins a term with the stored row.
    pub(crate) fn begin(&mut self, now: Time, term: u64, row: Cluster) {
        *self = Self { term: Some(term), since: now, ..Self::new(self.life) };
        self.know(now, row);
    }

    /// The lease is gone.
    pub(crate) fn end(&mut self) {
        *self = Self::new(self.life);
    }

    /// Takes the row as it is stored now.
    pub(crate) fn know(&mut self, now: Time, row: Cluster) {
        self.tracker.know(now, &row);
        self.cluster = Some(row);
    }

    /// Takes a report in, unless a newer one of the same agent was taken. Says whether it was taken.
    pub(crate) fn report(&mut self, now: Time, report: &Report) -> bool {
        let Some(cluster) = &self.cluster else { return false };
        let known = self.sequences.entry(report.host).or_default();
        if report.sequence <= *known {
            return false;
        }
        *known = report.sequence;
        self.heard.insert(report.host, now);
        for (member, facts) in &report.members {
            if cluster.members.get(member).is_some_and(|known| known.host == report.host) {
                self.tracker.report(now, cluster, *member, facts.clone());
            }
        }
        for (of, silent_for, unanswered) in &report.sightings {
            let sighting = Sighting { at: now, silent_for: *silent_for, unanswered: *unanswered, late: report.late };
            self.sightings.insert((report.host, *of), sighting);
        }
        true
    }

    /// The snapshot for a decision. `hosts` are all agents that report.
    pub(crate) fn observe(
        &mut self,
        now: Time,
        hosts: &[HostId],
        proxies: Vec<ProxySeen>,
        round_trip: Duration,
    ) -> Observed {
        let cluster = self.cluster.as_ref();
        let detect =
            cluster.map_or(Duration::ZERO, |cluster| Duration::from_millis(cluster.timings().detect_ms.into()));
        let silent_for = |host: &HostId| now.saturating_sub(self.heard.get(host).copied().unwrap_or(self.since));
        let silent = hosts.iter().filter(|host| silent_for(host) >= detect).count();
        if is_mass_silence(silent.saturating_sub(self.silent), hosts.len()) {
            self.mass_silence = Some(now);
        }
        let seen = hosts.iter().map(|host| {
            let of = self.sightings.iter().filter(|((_, of), sighting)| of == host && now - sighting.at < detect);
            let witnesses = of.map(|((by, _), sighting)| Witness {
                by: *by,
                silent_for: sighting.silent_for.map(|silent| silent + (now - sighting.at)),
                unanswered: sighting.unanswered,
                late: sighting.late,
            });
            (*host, HostSeen { silent_for: silent_for(host), witnesses: witnesses.collect() })
        });
        let node = Node {
            full_round: now.saturating_sub(self.since) >= detect,
            mass_silence: self.mass_silence.map(|at| now - at),
            meta_round_trip: round_trip,
        };
        let observed = self.tracker.observe(now, wall(now), seen.collect(), proxies, node);
        self.silent = silent;
        observed
    }
}

/// The clock on the wall.
pub(crate) fn wall(now: Time) -> Timestamp {
    const BEGIN: i64 = 1_700_000_000;
    Timestamp::from_second(BEGIN).and_then(|begin| begin.checked_add(now)).unwrap_or(Timestamp::UNIX_EPOCH)
}
