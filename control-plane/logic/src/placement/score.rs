//! How good a fitting host is: parts from 0 (worst) to 1 (best), weighed by one table.
//!
//! Invariant: a part looks at one host and at the zones of existing members, never at the best or worst of the others;
//! so scores of two placements can be compared and an added host moves no score.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{HostView, PlacementRequest};

windlass_core::words! {
    /// A part of a score.
    pub enum Part {
        /// Few members of the instance in the host's zone.
        InstanceZone = "instance_zone",
        /// The preferred zone or region.
        Locality = "locality",
        /// Little measured load and pressure.
        Calm = "calm",
        /// Few members of the project on the host.
        ProjectHost = "project_host",
        /// Few members of the project in the zone.
        ProjectZone = "project_zone",
        /// Memory that would be promised: high is good when packing, low when spreading.
        Packing = "packing",
        /// Cheap.
        Cost = "cost",
    }
}

/// What each part counts. The sum is 1, so a score lies in 0 to 1 too.
///
/// - `InstanceZone` tells zones apart in what users see; the order of hosts puts fewer members of the instance in the
///   zone before any score, because losing one zone must not lose an instance.
/// - `Locality` and `Calm` are what users feel: distance, and neighbours that already wait for memory or disk.
/// - `ProjectHost` beats `Packing`, so that a small project does not put all it has on one machine while others are
///   empty; `ProjectZone` is weaker, because a project with many members has some in every zone anyway.
/// - `Packing` and `Cost` decide among otherwise equal hosts: keep room for large instances, and save money.
const WEIGHTS: [(Part, f64); 7] = [
    (Part::InstanceZone, 0.30),
    (Part::Locality, 0.15),
    (Part::Calm, 0.15),
    (Part::ProjectHost, 0.15),
    (Part::ProjectZone, 0.05),
    (Part::Packing, 0.10),
    (Part::Cost, 0.10),
];

/// Where a member would rather be. A wish, unlike the rules of the instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Locality {
    /// Wished region, empty for none.
    pub region: String,
    /// Wished zone, empty for none.
    pub zone: String,
}

/// Knobs of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// 1 fills hosts up, 0 spreads evenly, 0.5 does not care.
    pub packing: f64,
}

impl Default for Policy {
    /// Mild packing on memory, which cannot be shared; load is spread whatever this says.
    fn default() -> Self {
        Self { packing: 0.75 }
    }
}

/// Members by zone, counted once per placement. Hosts without a zone form none: nothing is known of what they share.
pub(super) struct Zones<'a>(BTreeMap<(&'a str, &'a str), Members>);

#[derive(Clone, Copy, Default)]
pub(super) struct Members {
    pub(super) instance: u32,
    project: u32,
}

impl<'a> Zones<'a> {
    pub(super) fn count(hosts: &'a [HostView]) -> Self {
        let mut zones = BTreeMap::<_, Members>::new();
        for host in hosts.iter().filter(|host| host.project_members > 0 || host.instance_members > 0) {
            let members = zones.entry((host.region.as_str(), host.zone.as_str())).or_default();
            members.instance = members.instance.saturating_add(host.instance_members);
            members.project = members.project.saturating_add(host.project_members);
        }
        Self(zones)
    }

    pub(super) fn around(&self, host: &HostView) -> Members {
        if host.zone.is_empty() || self.0.is_empty() {
            return Members { instance: host.instance_members, project: host.project_members };
        }
        self.0.get(&(host.region.as_str(), host.zone.as_str())).copied().unwrap_or_default()
    }
}

/// The score of a host that fits, 0 to 1.
pub(super) fn total(request: &PlacementRequest, host: &HostView, zones: &Zones<'_>) -> f64 {
    WEIGHTS.iter().map(|(part, weight)| weight * value(*part, request, host, zones)).sum()
}

/// The parts of the score by name, each from 0 to 1 and before its weight.
pub(super) fn parts(request: &PlacementRequest, host: &HostView, zones: &Zones<'_>) -> BTreeMap<String, f64> {
    WEIGHTS.iter().map(|(part, _)| (part.to_string(), value(*part, request, host, zones))).collect()
}

fn value(part: Part, request: &PlacementRequest, host: &HostView, zones: &Zones<'_>) -> f64 {
    match part {
        Part::InstanceZone => few(zones.around(host).instance),
        Part::ProjectZone => few(zones.around(host).project),
        Part::ProjectHost => few(host.project_members),
        Part::Locality => locality(&request.prefer, host),
        Part::Calm => {
            let load = &host.load;
            let worst = [load.cpu_percent, load.psi_cpu, load.psi_memory, load.psi_io].into_iter().fold(0.0, f64::max);
            1.0 - unit(worst / 100.0)
        }
        Part::Packing => {
            let limit = host.limit().memory_bytes.max(1) as f64;
            let promised = unit((host.reserved.memory_bytes as f64 + request.resources.memory_bytes as f64) / limit);
            let packing = unit(request.policy.packing);
            packing * promised + (1.0 - packing) * (1.0 - promised)
        }
        Part::Cost => 1.0 / (1.0 + if host.cost_weight.is_finite() { host.cost_weight.max(0.0) } else { 1000.0 }),
    }
}

fn few(members: u32) -> f64 {
    1.0 / (1.0 + f64::from(members))
}

fn locality(wish: &Locality, host: &HostView) -> f64 {
    let region = wish.region.is_empty() || wish.region == host.region;
    let zone = wish.zone.is_empty() || wish.zone == host.zone;
    match (region, zone) {
        (true, true) => 1.0,
        (true, false) => 0.5,
        (false, true | false) => 0.0,
    }
}

/// Holds a measured share within 0 to 1; what is not a number counts as 0.
fn unit(share: f64) -> f64 {
    if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_one_weight_and_they_sum_to_one() {
        let named: Vec<_> = WEIGHTS.iter().map(|(part, _)| *part).collect();
        assert_eq!(named, Part::ALL);
        let sum: f64 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
    }
}
