//! Which host is calling: read out of the client certificate of the connection.
//!
//! The TLS end has verified the chain when the connection began. A connection may outlive its certificate, so the time is
//! checked again on each call; whether the serial was revoked is the caller's to look up.

use jiff::Timestamp;
use windlass_core::{Error, ErrorKind, Reason, id::HostId};
use windlass_kit::tls::CertificateDer;
use x509_parser::{extensions::GeneralName, prelude::X509Certificate};

const SCHEME: &str = "windlass://host/";

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

pub(super) fn host_uri(host: HostId) -> String {
    format!("{SCHEME}{host}")
}

/// Reads the chain that the peer showed, leaf first; `None` or empty if it showed none.
///
/// # Errors
/// `HOST_CERTIFICATE_INVALID` if there is none, it is not a host's, or it is not valid now.
pub fn peer_host(chain: Option<&[CertificateDer<'_>]>, now: Timestamp) -> Result<PeerHost, Error> {
    let leaf = chain.and_then(<[_]>::first).ok_or_else(|| {
        invalid("this call needs a host's client certificate; enrol the host with a join token first")
    })?;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(leaf).map_err(|_| invalid("the client certificate cannot be read"))?;
    let host = host_of(&certificate).ok_or_else(|| invalid("the client certificate is not a host's"))?;
    let time =
        |seconds| Timestamp::from_second(seconds).map_err(|_| invalid("the client certificate has no valid time"));
    let not_before = time(certificate.validity().not_before.timestamp())?;
    let not_after = time(certificate.validity().not_after.timestamp())?;
    if now > not_after {
        return Err(invalid(&format!(
            "the certificate of host {host} expired at {not_after}; enrol the host again with a new join token"
        )));
    }
    if now < not_before {
        return Err(invalid(&format!(
            "the certificate of host {host} is valid from {not_before} on; check the clocks of both machines"
        )));
    }
    Ok(PeerHost { host, serial: hex::encode(certificate.raw_serial()), not_after })
}

fn host_of(certificate: &X509Certificate<'_>) -> Option<HostId> {
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(SCHEME)?.parse().ok(),
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
