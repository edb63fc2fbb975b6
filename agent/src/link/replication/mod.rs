//! The link's part of replication: facts out at once, orders in by push, and how well that works.
//!
//! Owns: the two loops of a conversation (reports, and the parked watch), the pace that the answers set, when the control
//! plane was last heard, what probes of other hosts saw, and how late the agent's own timers run. Why level-triggered:
//! each report tells all facts and each answer all orders, so that a lost, late or repeated one needs no repair.
//!
//! Invariants: an order goes to the target however it came (report, watch, relay), and the target alone decides whether
//! it is new; no report waits longer than [`ANSWER`] for another one; a host that has no replicated member and is nobody's
//! witness sends no report.
//!
//! A crash in the middle loses nothing: facts are read again, and the watch says what is known.

mod contact;
mod report;
mod sightings;
mod target;
mod watch;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use contact::Contact;
use pbjson_types::Duration as WireDuration;
pub(super) use report::run as report;
pub use sightings::Sightings;
pub use target::{NoReplication, ReplicationTarget};
use tokio::sync::watch as channel;
pub(super) use watch::run as watch;
use windlass_core::Error;
use windlass_kit::clock::BootInstant;
use windlass_proto::agent::v1 as pb;

use super::{call::call, session::Client};

/// How long an answer to a report may take. Less than the shortest time after which silence counts.
pub(crate) const ANSWER: Duration = Duration::from_secs(1);
/// Bounds of the paces that the control plane may set.
const PACES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(60));

/// What the control plane asked for last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReplicationPace {
    /// From report to report; None: no reports but on change.
    pub report_every: Option<Duration>,
    /// From probe to probe; None: no probes.
    pub probe_every: Option<Duration>,
    /// Whom to probe.
    pub peers: Vec<pb::Peer>,
}

/// What replication needs of the link, through all connections. Share it by `Arc`.
pub struct ReplicationLink {
    session_id: String,
    target: Arc<dyn ReplicationTarget>,
    pace: channel::Sender<ReplicationPace>,
    client: channel::Sender<Option<Client>>,
    sequence: AtomicU64,
    contact: Contact,
    sightings: Sightings,
}

impl ReplicationLink {
    /// For one start of the agent.
    pub fn new(session_id: String, target: Arc<dyn ReplicationTarget>) -> Arc<Self> {
        Arc::new(Self {
            session_id,
            target,
            pace: channel::Sender::new(ReplicationPace::default()),
            client: channel::Sender::new(None),
            sequence: AtomicU64::new(0),
            contact: Contact::default(),
            sightings: Sightings::default(),
        })
    }

    /// Whose facts are told and who takes orders.
    pub fn target(&self) -> &dyn ReplicationTarget {
        &*self.target
    }

    /// The pace, and each change of it.
    pub fn pace(&self) -> channel::Receiver<ReplicationPace> {
        self.pace.subscribe()
    }

    /// When the control plane was heard, and how late own timers run.
    pub fn contact(&self) -> &Contact {
        &self.contact
    }

    /// What probes saw.
    pub fn sightings(&self) -> &Sightings {
        &self.sightings
    }

    /// Whether this host has replicated members.
    pub(crate) fn has_members(&self) -> bool {
        !self.target.known().is_empty() || !self.target.facts().is_empty()
    }

    /// Whether there is anything to report.
    fn is_wanted(&self) -> bool {
        self.pace.borrow().probe_every.is_some() || self.has_members()
    }

    /// Everything there is to say now. What is said of lateness is not said again.
    pub(crate) fn compose(&self) -> pb::ReplicationReport {
        pb::ReplicationReport {
            session_id: self.session_id.clone(),
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            members: self.target.facts(),
            sightings: self.sightings.report(&self.pace.borrow().peers),
            relayed: Vec::new(),
            late_by: Some(to_wire(self.contact.take_lateness())),
        }
    }

    /// Takes an answer to a request that was sent at `sent_at`, whichever way it came.
    pub(crate) async fn take(&self, orders: pb::ReplicationOrders, sent_at: BootInstant) {
        let pace = ReplicationPace {
            report_every: pace_of(orders.report_every),
            probe_every: pace_of(orders.probe_every),
            peers: orders.peers.clone(),
        };
        self.pace.send_if_modified(|former| {
            let changed = *former != pace;
            if changed {
                *former = pace;
            }
            changed
        });
        self.target.take(orders, sent_at).await;
    }

    /// Hands a report of another agent on by the connection that there is, and gives that agent's orders.
    ///
    /// # Errors
    /// `UNAVAILABLE` without a connection or an answer in time; else what the control plane said.
    pub async fn hand_on(&self, report: pb::SignedReport) -> Result<pb::ReplicationOrders, Error> {
        let client = self.client.borrow().clone();
        let mut client =
            client.ok_or_else(|| Error::unavailable("this agent has no connection to the control plane"))?;
        let request = pb::ReplicationReport {
            session_id: self.session_id.clone(),
            relayed: vec![report],
            ..pb::ReplicationReport::default()
        };
        call(ANSWER, client.report_replication(request)).await
    }

    pub(super) fn connected(&self, client: Client) {
        self.client.send_replace(Some(client));
    }

    pub(super) fn disconnected(&self) {
        self.client.send_replace(None);
    }

    pub(super) fn session_id(&self) -> &str {
        &self.session_id
    }
}

fn pace_of(wire: Option<WireDuration>) -> Option<Duration> {
    let pace = wire.and_then(|wire| Duration::try_from(wire).ok()).filter(|pace| !pace.is_zero())?;
    Some(pace.clamp(PACES.0, PACES.1))
}

/// A duration as it goes over the wire.
pub(crate) fn to_wire(duration: Duration) -> WireDuration {
    WireDuration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces_are_bounded_and_zero_stops() {
        assert_eq!(pace_of(None), None);
        assert_eq!(pace_of(Some(to_wire(Duration::ZERO))), None);
        assert_eq!(pace_of(Some(to_wire(Duration::from_micros(1)))), Some(PACES.0));
        assert_eq!(pace_of(Some(to_wire(Duration::from_millis(500)))), Some(Duration::from_millis(500)));
        assert_eq!(pace_of(Some(WireDuration { seconds: -1, nanos: 0 })), None);
    }
}
