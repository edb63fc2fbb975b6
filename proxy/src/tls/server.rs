//! The certificate that clients see. It changes while the proxy runs; a new one is for new connections only.

use std::sync::Arc;

use rustls::{ServerConfig, server::NoServerSessionStorage};
use tokio_rustls::TlsAcceptor;
use windlass_core::Error;
use windlass_kit::tls::{self, Identity, IdentityStore};

/// TLS 1.2 and 1.3 for clients.
pub struct ServerTls {
    store: Arc<IdentityStore>,
    acceptor: TlsAcceptor,
}

impl ServerTls {
    /// With a first certificate.
    ///
    /// # Errors
    /// `INTERNAL` if the crypto library refuses its own defaults.
    pub fn new(identity: Identity) -> Result<Self, Error> {
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
        Ok(Self { store, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Takes a client's handshake.
    pub fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// The certificate in use and its changes.
    pub fn store(&self) -> &Arc<IdentityStore> {
        &self.store
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServerTls({:?})", self.store.current())
    }
}
