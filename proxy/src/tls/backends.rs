//! Connections to database servers: TCP with short patience, and TLS with the proxy's client certificate.
//!
//! Two steps, because some protocols speak before TLS begins. Each outcome is evidence for the control plane.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::net::sockopt;
use rustls::{
    ClientConfig,
    client::{Resumption, WebPkiServerVerifier},
    pki_types::ServerName,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use windlass_core::Error;
use windlass_kit::tls::{self, IdentityStore};

use super::member::{MemberVerifier, authorities};
use crate::{
    evidence::Evidence,
    routes::{Backend, Instance, Route},
};

/// How long a connection may take, TCP and TLS each.
const CONNECT: Duration = Duration::from_millis(1500);
/// Data that the other end does not confirm for so long breaks the connection: a host that is gone says nothing.
const UNCONFIRMED_MS: u32 = 1500;

/// Makes connections. Shared by reference.
pub struct Backends {
    identity: Arc<IdentityStore>,
    evidence: Arc<Evidence>,
    /// By PEM; there is one CA, or two while it is replaced.
    authorities: Mutex<HashMap<Arc<str>, Arc<WebPkiServerVerifier>>>,
}

impl Backends {
    /// Connects with the certificate that `identity` holds then.
    pub fn new(identity: Arc<IdentityStore>, evidence: Arc<Evidence>) -> Self {
        Self { identity, evidence, authorities: Mutex::default() }
    }

    /// A TCP connection to a backend of the instance.
    ///
    /// # Errors
    /// `UNAVAILABLE` with the reason.
    pub async fn dial(&self, instance: &Instance, backend: &Backend) -> Result<TcpStream, Error> {
        let connect = async {
            let stream = TcpStream::connect((backend.address.as_str(), backend.port)).await?;
            tune(&stream)?;
            Ok(stream)
        };
        let outcome = timeout(CONNECT, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        outcome.map_err(|error| self.failed(instance, backend, error))
    }

    /// TLS over such a connection. The server must be the member that is meant.
    ///
    /// # Errors
    /// `UNAVAILABLE` with the reason; `INVALID_FIELD` if the route's CA or address cannot be used.
    pub async fn secure(
        &self,
        instance: &Instance,
        route: &Route,
        backend: &Backend,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Error> {
        let connector = self.connector(route, backend)?;
        let name = ServerName::try_from(backend.address.clone())
            .map_err(|_| Error::invalid("route.backend.address", format!("{:?} is no address", backend.address)))?;
        let handshake = timeout(CONNECT, connector.connect(name, stream)).await;
        let outcome = handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = outcome.map_err(|error| self.failed(instance, backend, error))?;
        self.evidence.connected(instance.id(), backend.member);
        instance.metrics.connects.inc();
        Ok(stream)
    }

    /// Notes that a connection to a backend failed or broke, and says so.
    pub fn failed(&self, instance: &Instance, backend: &Backend, error: io::Error) -> Error {
        instance.metrics.connects_failed.inc();
        self.evidence.failed(instance.id(), backend.member, &error.to_string());
        Error::unavailable(format!("database server at {}:{}: {error}", backend.address, backend.port))
            .with_source(error)
    }

    fn connector(&self, route: &Route, backend: &Backend) -> Result<TlsConnector, Error> {
        let verifier = MemberVerifier::new(self.authority(&route.ca_pem)?, backend.member);
        let mut config = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::internal("cannot configure TLS").with_source(error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.identity.clone());
        config.resumption = Resumption::disabled();
        Ok(TlsConnector::from(Arc::new(config)))
    }

    fn authority(&self, ca_pem: &Arc<str>) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let mut known = self.authorities.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(authority) = known.get(ca_pem) {
            return Ok(authority.clone());
        }
        let authority = authorities(ca_pem)?;
        known.insert(ca_pem.clone(), authority.clone());
        Ok(authority)
    }
}

impl std::fmt::Debug for Backends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Backends({:?})", self.identity.current())
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_tcp_user_timeout(stream, UNCONFIRMED_MS)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(1))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(1))?;
    Ok(sockopt::set_tcp_keepcnt(stream, 2)?)
}
