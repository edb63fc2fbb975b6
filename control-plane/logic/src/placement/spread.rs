//! Placing several members of one instance: each on its own host, and in as many zones as there are.
//!
//! One member after the other, each seeing what the ones before it took. That is enough: all members ask for the same,
//! so a host that fits one fits any of them, and taking the best first never costs a later one its place. Hosts are a
//! hard rule; zones are the first preference, and where they cannot be had the outcome says so.

use serde::{Deserialize, Serialize};
use windlass_core::{Error, id::HostId};

use super::{HostView, Placement, PlacementRequest, place};

/// The outcome for several members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// One placement for each member; the last has no host if not all fit.
    pub placements: Vec<Placement>,
    /// Members that share a zone and why, as sentences; empty if none do.
    pub notes: Vec<String>,
}

impl Spread {
    /// The hosts, one for each member.
    ///
    /// # Errors
    /// `NO_HOST_FITS`, saying how many found a place and why no more.
    pub fn hosts(&self) -> Result<Vec<HostId>, Error> {
        let placed = self.placements.iter().filter(|placement| placement.chosen.is_some()).count();
        self.placements.iter().map(Placement::host).collect::<Result<_, _>>().map_err(|mut error| {
            if placed > 0 {
                error.message =
                    format!("{placed} members have a place, another has none; each needs its own host: {error}");
            }
            error
        })
    }
}

/// Places `count` members beside those that the instance has.
pub fn place_members(request: &PlacementRequest, hosts: &[HostView], count: usize) -> Spread {
    let mut hosts = hosts.to_vec();
    let (mut placements, mut notes) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let placement = place(request, &hosts);
        let chosen = placement.chosen;
        placements.push(placement);
        let Some(at) = hosts.iter().position(|host| Some(host.id) == chosen) else { break };
        notes.extend(shared_zone(&hosts, at));
        let host = &mut hosts[at];
        host.reserved = host.reserved.plus(request.resources);
        host.ports.taken += 1;
        host.instance_members += 1;
        host.project_members += 1;
    }
    Spread { placements, notes }
}

/// Says so if the zone of the host that was just chosen has a member already.
fn shared_zone(hosts: &[HostView], at: usize) -> Option<String> {
    let host = &hosts[at];
    let other = hosts.iter().find(|other| {
        !host.zone.is_empty()
            && other.id != host.id
            && other.instance_members > 0
            && (&other.region, &other.zone) == (&host.region, &host.zone)
    })?;
    Some(format!(
        "{} shares zone {} with {}, because no host in a zone with fewer members fits; losing that zone loses both",
        host.name, host.zone, other.name
    ))
}
