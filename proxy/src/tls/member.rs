//! Believing a database server: its certificate is from the CA, for the address, and names the member that is meant.
//!
//! Why the member: ports are used again. A proxy that has not heard from the control plane for a while must not log in to
//! another instance that lives at the old address.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use windlass_core::{Error, id::MemberId};
use windlass_kit::tls;
use x509_parser::extensions::GeneralName;

/// Verifies one member.
#[derive(Debug)]
pub(super) struct MemberVerifier {
    chain: Arc<WebPkiServerVerifier>,
    uri: String,
}

/// Reads the CA that signs members' certificates.
pub(super) fn authorities(ca_pem: &str) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let wrong = |what: String| Error::invalid("route.ca_pem", what);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        let certificate = certificate.map_err(|error| wrong(format!("is not PEM: {error}")))?;
        roots.add(certificate).map_err(|error| wrong(format!("is not a CA certificate: {error}")))?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tls::provider())
        .build()
        .map_err(|error| wrong(format!("cannot be used: {error}")))
}

impl MemberVerifier {
    pub(super) fn new(chain: Arc<WebPkiServerVerifier>, member: MemberId) -> Self {
        Self { chain, uri: format!("windlass://member/{member}") }
    }
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        if !names(end_entity, &self.uri) {
            let other = Error::unavailable(format!("the server is not {}; the route is out of date", self.uri));
            return Err(CertificateError::Other(OtherError(Arc::new(other))).into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

fn names(certificate: &CertificateDer<'_>, uri: &str) -> bool {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|name| matches!(name, GeneralName::URI(found) if *found == uri))
}
