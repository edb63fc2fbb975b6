//! Hosts by their certificates: which one is calling, that the one dialled is the one meant, and what one signed.
//!
//! A host is known by the URI in its certificate and by nothing else: its address may change and says nothing. The TLS end
//! has verified the chain when a connection began. A connection may outlive its certificate, so the time is checked again
//! on each call; whether the serial was revoked is the caller's to look up.

use std::{fmt::Display, str::FromStr, sync::Arc};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use jiff::Timestamp;
use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use windlass_core::{
    Error, ErrorKind, Reason,
    id::{HostId, ProxyId},
};
use x509_parser::{extensions::GeneralName, prelude::X509Certificate};

use super::Authorities;

const SCHEME: &str = "windlass://host/";
const PROXY_SCHEME: &str = "windlass://proxy/";

/// What a host certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerHost {
    /// The host.
    pub host: HostId,
    /// Serial number of the certificate, lower-case hex.
    pub serial: String,
    /// Until when it is valid.
    pub not_after: Timestamp,
}

/// The URI by which the certificate of a host names it.
pub fn host_uri(host: HostId) -> String {
    format!("{SCHEME}{host}")
}

/// The URI by which the certificate of a proxy names it.
pub fn proxy_uri(proxy: ProxyId) -> String {
    format!("{PROXY_SCHEME}{proxy}")
}

/// Reads the chain that the peer showed, leaf first; `None` or empty if it showed none.
///
/// # Errors
/// `HOST_CERTIFICATE_INVALID` if there is none, it is not a host's, or it is not valid now.
pub fn peer_host(chain: Option<&[CertificateDer<'_>]>, now: Timestamp) -> Result<PeerHost, Error> {
    let (host, serial, not_after) = peer(chain, SCHEME, "host", now)?;
    Ok(PeerHost { host, serial, not_after })
}

/// Which proxy is calling, by the chain that it showed.
///
/// # Errors
/// `HOST_CERTIFICATE_INVALID` if there is none, it is not a proxy's, or it is not valid now.
pub fn peer_proxy(chain: Option<&[CertificateDer<'_>]>, now: Timestamp) -> Result<ProxyId, Error> {
    peer(chain, PROXY_SCHEME, "proxy", now).map(|(proxy, _, _)| proxy)
}

/// Id, serial number and end of a chain whose leaf has a URI of this scheme.
fn peer<I: FromStr + Display>(
    chain: Option<&[CertificateDer<'_>]>,
    scheme: &str,
    what: &str,
    now: Timestamp,
) -> Result<(I, String, Timestamp), Error> {
    let leaf = chain.and_then(<[_]>::first).ok_or_else(|| {
        invalid(&format!("this call needs a {what}'s client certificate; enrol the {what} with a join token first"))
    })?;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(leaf).map_err(|_| invalid("the client certificate cannot be read"))?;
    let id: I =
        id_of(&certificate, scheme).ok_or_else(|| invalid(&format!("the client certificate is not a {what}'s")))?;
    let time =
        |seconds| Timestamp::from_second(seconds).map_err(|_| invalid("the client certificate has no valid time"));
    let not_before = time(certificate.validity().not_before.timestamp())?;
    let not_after = time(certificate.validity().not_after.timestamp())?;
    if now > not_after {
        return Err(invalid(&format!(
            "the certificate of {what} {id} expired at {not_after}; enrol the {what} again with a new join token"
        )));
    }
    if now < not_before {
        return Err(invalid(&format!(
            "the certificate of {what} {id} is valid from {not_before} on; check the clocks of both machines"
        )));
    }
    Ok((id, hex::encode(certificate.raw_serial()), not_after))
}

/// Checks that `message` was signed by a host of these authorities, whose certificate, in DER, comes along. The signature
/// is ECDSA P-256 with SHA-256 in DER, as [`super::Identity::sign`] makes it.
///
/// # Errors
/// `HOST_CERTIFICATE_INVALID` if the certificate is not a valid host's or did not sign this.
pub fn signed_by(
    authorities: &Authorities,
    certificate: &[u8],
    message: &[u8],
    signature: &[u8],
    now: Timestamp,
) -> Result<PeerHost, Error> {
    let der = CertificateDer::from(certificate);
    let peer = peer_host(Some(std::slice::from_ref(&der)), now)?;
    let refused = |what: &str| invalid(&format!("the message of host {} {what}", peer.host));
    let since = std::time::Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
    chains(&der, &[], &authorities.roots(), UnixTime::since_unix_epoch(since), &super::provider())
        .map_err(|_| refused("comes with a certificate that is not from the trusted CA"))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|_| refused("has no certificate"))?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &parsed.public_key().subject_public_key.data)
        .verify(message, signature)
        .map_err(|_| refused("is not signed by its key"))?;
    Ok(peer)
}

/// Another host answered than the one that was dialled.
#[derive(Debug, thiserror::Error)]
#[error("it is not host {0}")]
struct OtherHost(HostId);

/// Accepts one host, whatever its address: by chain and URI.
#[derive(Debug)]
pub(super) struct HostVerifier {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) host: HostId,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for HostVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        chains(end_entity, intermediates, &self.roots, now, &self.provider)?;
        let parsed = x509_parser::parse_x509_certificate(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        if id_of(&parsed.1, SCHEME) == Some(self.host) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::Other(OtherError(Arc::new(OtherHost(self.host)))).into())
        }
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

/// Whether a host's certificate is valid under the roots. Hosts are each other's servers, so it has to say so.
fn chains(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<(), rustls::Error> {
    let parsed = ParsedCertificate::try_from(end_entity)?;
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)
}

fn id_of<I: FromStr>(certificate: &X509Certificate<'_>, scheme: &str) -> Option<I> {
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(scheme)?.parse().ok(),
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::DNSName(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::IPAddress(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    })
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::Unauthenticated, Reason::HostCertificateInvalid, message)
}
