//! The certificate that clients see. It changes while the proxy runs; a new one is for new connections only.

use std::sync::Arc;

use rustls::{ServerConfig, server::NoServerSessionStorage};
use tokio_rustls::TlsAcceptor;
use windlass_core::Error;
use windlass_kit::tls::{self, Identity, IdentityStore};

use crate::metrics::Metrics;

/// TLS 1.2 and 1.3 for clients.
pub struct ServerTls {
    store: Arc<IdentityStore>,
    acceptor: TlsAcceptor,
    metrics: Arc<Metrics>,
}

impl ServerTls {
    /// With a first certificate.
    ///
    /// # Errors
    /// `INTERNAL` if the crypto library refuses its own defaults.
    pub fn new(identity: Identity, metrics: Arc<Metrics>) -> Result<Self, Error> {
        let end = identity.not_after();
        let store = IdentityStore::new(identity);
        let mut config = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::internal("cannot configure TLS").with_source(error))?
            .with_no_client_auth()
            .with_cert_resolver(store.clone());
        // libpq offers it with direct TLS and insists on the answer.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        metrics.certificate_end.set(end.as_second());
        Ok(Self { store, acceptor: TlsAcceptor::from(Arc::new(config)), metrics })
    }

    /// Takes a client's handshake.
    pub fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// The certificate in use.
    pub fn current(&self) -> Arc<Identity> {
        self.store.current()
    }

    /// Changes the certificate for new connections.
    pub fn replace(&self, identity: Identity) {
        self.metrics.certificate_end.set(identity.not_after().as_second());
        self.store.replace(identity);
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServerTls({:?})", self.store.current())
    }
}
