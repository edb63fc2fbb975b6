//! TLS for the agent's own connections to another member: that member's name is verified against the internal CA, and
//! this member's certificate is shown.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use windlass_core::Error;

use crate::host::files;

/// Makes TLS connections with the files of a member.
#[derive(Clone)]
pub(super) struct MemberTls(Arc<ClientConfig>);

impl MemberTls {
    /// Reads the files, which are renewed now and then.
    pub(super) fn read(tls: &Path) -> Result<Self, Error> {
        let text = |name: &str| {
            let path = tls.join(name);
            files::read_text(&path)?.ok_or_else(|| Error::internal(format!("{} is missing", path.display())))
        };
        let unreadable = |name: &str| Error::internal(format!("{} cannot be used", tls.join(name).display()));
        let certificates = |name: &str| {
            CertificateDer::pem_slice_iter(text(name)?.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| unreadable(name).with_source(error))
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates("ca.crt")?);
        let key = PrivateKeyDer::from_pem_slice(text("server.key")?.as_bytes())
            .map_err(|error| unreadable("server.key").with_source(error))?;
        let chain = certificates_of(certificates("server.crt")?);
        let config = ClientConfig::builder_with_provider(windlass_kit::tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .and_then(|builder| builder.with_root_certificates(roots).with_client_auth_cert(chain, key))
            .map_err(|error| unreadable("server.crt").with_source(error))?;
        Ok(Self(Arc::new(config)))
    }
}

/// The CA at the end of a chain is the other side's own.
fn certificates_of(mut chain: Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
    chain.truncate(1);
    chain
}

/// To one server name.
pub(super) struct Connect {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl MakeTlsConnect<Socket> for MemberTls {
    type Stream = Stream;
    type TlsConnect = Connect;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Connect, io::Error> {
        let name = ServerName::try_from(domain.to_owned()).map_err(io::Error::other)?;
        Ok(Connect { config: self.0.clone(), name })
    }
}

impl TlsConnect<Socket> for Connect {
    type Stream = Stream;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Stream, io::Error>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move { Ok(Stream(Box::new(TlsConnector::from(self.config).connect(self.name, stream).await?))) })
    }
}

/// A TLS stream.
pub(super) struct Stream(Box<tokio_rustls::client::TlsStream<Socket>>);

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        // Certificates say who is who on both sides.
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }
}
