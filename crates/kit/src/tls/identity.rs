//! A certificate chain with its key, and the store from which running ends take the current one.
//!
//! Invariants: a store always holds an identity whose key fits its certificate; a swap is atomic and seen by the next
//! handshake. Nothing is written to disk here: who owns a file writes it before it swaps, so that a crash between the
//! two loses nothing.

use std::{fmt, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use windlass_core::Error;

/// A certificate chain, leaf first, with the leaf's private key.
pub struct Identity {
    key: Arc<CertifiedKey>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Identity {
    /// Reads PEM: the chain with the leaf first, and a PKCS#8, SEC1 or PKCS#1 key.
    ///
    /// # Errors
    /// `INVALID_FIELD` on `certificate` or `key` if one cannot be read or they do not belong together.
    pub fn from_pem(chain: &str, key: &SecretString) -> Result<Self, Error> {
        let wrong = |field: &str, what: String| Error::invalid(field, what);
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong("certificate", format!("is not PEM: {error}")))?;
        let leaf = chain.first().ok_or_else(|| wrong("certificate", "holds no certificate in PEM".to_owned()))?;
        let (not_before, not_after) = validity(leaf)?;
        let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes())
            .map_err(|_| wrong("key", "is not a private key in PEM".to_owned()))?;
        let key = CertifiedKey::from_der(chain, key, &super::provider())
            .map_err(|error| wrong("key", format!("does not fit the certificate: {error}")))?;
        Ok(Self { key: Arc::new(key), not_before, not_after })
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// Signs a message: ECDSA P-256 with SHA-256, DER. [`super::signed_by`] checks it.
    ///
    /// # Errors
    /// `INTERNAL` if the key is of another kind, which no host's is.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signer = self.key.key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]);
        let signer = signer.ok_or_else(|| Error::internal("cannot sign: the key is not of ECDSA P-256"))?;
        signer.sign(message).map_err(|error| Error::internal("cannot sign").with_source(error))
    }

    /// From when it is valid.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Until when it is valid.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// When to renew: at half of its life, up to a tenth of its life earlier. `random` is uniform in `0.0 ..= 1.0`; it
    /// spreads the renewals of a fleet that enrolled together.
    pub fn renew_at(&self, random: f64) -> Timestamp {
        let life = self.not_after.duration_since(self.not_before).as_secs_f64();
        let after = life * (0.5 - 0.1 * random.clamp(0.0, 1.0));
        self.not_before + SignedDuration::try_from_secs_f64(after).unwrap_or_default()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} to {})", self.not_before, self.not_after)
    }
}

/// Begin and end of a certificate's validity.
fn validity(certificate: &CertificateDer<'_>) -> Result<(Timestamp, Timestamp), Error> {
    let unreadable = || Error::invalid("certificate", "is not an X.509 certificate");
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| unreadable())?;
    let time = |seconds| Timestamp::from_second(seconds).map_err(|_| unreadable());
    let validity = parsed.validity();
    Ok((time(validity.not_before.timestamp())?, time(validity.not_after.timestamp())?))
}

/// Holds the current identity of one end. Shared by `Arc`.
#[derive(Debug)]
pub struct IdentityStore {
    current: watch::Sender<Arc<Identity>>,
}

impl IdentityStore {
    /// A store with a first identity.
    pub fn new(identity: Identity) -> Arc<Self> {
        Arc::new(Self { current: watch::Sender::new(Arc::new(identity)) })
    }

    /// The identity that the next handshake uses.
    pub fn current(&self) -> Arc<Identity> {
        self.current.borrow().clone()
    }

    /// Changes it for new handshakes. Open connections keep theirs.
    pub fn replace(&self, identity: Identity) {
        self.current.send_replace(Arc::new(identity));
    }

    /// Tells of each change.
    pub fn watch(&self) -> watch::Receiver<Arc<Identity>> {
        self.current.subscribe()
    }
}

impl ResolvesServerCert for IdentityStore {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().key.clone())
    }
}

impl ResolvesClientCert for IdentityStore {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current().key.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
