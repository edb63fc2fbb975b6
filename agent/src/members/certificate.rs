//! Server certificates of members: who issues them.

use async_trait::async_trait;
use windlass_core::{Error, id::MemberId};

/// A server certificate with its key.
#[derive(Clone)]
pub struct IssuedCertificate {
    /// PEM, leaf first.
    pub chain_pem: String,
    /// PEM of the private key (PKCS#8). Never logged.
    pub key_pem: String,
    /// PEM of the CA certificates that clients trust.
    pub ca_pem: String,
}

/// Where members get their certificates: the control plane, or a CA of a test.
#[async_trait]
pub trait MemberCertificates: Send + Sync + 'static {
    /// A certificate for a fresh key.
    ///
    /// # Errors
    /// `UNAVAILABLE` while the issuer cannot be reached.
    async fn issue(&self, member: MemberId) -> Result<IssuedCertificate, Error>;
}
