//! What probes of other hosts saw, as it is reported.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use windlass_kit::clock::BootInstant;
use windlass_proto::agent::v1 as pb;

use super::to_wire;

/// The last sign of life of each host that is probed.
#[derive(Debug, Default)]
pub struct Sightings(Mutex<BTreeMap<String, Sighting>>);

#[derive(Debug, Default)]
struct Sighting {
    answered: Option<BootInstant>,
    unanswered: u32,
    relays: bool,
}

impl Sightings {
    /// A probe goes out, or would if the last ones had not hung.
    pub(crate) fn probed(&self, host: &str) {
        let mut table = self.table();
        let sighting = table.entry(host.to_owned()).or_default();
        sighting.unanswered = sighting.unanswered.saturating_add(1);
    }

    /// A probe was answered by a host that reaches the control plane, or does not.
    pub(crate) fn answered(&self, host: &str, connected: bool) {
        let sighting = Sighting { answered: Some(BootInstant::now()), unanswered: 0, relays: connected };
        self.table().insert(host.to_owned(), sighting);
    }

    /// Only these hosts are probed from now on. What was seen of others would look like their silence later.
    pub(crate) fn keep(&self, peers: &[pb::Peer]) {
        self.table().retain(|host, _| peers.iter().any(|peer| peer.host_id == *host));
    }

    /// Whether a host answered its last probe and reaches the control plane.
    pub(crate) fn may_relay(&self, host: &str) -> bool {
        // The last probe may still be under way.
        self.table().get(host).is_some_and(|sighting| sighting.relays && sighting.unanswered <= 2)
    }

    pub(super) fn report(&self, peers: &[pb::Peer]) -> Vec<pb::PeerSighting> {
        let table = self.table();
        let seen = peers.iter().filter_map(|peer| table.get_key_value(&peer.host_id));
        seen.map(|(host, sighting)| pb::PeerSighting {
            host_id: host.clone(),
            silent_for: sighting.answered.map(|answered| to_wire(answered.elapsed())),
            unanswered: sighting.unanswered,
        })
        .collect()
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Sighting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_peers_that_were_probed_are_reported() {
        let sightings = Sightings::default();
        let peers = ["a", "b", "c"].map(|id| pb::Peer { host_id: id.to_owned(), ..pb::Peer::default() });
        sightings.probed("a");
        sightings.probed("b");
        sightings.answered("b", true);
        sightings.probed("x");
        let report = sightings.report(&peers);
        assert_eq!(report.len(), 2);
        assert_eq!((report[0].silent_for, report[0].unanswered), (None, 1));
        assert!(report[1].silent_for.is_some() && report[1].unanswered == 0);
        assert!(sightings.may_relay("b") && !sightings.may_relay("a"));
        sightings.keep(&peers[..1]);
        assert_eq!(sightings.report(&peers).len(), 1);
    }
}
