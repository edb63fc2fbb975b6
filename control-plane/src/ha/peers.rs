//! Who probes whom: each host with replicated members is watched by the hosts of its siblings and by a few others.
//!
//! Why: whether a host is dead must not rest on the control plane's own path to it. The others are chosen by a hash over
//! both ids, in another zone where there is one, so that the choice hardly changes when hosts come and go. Pure.

use std::collections::{BTreeMap, BTreeSet};

use windlass_core::id::HostId;
use windlass_db::ha::PeerHost;

/// Witnesses of a host beside the hosts of its siblings.
const WITNESSES: usize = 3;

/// Whom each host probes.
pub(super) type Probes = BTreeMap<HostId, BTreeSet<HostId>>;

/// Chooses, from all hosts and the hosts of each cluster's members.
pub(super) fn probes<'a>(hosts: &[PeerHost], clusters: impl Iterator<Item = &'a [HostId]>) -> Probes {
    let mut siblings: BTreeMap<HostId, BTreeSet<HostId>> = BTreeMap::new();
    for members in clusters {
        for host in members {
            siblings.entry(*host).or_default().extend(members.iter().filter(|other| *other != host));
        }
    }
    let mut probes = Probes::new();
    for target in hosts.iter().filter(|host| host.peer_port > 0) {
        let Some(own) = siblings.get(&target.id) else { continue };
        let mut others: Vec<_> = hosts.iter().filter(|host| host.id != target.id && !own.contains(&host.id)).collect();
        others.sort_by_key(|host| (near(host, target), mix(target.id, host.id)));
        let witnesses = others.iter().take(WITNESSES).map(|host| host.id);
        for prober in own.iter().copied().chain(witnesses) {
            probes.entry(prober).or_default().insert(target.id);
        }
    }
    probes
}

/// Hosts of the same zone come last: they may share what fails.
fn near(host: &PeerHost, target: &PeerHost) -> bool {
    !target.zone.is_empty() && (&host.region, &host.zone) == (&target.region, &target.zone)
}

/// Spreads witnesses over the fleet: the 64-bit finaliser of MurmurHash3 over both ids.
fn mix(target: HostId, host: HostId) -> u64 {
    let (a, b) = target.0.as_u64_pair();
    let (c, d) = host.0.as_u64_pair();
    [a, b, c, d].into_iter().fold(0, |state: u64, word| {
        let mut x = state.rotate_left(29) ^ word;
        x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        x ^ (x >> 33)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(zones: &[&str]) -> Vec<PeerHost> {
        let host = |(n, zone): (usize, &&str)| PeerHost {
            id: HostId::new(),
            name: format!("h{n}"),
            address: "192.0.2.1".to_owned(),
            peer_port: 7411,
            region: String::new(),
            zone: (*zone).to_owned(),
        };
        zones.iter().enumerate().map(host).collect()
    }

    fn probers(probes: &Probes, of: HostId) -> Vec<HostId> {
        probes.iter().filter(|(_, targets)| targets.contains(&of)).map(|(prober, _)| *prober).collect()
    }

    #[test]
    fn siblings_and_a_few_others_watch_a_host() {
        let hosts = fleet(&[""; 8]);
        let pair = [hosts[0].id, hosts[1].id];
        let probes = probes(&hosts, [&pair[..]].into_iter());
        let of_first = probers(&probes, hosts[0].id);
        assert_eq!(of_first.len(), 1 + WITNESSES);
        assert!(of_first.contains(&hosts[1].id) && !of_first.contains(&hosts[0].id));
        assert!(probers(&probes, hosts[7].id).is_empty(), "nobody watches a host without replicated members");
    }

    #[test]
    fn two_hosts_watch_each_other_and_witnesses_are_of_other_zones() {
        let hosts = fleet(&["a", "b"]);
        let pair = [hosts[0].id, hosts[1].id];
        assert_eq!(probers(&probes(&hosts, [&pair[..]].into_iter()), hosts[0].id), [hosts[1].id]);
        let hosts = fleet(&["a", "a", "a", "a", "b", "b", "b"]);
        let pair = [hosts[0].id, hosts[1].id];
        let probes = probes(&hosts, [&pair[..]].into_iter());
        let witnesses: BTreeSet<_> = probers(&probes, hosts[0].id).into_iter().collect();
        assert!(hosts[4..].iter().all(|host| witnesses.contains(&host.id)), "the other zone's hosts first");
    }

    #[test]
    fn a_host_that_cannot_be_reached_by_others_is_not_probed() {
        let mut hosts = fleet(&["", ""]);
        hosts[0].peer_port = 0;
        let pair = [hosts[0].id, hosts[1].id];
        assert!(probers(&probes(&hosts, [&pair[..]].into_iter()), hosts[0].id).is_empty());
    }
}
