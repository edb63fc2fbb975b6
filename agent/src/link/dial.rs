//! Making a connection.

use std::sync::Arc;

use async_trait::async_trait;
use tonic::transport::Channel;
use windlass_core::Error;
use windlass_kit::tls;

use super::HostIdentity;

/// Connects to one address of the control plane.
#[async_trait]
pub trait Dialer: Send + Sync {
    /// A connection that works.
    ///
    /// # Errors
    /// `UNAVAILABLE`, or of kind `Unauthenticated` if one end does not believe the other.
    async fn dial(&self, endpoint: &str) -> Result<Channel, Error>;
}

/// Dials by TLS with the host's current certificate and trust.
pub struct TlsDialer(pub Arc<HostIdentity>);

#[async_trait]
impl Dialer for TlsDialer {
    async fn dial(&self, endpoint: &str) -> Result<Channel, Error> {
        tls::connect(endpoint, &self.0.trust()?, Some(self.0.store())).await
    }
}
