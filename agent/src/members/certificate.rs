//! Server certificates of members: who issues them, and having a good one on disk.
//!
//! Invariant: the three files belong together; a new set is written key first, chain last, and the chain is what says
//! whether there is one, so a crash between them leads to another set.

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;
use windlass_core::{Error, id::MemberId};
use windlass_kit::tls::Identity;

use crate::{
    engines::Server,
    host::files::{self, Owner},
};

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

/// Whether the files of a server changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fresh {
    Yes,
    No,
}

/// Makes sure that the server has a certificate that is in the first half of its life.
///
/// # Errors
/// As the issuer says, unless there is one that is still valid.
pub(super) async fn ensure(issuer: &dyn MemberCertificates, member: MemberId, server: &Server) -> Result<Fresh, Error> {
    let current = read(server)?;
    let now = Timestamp::now();
    if current.as_ref().is_some_and(|identity| now < identity.renew_at(0.0)) {
        return Ok(Fresh::No);
    }
    let issued = match (issuer.issue(member).await, current) {
        (Ok(issued), _) => issued,
        (Err(error), Some(old)) if now < old.not_after() => {
            tracing::warn!(%member, error = error.chain(), "cannot renew a server certificate; the old one still holds");
            return Ok(Fresh::No);
        }
        (Err(error), _) => return Err(error),
    };
    let owner = Owner::Database(&server.accounts);
    for (name, text) in [("server.key", &issued.key_pem), ("ca.crt", &issued.ca_pem), ("server.crt", &issued.chain_pem)]
    {
        files::write_derived(&server.site.tls.join(name), text.as_bytes(), 0o600, owner)?;
    }
    Ok(Fresh::Yes)
}

fn read(server: &Server) -> Result<Option<Identity>, Error> {
    let read = |name: &str| files::read_text(&server.site.tls.join(name));
    match (read("server.crt")?, read("server.key")?, read("ca.crt")?) {
        (Some(chain), Some(key), Some(_)) => Ok(Identity::from_pem(&chain, &SecretString::from(key)).ok()),
        _ => Ok(None),
    }
}
