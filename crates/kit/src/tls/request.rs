//! A fresh key with its certificate signing request. The key never leaves the machine that made it.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use secrecy::SecretString;
use windlass_core::Error;

/// An ECDSA P-256 key and a PKCS#10 request for it. The request carries no names: the issuer decides them.
#[derive(Debug)]
pub struct KeyRequest {
    /// The private key, PKCS#8 PEM.
    pub key_pem: SecretString,
    /// The request, DER.
    pub csr_der: Vec<u8>,
}

impl KeyRequest {
    /// Makes a key and its request.
    ///
    /// # Errors
    /// `INTERNAL` if the crypto library fails.
    pub fn generate() -> Result<Self, Error> {
        Self::try_generate().map_err(|error| Error::internal("cannot make a key and its request").with_source(error))
    }

    fn try_generate() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let request = CertificateParams::new(Vec::new())?.serialize_request(&key)?;
        Ok(Self { key_pem: key.serialize_pem().into(), csr_der: request.der().to_vec() })
    }
}
