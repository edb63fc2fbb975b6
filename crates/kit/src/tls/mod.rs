//! TLS between the parts of Windlass, with certificates that change while connections stay.
//!
//! Owns: identities and their hot swap, whom to trust (CA or pin), the accepting and the connecting end. Why our own ends
//! instead of tonic's: tonic freezes its server configuration at start, and a certificate lives for hours only.
//! Invariants: TLS 1.3, HTTP/2, aws-lc-rs, no session resumption (a resumed session would keep a certificate that was
//! replaced or revoked since); a rotation touches new connections only; nothing here is global.

mod acceptor;
mod connector;
mod host;
mod identity;
mod pin;
mod request;
mod trust;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use acceptor::{Incoming, Limits, serve, server};
pub use connector::{connect, refusal};
pub use host::{PeerHost, host_uri, peer_host, peer_proxy, proxy_uri, signed_by};
pub use identity::{Identity, IdentityStore};
pub use pin::Pin;
pub use request::KeyRequest;
pub use rustls::pki_types::CertificateDer;
pub use trust::{Authorities, Trust};

/// The one crypto provider, for whoever builds a rustls configuration.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The protocol that both ends speak inside TLS.
const ALPN: &[u8] = b"h2";

/// Small messages leave at once, and a peer that is gone without a word is noticed even below HTTP/2.
fn tune(stream: &tokio::net::TcpStream) -> std::io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, std::time::Duration::from_secs(30))?;
    sockopt::set_tcp_keepintvl(stream, std::time::Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}
