//! Trust by pin: the SHA-256 of the one CA certificate that may vouch for the server.
//!
//! Why: an agent that joins has nothing but its join token; the pin in it says whom to trust, so that the token is never
//! sent to somebody else. Invariant: the pinned certificate must be in the chain that the server shows, and the leaf must
//! be valid under it for the name dialled; the pin alone is not enough.

use std::{fmt, str::FromStr, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use windlass_core::Error;

use crate::token::digest;

/// SHA-256 of the DER of a CA certificate; its text is 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

impl Pin {
    /// The pin of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(digest(certificate))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

impl FromStr for Pin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| Error::invalid("pin", format!("{text:?} is not the 64 hex digits of a SHA-256")))?;
        Ok(Self(bytes))
    }
}

/// Why a pinned chain was refused.
#[derive(Debug, thiserror::Error)]
#[error("the server shows no certificate with SHA-256 {0}: it is not the control plane that issued the token")]
struct PinMissing(Pin);

/// Accepts servers whose chain holds the pinned CA certificate and is valid under it.
#[derive(Debug)]
pub(super) struct PinVerifier {
    pub(super) pin: Pin,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates
            .iter()
            .find(|certificate| Pin::of(certificate) == self.pin)
            .ok_or_else(|| CertificateError::Other(OtherError(Arc::new(PinMissing(self.pin)))))?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_reads_back_and_rubbish_is_named() {
        let pin = Pin::of(b"certificate");
        assert_eq!(pin.to_string().parse::<Pin>().expect("round trip"), pin);
        assert_eq!("abc".parse::<Pin>().expect_err("short").violations[0].field, "pin");
    }
}
