//! The way round: signed reports through a peer while the control plane does not answer this agent itself.
//!
//! It begins before the control plane may take silence for death, and goes on beside the agent's own attempts. Orders come
//! back the same way, at the pace of reports: nobody pushes through a peer.

use std::time::Duration;

use prost::Message as _;
use tokio::time::{Instant, timeout};
use windlass_core::Error;
use windlass_kit::clock::BootInstant;
use windlass_proto::agent::v1 as pb;

use super::{Peers, probe::failed};

/// Without an answer for so long, reports also go by peers.
const SILENT: Duration = Duration::from_millis(800);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long one peer may take; the next one is tried then.
const LIMIT: Duration = Duration::from_millis(600);
/// The pace while the control plane has not set one.
const USUAL: Duration = Duration::from_millis(500);

/// Relays whenever it is needed. Never returns.
pub(super) async fn run(peers: &Peers) {
    let link = &peers.link;
    let mut changed = link.target().changed();
    let mut last = None::<Instant>;
    loop {
        link.contact().sleep(LOOK).await;
        // An agent that never had an answer has no peers either.
        if !link.has_members() || link.contact().silent_for().is_none_or(|silent| silent < SILENT) {
            continue;
        }
        let every = link.pace().borrow().report_every.unwrap_or(USUAL);
        let news = changed.has_changed().unwrap_or(false);
        if last.is_none_or(|last| news || last.elapsed() >= every) {
            changed.mark_unchanged();
            last = Some(Instant::now());
            if let Err(error) = once(peers).await {
                tracing::debug!(error = error.chain(), "a report could not be relayed");
            }
        }
    }
}

/// One report by the first peer that brings an answer.
async fn once(peers: &Peers) -> Result<(), Error> {
    let link = &peers.link;
    let sent_at = BootInstant::now();
    let report = link.compose().encode_to_vec();
    let identity = peers.identity.store().current();
    let signed = pb::SignedReport {
        host_id: peers.identity.host_id().to_string(),
        signature: identity.sign(&report)?,
        certificate: identity.chain().first().map(|leaf| leaf.to_vec()).unwrap_or_default(),
        report,
    };
    let candidates = link.pace().borrow().peers.clone();
    let mut last = Error::unavailable("no peer is connected to the control plane");
    for peer in candidates.iter().filter(|peer| link.sightings().may_relay(&peer.host_id)) {
        let attempt = async {
            let mut client = peers.connections.get(peer).await?;
            client.relay(signed.clone()).await.map_err(|status| failed(&status))
        };
        match timeout(LIMIT, attempt).await {
            Ok(Ok(orders)) => {
                link.take(orders.into_inner(), sent_at).await;
                return Ok(());
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = Error::unavailable(format!("peer {} did not answer in time", peer.host_id)),
        }
    }
    Err(last)
}
