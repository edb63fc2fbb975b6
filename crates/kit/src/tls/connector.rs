//! The connecting end: an HTTPS endpoint to a tonic channel.
//!
//! Why our own: each new connection of a channel must show the identity that the store holds then, and a pin must be
//! possible. Invariants: the name verified is the host part of the endpoint; a dead connection is found within 15 s even
//! while idle (HTTP/2 pings), because a partition closes nothing.

use std::{error::Error as StdError, io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig, OtherError, client::Resumption, pki_types::ServerName, version::TLS13};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};
use windlass_core::{Error, ErrorKind, Reason, error::chain};

use super::{ALPN, IdentityStore, Trust};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to `endpoint` (`https://host:port`). With an identity store the client shows the current identity at each
/// connect, also when the channel reconnects later.
///
/// # Errors
/// `INVALID_FIELD` on `endpoint`; `SERVER_CERTIFICATE_INVALID` if the server is not trusted; `UNAVAILABLE` if it cannot
/// be reached within 5 s.
pub async fn connect(endpoint: &str, trust: &Trust, identity: Option<Arc<IdentityStore>>) -> Result<Channel, Error> {
    let target = Target::parse(endpoint)?;
    let connector = TlsConnector::from(Arc::new(config(trust, identity)?));
    let dial = {
        let target = target.clone();
        tower::service_fn(move |_: Uri| {
            let (target, connector) = (target.clone(), connector.clone());
            async move { target.dial(&connector).await.map(TokioIo::new) }
        })
    };
    target.channel()?.connect_with_connector(dial).await.map_err(|error| explain(endpoint, error))
}

/// The TLS alerts by which a server refuses a client's certificate.
const REFUSALS: &[&str] = &[
    "AccessDenied",
    "BadCertificate",
    "CertificateExpired",
    "CertificateRequired",
    "CertificateRevoked",
    "CertificateUnknown",
    // A signature does not fit: a CA of the same name but another key.
    "DecryptError",
    "UnknownCA",
    "UnsupportedCertificate",
];

/// Why the other end refused our certificate, if that is what an error of a call (`tonic::Status`) says. With TLS 1.3 a
/// client learns that only after its handshake, often from the first call.
pub fn refusal(error: &(dyn StdError + 'static)) -> Option<Error> {
    // By its text, because h2 passes on the text of an IO error and not its type.
    let text = chain(error);
    let (_, alert) = text.split_once("received fatal alert: ")?;
    let alert = REFUSALS.iter().find(|known| alert.starts_with(*known))?;
    Some(Error::new(
        ErrorKind::Unauthenticated,
        Reason::HostCertificateInvalid,
        format!(
            "the control plane refused this host's certificate ({alert}); if it expired, enrol again with a new join token"
        ),
    ))
}

/// An endpoint taken apart.
#[derive(Debug, Clone)]
struct Target {
    host: String,
    port: u16,
    name: ServerName<'static>,
    uri: Uri,
}

impl Target {
    fn parse(endpoint: &str) -> Result<Self, Error> {
        let wrong = |what: &str| Error::invalid("endpoint", format!("{endpoint:?} {what}; write https://host:port"));
        let uri: Uri = endpoint.parse().map_err(|_| wrong("is not a URL"))?;
        if uri.scheme_str() != Some("https") {
            return Err(wrong("does not begin with https://"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("has a path or query, which gRPC cannot use"));
        }
        let host = uri.host().ok_or_else(|| wrong("has no host"))?.trim_matches(['[', ']']).to_owned();
        let name =
            ServerName::try_from(host.clone()).map_err(|_| wrong("has a host that is no DNS name or address"))?;
        Ok(Self { port: uri.port_u16().unwrap_or(443), host, name, uri })
    }

    /// tonic insists on its own TLS for https URLs; it gets an http one, and the true one as the origin of calls.
    fn channel(&self) -> Result<Endpoint, Error> {
        let authority = self.uri.authority().map(ToString::to_string).unwrap_or_default();
        let plain = Endpoint::from_shared(format!("http://{authority}"))
            .map_err(|error| Error::internal("cannot make an endpoint").with_source(error))?;
        Ok(plain
            .origin(self.uri.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true))
    }

    async fn dial(&self, connector: &TlsConnector) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        super::tune(&stream)?;
        connector.connect(self.name.clone(), stream).await
    }
}

fn config(trust: &Trust, identity: Option<Arc<IdentityStore>>) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(super::provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| Error::internal("cannot configure TLS").with_source(error))?
        .dangerous()
        .with_custom_certificate_verifier(trust.verifier()?);
    let mut config = match identity {
        Some(store) => builder.with_client_cert_resolver(store),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn explain(endpoint: &str, error: tonic::transport::Error) -> Error {
    if let Some(rustls::Error::InvalidCertificate(why)) = find(&error) {
        return Error::new(
            ErrorKind::Unauthenticated,
            Reason::ServerCertificateInvalid,
            format!("{endpoint} is not trusted: {}; check the endpoint's host name and the CA or pin", distrust(why)),
        );
    }
    refusal(&error).unwrap_or_else(|| {
        // What the operating system said is what helps; the layers above it only say that connecting failed.
        let cause = find::<io::Error>(&error).map_or_else(|| chain(&error), ToString::to_string);
        Error::unavailable(format!("cannot connect to {endpoint}: {cause}")).with_source(error)
    })
}

fn distrust(why: &CertificateError) -> String {
    if let CertificateError::Other(OtherError(own)) = why {
        return own.to_string();
    }
    // A bad signature is what a CA of the same name but another key gives.
    if matches!(why, CertificateError::UnknownIssuer | CertificateError::BadSignature) {
        return "its certificate is not from the trusted CA".to_owned();
    }
    why.to_string()
}

/// Looks for an error of one type in a chain of sources, also inside IO errors, which hide theirs.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_taken_apart_or_refused_by_name() {
        let target = Target::parse("https://[::1]:7443").expect("IPv6");
        assert_eq!((target.host.as_str(), target.port), ("::1", 7443));
        assert_eq!(Target::parse("https://cp.example/").expect("no port").port, 443);
        for bad in ["", "cp:7443", "http://cp:7443", "https://cp:7443/x", "https://", "https://a b"] {
            let error = Target::parse(bad).expect_err(bad);
            assert_eq!(error.violations[0].field, "endpoint", "{bad}");
        }
    }
}
