//! What agents do for each other: signs of life, the highest epochs seen, and a way round a broken path to the control
//! plane.
//!
//! Owns: the listener for other agents, the probes of those that the control plane names, the relay of reports, and the
//! connections for all that. Why: a control plane that hears nothing from a host cannot tell a dead host from a cut cable;
//! others on the network can, and may carry a report across.
//!
//! Invariants: both ends show a host's certificate, and the end that dials checks that the very host it means answers;
//! nothing heard from a peer makes this agent do more than step down (a higher epoch) or take orders that the control
//! plane made; a relayed report is signed, so that no relay can change it; a peer that hangs delays nobody else.
//!
//! Nothing is kept on disk: after a crash the control plane names the peers again.

mod connections;
mod listen;
mod probe;
mod relay;
mod service;

use std::sync::Arc;

pub use listen::listen;
use tokio::net::TcpListener;
use windlass_core::Error;
use windlass_kit::{
    random,
    shutdown::Shutdown,
    tls::{self, Limits},
};
use windlass_proto::agent::v1::peer_service_server::PeerServiceServer;

use self::{connections::Connections, service::Service};
use crate::link::{HostIdentity, ReplicationLink};

/// Handshakes of other agents in flight: there are few of them.
const LIMITS: Limits = Limits { handshakes: 64, handshake_timeout: std::time::Duration::from_secs(5) };

/// This agent among the others. Share it by `Arc`.
pub struct Peers {
    link: Arc<ReplicationLink>,
    identity: Arc<HostIdentity>,
    connections: Connections,
}

impl Peers {
    /// Peers of an enrolled host.
    pub fn new(link: Arc<ReplicationLink>, identity: Arc<HostIdentity>) -> Arc<Self> {
        let connections = Connections::new(identity.clone());
        Arc::new(Self { link, identity, connections })
    }

    /// Answers other agents until shutdown.
    ///
    /// # Errors
    /// `INTERNAL` if TLS cannot be configured or the server fails.
    pub async fn answer(self: Arc<Self>, listener: TcpListener, shutdown: &Shutdown) -> Result<(), Error> {
        let incoming = tls::serve(listener, self.identity.store(), &self.identity.authorities()?, LIMITS, shutdown)?;
        tls::server(random::unit())
            .add_service(PeerServiceServer::new(Service(self)))
            .serve_with_incoming_shutdown(incoming, shutdown.begun())
            .await
            .map_err(|error| Error::internal("the listener for other agents failed").with_source(error))
    }

    /// Probes the peers that the control plane names, and relays while it is not reached itself. Never returns.
    pub async fn watch(&self) {
        tokio::join!(probe::run(self), relay::run(self));
    }
}
