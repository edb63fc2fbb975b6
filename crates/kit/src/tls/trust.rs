//! Whom an end believes: CA certificates, or a pin.

use std::sync::Arc;

use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{CertificateDer, pem::PemObject},
};
use windlass_core::{Error, id::HostId};

use super::host::HostVerifier;
use super::pin::{Pin, PinVerifier};

/// CA certificates, at least one.
#[derive(Debug, Clone)]
pub struct Authorities(Arc<RootCertStore>);

impl Authorities {
    /// Reads PEM with one or more CA certificates.
    ///
    /// # Errors
    /// `INVALID_FIELD` on `ca` if there is none or one cannot be read.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let wrong = |what: String| Error::invalid("ca", what);
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| wrong(format!("is not PEM: {error}")))?;
            roots.add(certificate).map_err(|error| wrong(format!("is not a CA certificate: {error}")))?;
        }
        if roots.is_empty() {
            return Err(wrong("holds no certificate in PEM".to_owned()));
        }
        Ok(Self(Arc::new(roots)))
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        self.0.clone()
    }
}

/// Whom a client believes to be the server.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Whoever has a certificate from one of these CAs for the name dialled.
    Authorities(Authorities),
    /// As above, with the one CA that has this pin and that the server itself shows.
    Pin(Pin),
    /// Only this host of these CAs, by whatever name it was dialled.
    Host(Authorities, HostId),
}

impl Trust {
    /// Trust in the CA certificates of some PEM.
    ///
    /// # Errors
    /// As [`Authorities::from_pem`].
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        Authorities::from_pem(pem).map(Self::Authorities)
    }

    pub(super) fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        let provider = super::provider();
        Ok(match self {
            Self::Authorities(authorities) => {
                WebPkiServerVerifier::builder_with_provider(authorities.roots(), provider)
                    .build()
                    .map_err(|error| Error::internal("cannot make a certificate verifier").with_source(error))?
            }
            Self::Pin(pin) => Arc::new(PinVerifier { pin: *pin, provider }),
            Self::Host(authorities, host) => {
                Arc::new(HostVerifier { roots: authorities.roots(), host: *host, provider })
            }
        })
    }
}
