//! Certificate signing requests. Only the public key is taken; whatever names a request asks for are ignored.

use rcgen::{
    CertificateSigningRequestParams, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData,
};
use windlass_core::Error;
use windlass_kit::token::digest;

/// Room for any key we accept with a generous subject.
const LONGEST: usize = 8 * 1024;

/// The public key of a request whose signature proved that the sender holds the private one.
#[derive(Debug)]
pub struct RequestedKey(rcgen::PublicKey);

impl RequestedKey {
    /// Reads a PKCS#10 request in DER and checks its signature.
    ///
    /// # Errors
    /// `INVALID_FIELD` on `csr_der`.
    pub fn from_csr(der: &[u8]) -> Result<Self, Error> {
        let wrong = |what: String| Error::invalid("csr_der", what);
        if der.len() > LONGEST {
            return Err(wrong(format!("has {} bytes, the limit is {LONGEST}", der.len())));
        }
        let request = CertificateSigningRequestParams::from_der(&der.to_vec().into())
            .map_err(|error| wrong(format!("is not a valid PKCS#10 request: {error}")))?;
        let accepted = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519];
        if !accepted.contains(&request.public_key.algorithm()) {
            return Err(wrong("has a key that is not ECDSA P-256, ECDSA P-384 or Ed25519".to_owned()));
        }
        Ok(Self(request.public_key))
    }

    /// SHA-256 of the public key, by which a repeated enrolment is known.
    pub fn sha256(&self) -> [u8; 32] {
        digest(self.0.der_bytes())
    }

    pub(super) fn public_key(&self) -> &rcgen::PublicKey {
        &self.0
    }
}
