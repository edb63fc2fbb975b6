//! The accepting end: TCP connections in, finished TLS streams out, for tonic's `serve_with_incoming_shutdown`.
//!
//! Why: the identity changes while the server runs, and neither a slow nor a rude client may keep others waiting.
//! Invariants: accept never waits for a handshake; each handshake has its own task and a time limit; at most
//! [`Limits::handshakes`] are in flight, what comes beyond is closed at once; a client certificate is optional, and if one
//! is shown it must be valid under the client authorities, or there is no connection.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use windlass_core::Error;

use super::{ALPN, Authorities, IdentityStore};
use crate::shutdown::{Shutdown, TaskKind};

/// Finished connections. The peer's chain is visible by tonic's `Request::peer_certs`.
pub type Incoming = ReceiverStream<io::Result<TlsStream<TcpStream>>>;

/// What the accepting end puts up with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Handshakes in flight.
    pub handshakes: usize,
    /// How long one handshake may take.
    pub handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { handshakes: 4096, handshake_timeout: Duration::from_secs(5) }
    }
}

/// Accepts on `listener` until shutdown, with whatever identity the store holds at each handshake. `clients` may vouch
/// for client certificates.
///
/// # Errors
/// `INTERNAL` if the TLS configuration cannot be made.
pub fn serve(
    listener: TcpListener,
    identity: Arc<IdentityStore>,
    clients: &Authorities,
    limits: Limits,
    shutdown: &Shutdown,
) -> Result<Incoming, Error> {
    let acceptor = TlsAcceptor::from(Arc::new(config(identity, clients)?));
    let (finished, incoming) = mpsc::channel(64);
    let begun = shutdown.token().clone();
    shutdown.spawn("tls accept", TaskKind::Vital, async move {
        begun.run_until_cancelled(accept(listener, acceptor, limits, finished)).await;
        Ok(())
    });
    Ok(ReceiverStream::new(incoming))
}

/// A tonic server with the limits that every Windlass listener has: dead peers are found by HTTP/2 pings, and each
/// connection ends in order after an hour (less up to a tenth, by `random` in `0.0 ..= 1.0`), so that rotated and revoked
/// certificates drain.
pub fn server(random: f64) -> tonic::transport::Server {
    let age = Duration::from_secs(3600).mul_f64(1.0 - 0.1 * random.clamp(0.0, 1.0));
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_connection_age(age)
        // Longer than the longest poll is held.
        .max_connection_age_grace(Duration::from_secs(330))
}

fn config(identity: Arc<IdentityStore>, clients: &Authorities) -> Result<ServerConfig, Error> {
    let internal = |error: &dyn std::fmt::Display| Error::internal(format!("cannot configure TLS: {error}"));
    let provider = super::provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(clients.roots(), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| internal(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| internal(&error))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Counts connections that found no place, so that a flood of them is not a flood of log lines.
#[derive(Default)]
struct Crowd {
    turned_away: u64,
    told: Option<Instant>,
}

impl Crowd {
    const QUIET: Duration = Duration::from_secs(10);

    fn turned_away(&mut self, limit: usize) {
        self.turned_away += 1;
        if self.told.is_none_or(|told| told.elapsed() >= Self::QUIET) {
            tracing::warn!(limit, closed = self.turned_away, "too many TLS handshakes in flight; closing connections");
            *self = Self { turned_away: 0, told: Some(Instant::now()) };
        }
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    limits: Limits,
    finished: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
) {
    let places = Arc::new(Semaphore::new(limits.handshakes));
    let mut crowd = Crowd::default();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or a peer that was gone before we looked. Neither ends the server; the wait
                // keeps the first from spinning.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            crowd.turned_away(limits.handshakes);
            continue;
        };
        let (acceptor, finished) = (acceptor.clone(), finished.clone());
        tokio::spawn(async move {
            let handshake = async {
                super::tune(&stream)?;
                acceptor.accept(stream).await
            };
            let outcome = tokio::select! {
                outcome = timeout(limits.handshake_timeout, handshake) => outcome,
                () = finished.closed() => return,
            };
            drop(place);
            match outcome {
                Ok(Ok(stream)) => {
                    // Fails only when the server is gone, and then the connection has no use.
                    let _ = finished.send(Ok(stream)).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
            }
        });
    }
}
