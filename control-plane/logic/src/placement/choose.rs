//! Choosing a host: one pass over all hosts finds the winner; words are made only for the hosts that are shown.

use std::{cmp::Ordering, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use windlass_core::{
    Error, ErrorKind, Reason,
    engine::Engine,
    id::{HostId, InstanceId},
    instance::PlacementRules,
    size::Resources,
};

use super::{
    HostView, Locality, Policy, Rejection, Rule, filter,
    score::{self, Zones},
};

/// Verdicts that a placement keeps: a fleet of up to this size is explained whole, of a larger one the best hosts.
pub const VERDICTS_KEPT: usize = 50;

/// What is to be placed: one member of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlacementRequest {
    /// The instance; settles ties.
    pub instance: InstanceId,
    /// Engine it needs.
    pub engine: Engine,
    /// Major version it needs.
    pub version: String,
    /// What the member reserves.
    pub resources: Resources,
    /// Where it must be.
    pub rules: PlacementRules,
    /// Where it would rather be.
    #[serde(default)]
    pub prefer: Locality,
    /// Knobs of the installation.
    #[serde(default)]
    pub policy: Policy,
}

/// What the scheduler says of one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// Whether it is the one chosen.
    pub chosen: bool,
    /// Why it does not fit; empty if it does.
    pub rejections: Vec<Rejection>,
    /// 0 to 1, higher is better; 0 if it does not fit.
    pub score: f64,
    /// Parts of the score by name, each 0 to 1 before its weight; empty if it does not fit.
    pub parts: BTreeMap<String, f64>,
}

/// The outcome of a placement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// The host, if one fits.
    pub chosen: Option<HostId>,
    /// At most [`VERDICTS_KEPT`] hosts, best first, then those nearest to fitting.
    pub verdicts: Vec<Verdict>,
    /// How many hosts were looked at.
    pub looked_at: usize,
    /// Hosts by rule that they break; empty if one was chosen.
    pub rejected_by: BTreeMap<Rule, usize>,
}

impl Placement {
    /// The chosen host.
    ///
    /// # Errors
    /// `NO_HOST_FITS`, saying why for each host (for a large fleet: counts, and the hosts nearest to fitting).
    pub fn host(&self) -> Result<HostId, Error> {
        self.chosen.ok_or_else(|| {
            let message = match self.looked_at {
                0 => "no host is enrolled; create a join token and enrol one".to_owned(),
                looked_at => {
                    let counts: Vec<_> =
                        self.rejected_by.iter().map(|(rule, hosts)| format!("{rule} {hosts}")).collect();
                    let named: Vec<_> = self.verdicts.iter().take(NAMED_IN_ERROR).map(Verdict::sentence).collect();
                    format!("none of {looked_at} hosts fits ({}). {}", counts.join(", "), named.join(". "))
                }
            };
            Error::new(ErrorKind::ResourceExhausted, Reason::NoHostFits, message).with_metadata("hosts", self.looked_at)
        })
    }
}

/// Hosts that an error message names one by one.
const NAMED_IN_ERROR: usize = 10;

impl Verdict {
    fn sentence(&self) -> String {
        let reasons: Vec<_> = self.rejections.iter().map(|rejection| rejection.message.as_str()).collect();
        format!("{}: {}", self.name, reasons.join("; "))
    }
}

/// Chooses a host and explains the hosts worth showing.
pub fn place(request: &PlacementRequest, hosts: &[HostView]) -> Placement {
    let zones = Zones::count(hosts);
    let mut fitting: Vec<Candidate<'_>> = hosts
        .iter()
        .filter(|host| filter::passes(request, host))
        .map(|host| Candidate::new(request, host, &zones))
        .collect();
    keep_best(&mut fitting, VERDICTS_KEPT, Candidate::cmp);
    let chosen = fitting.first().map(|best| best.host.id);
    let mut verdicts: Vec<_> = fitting.iter().map(|c| c.verdict(request, &zones, chosen)).collect();
    let mut rejected_by = BTreeMap::new();
    if verdicts.len() < VERDICTS_KEPT && (chosen.is_none() || hosts.len() <= VERDICTS_KEPT) {
        let mut rejected: Vec<(usize, &HostView)> = Vec::new();
        for host in hosts {
            let mut rules = 0;
            for rule in filter::broken(request, host) {
                rules += 1;
                if chosen.is_none() {
                    *rejected_by.entry(rule).or_default() += 1;
                }
            }
            if rules > 0 {
                rejected.push((rules, host));
            }
        }
        keep_best(&mut rejected, VERDICTS_KEPT - verdicts.len(), |a, b| nearer_to_fitting(*a, *b));
        verdicts.extend(rejected.iter().map(|(_, host)| rejected_verdict(request, host)));
    }
    Placement { chosen, verdicts, looked_at: hosts.len(), rejected_by }
}

