//! Probes: one task for each peer that the control plane names, at the pace it sets.
//!
//! A probe that hangs does not hold up the next one: several are in flight, and any answer is a sign of life. On a path
//! that loses packets a late answer is still an answer.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use tokio::time::timeout;
use windlass_core::{Error, error::ErrorKind};
use windlass_proto::agent::v1 as pb;

use super::Peers;

/// How long a probe may take, the making of a connection included.
const LIMIT: Duration = Duration::from_secs(1);
/// Probes of one peer in flight.
const IN_FLIGHT: usize = 4;
/// So many time limits in a row give up the connection: TCP may wait long before it tries again on a path that has healed.
const HUNG: u32 = 3;

/// Probes whom the control plane names. Never returns.
pub(super) async fn run(peers: &Peers) {
    let mut pace = peers.link.pace();
    loop {
        let now = pace.borrow_and_update().clone();
        peers.link.sightings().keep(if now.probe_every.is_some() { &now.peers } else { &[] });
        // Another pace starts the probes anew, but for their connections and what was seen: both are kept elsewhere.
        let own = peers.identity.host_id().to_string();
        let probes = now.probe_every.into_iter().flat_map(|every| {
            let wanted: BTreeMap<_, _> = now.peers.iter().map(|peer| (&peer.host_id, peer)).collect();
            let others = wanted.into_values().filter(|peer| peer.host_id != own && peer.port != 0);
            others.map(move |peer| probe(peers, peer, every)).collect::<Vec<_>>()
        });
        tokio::select! {
            changed = pace.changed() => {
                if changed.is_err() {
                    // The link lives as long as its peers.
                    return;
                }
            }
            // With nobody to probe it would be over at once.
            () = async { join_all(probes).await; std::future::pending().await } => {}
        }
    }
}

/// Probes one peer for ever.
async fn probe(peers: &Peers, peer: &pb::Peer, every: Duration) {
    let mut in_flight = FuturesUnordered::new();
    let mut hung = 0;
    loop {
        peers.link.sightings().probed(&peer.host_id);
        if in_flight.len() < IN_FLIGHT {
            in_flight.push(timeout(LIMIT, once(peers, peer)));
        }
        let mut due = std::pin::pin!(peers.link.contact().sleep(every));
        loop {
            tokio::select! {
                () = &mut due => break,
                Some(outcome) = in_flight.next() => match outcome {
                    Ok(Ok(answer)) => {
                        hung = 0;
                        peers.link.sightings().answered(&peer.host_id, answer.connected);
                        peers.link.target().shown(&answer.epochs);
                    }
                    Ok(Err(error)) => {
                        tracing::debug!(peer = peer.host_id, error = error.chain(), "a probe failed");
                        peers.connections.give_up(&peer.host_id);
                    }
                    Err(_) => {
                        hung += 1;
                        if hung == HUNG {
                            hung = 0;
                            peers.connections.give_up(&peer.host_id);
                        }
                    }
                },
            }
        }
    }
}

async fn once(peers: &Peers, peer: &pb::Peer) -> Result<pb::ProbeResponse, Error> {
    let mut client = peers.connections.get(peer).await?;
    let request =
        pb::ProbeRequest { host_id: peers.identity.host_id().to_string(), epochs: peers.link.target().epochs() };
    let answer = client.probe(request).await.map_err(|status| failed(&status))?.into_inner();
    if answer.host_id == peer.host_id {
        Ok(answer)
    } else {
        Err(Error::new(
            ErrorKind::Unauthenticated,
            windlass_core::Reason::HostCertificateInvalid,
            "another host answered",
        ))
    }
}

/// A peer's refusal.
pub(super) fn failed(status: &tonic::Status) -> Error {
    Error::unavailable(format!("the peer: {}", status.message())).with_source(status.clone())
}