/// A verdict on every host, best first, then those nearest to fitting.
pub fn explain(request: &PlacementRequest, hosts: &[HostView]) -> Vec<Verdict> {
    let zones = Zones::count(hosts);
    let (mut fitting, mut rejected) = (Vec::new(), Vec::new());
    for host in hosts {
        match filter::broken(request, host).count() {
            0 => fitting.push(Candidate::new(request, host, &zones)),
            rules => rejected.push((rules, host)),
        }
    }
    fitting.sort_unstable_by(Candidate::cmp);
    rejected.sort_unstable_by(|a, b| nearer_to_fitting(*a, *b));
    let chosen = fitting.first().map(|best| best.host.id);
    let fitting = fitting.iter().map(|candidate| candidate.verdict(request, &zones, chosen));
    fitting.chain(rejected.iter().map(|(_, host)| rejected_verdict(request, host))).collect()
}

/// A host that fits, with what it is compared by.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    /// Members of the instance in its zone: spreading over zones comes before every other preference.
    crowd: u32,
    score: f64,
    tie: u64,
    host: &'a HostView,
}

impl<'a> Candidate<'a> {
    fn new(request: &PlacementRequest, host: &'a HostView, zones: &Zones<'_>) -> Self {
        let crowd = zones.around(host).instance;
        Self { crowd, score: score::total(request, host, zones), tie: tie_break(request.instance, host.id), host }
    }

    /// Better is less, so that the best comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = other.score.total_cmp(&self.score);
        self.crowd
            .cmp(&other.crowd)
            .then(by_score)
            .then(self.tie.cmp(&other.tie))
            .then(self.host.id.cmp(&other.host.id))
    }

    fn verdict(&self, request: &PlacementRequest, zones: &Zones<'_>, chosen: Option<HostId>) -> Verdict {
        Verdict {
            host: self.host.id,
            name: self.host.name.clone(),
            chosen: chosen == Some(self.host.id),
            rejections: Vec::new(),
            score: self.score,
            parts: score::parts(request, self.host, zones),
        }
    }
}

fn rejected_verdict(request: &PlacementRequest, host: &HostView) -> Verdict {
    Verdict {
        host: host.id,
        name: host.name.clone(),
        chosen: false,
        rejections: filter::rejections(request, host),
        score: 0.0,
        parts: BTreeMap::new(),
    }
}

fn nearer_to_fitting(a: (usize, &HostView), b: (usize, &HostView)) -> Ordering {
    a.0.cmp(&b.0).then_with(|| a.1.name.cmp(&b.1.name)).then_with(|| a.1.id.cmp(&b.1.id))
}

/// Keeps the `count` first of the order, sorted, without sorting all.
fn keep_best<T>(items: &mut Vec<T>, count: usize, mut order: impl FnMut(&T, &T) -> Ordering) {
    if count > 0 && items.len() > count {
        items.select_nth_unstable_by(count - 1, &mut order);
    }
    items.truncate(count);
    items.sort_unstable_by(order);
}

/// Spreads equal hosts over instances: the 64-bit finaliser of MurmurHash3 over both ids, stable across releases.
fn tie_break(instance: InstanceId, host: HostId) -> u64 {
    let (a, b) = instance.0.as_u64_pair();
    let (c, d) = host.0.as_u64_pair();
    [a, b, c, d].into_iter().fold(0, |state: u64, word| {
        let mut x = state.rotate_left(29) ^ word;
        x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        x ^ (x >> 33)
    })
}
