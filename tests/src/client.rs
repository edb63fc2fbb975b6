//! A client of an instance as an application has it: TCP, TLS verified against the installation's CA, a password.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use anyhow::{Context, Result, bail, ensure};
use mysql_async::prelude::Queryable;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use windlass_proto::api::v1::Connection;

/// Connects, asks one question and leaves.
///
/// # Errors
/// The server cannot be reached, is not trusted, or answers something else.
pub async fn ask(to: &Connection) -> Result<()> {
    match to.client.as_str() {
        "psql" => ask_postgres(to).await,
        "mariadb" => ask_mariadb(to).await,
        other => bail!("no client in place of {other:?}"),
    }
}

async fn ask_postgres(to: &Connection) -> Result<()> {
    let mut config = tokio_postgres::Config::new();
    config.user(&to.user).password(&to.password).dbname(&to.database).ssl_mode(SslMode::Require);
    let stream = TcpStream::connect((to.host.as_str(), u16::try_from(to.port)?)).await?;
    let (client, connection) = config.connect_raw(stream, Handshake::with(&to.host, &to.ca_pem)?).await?;
    let connection = tokio::spawn(connection);
    let answer: i32 = client.query_one("select 40 + 2", &[]).await?.get(0);
    ensure!(answer == 42, "it answered {answer}");
    drop(client);
    Ok(connection.await??)
}

async fn ask_mariadb(to: &Connection) -> Result<()> {
    let tls = mysql_async::SslOpts::default()
        .with_root_certs(vec![to.ca_pem.clone().into_bytes().into()])
        .with_disable_built_in_roots(true);
    let options = mysql_async::OptsBuilder::default()
        .ip_or_hostname(&to.host)
        .tcp_port(u16::try_from(to.port)?)
        // By default the client moves from TCP to the socket of a server on its own machine.
        .prefer_socket(false)
        .user(Some(&to.user))
        .pass(Some(&to.password))
        .db_name(Some(&to.database))
        .ssl_opts(tls);
    let mut connection = mysql_async::Conn::new(options).await?;
    let answer: Option<i64> = connection.query_first("select 40 + 2").await?;
    ensure!(answer == Some(42), "it answered {answer:?}");
    Ok(connection.disconnect().await?)
}

fn trusting(ca_pem: &str) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    ensure!(!roots.is_empty(), "the connection has no CA");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// A handshake that is about to be made.
#[derive(Clone)]
pub(crate) struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Handshake {
    /// With a server of this name, whose certificate the CA signed.
    pub(crate) fn with(name: &str, ca_pem: &str) -> Result<Self> {
        let name = ServerName::try_from(name.to_owned()).context("name of the server")?;
        Ok(Self { config: trusting(ca_pem)?, name })
    }
}

impl TlsConnect<TcpStream> for Handshake {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        let connector = tokio_rustls::TlsConnector::from(self.config);
        Box::pin(async move { connector.connect(self.name, stream).await.map(Encrypted) })
    }
}

/// A stream of our own, because `tokio_postgres` asks it for channel binding.
pub(crate) struct Encrypted(tokio_rustls::client::TlsStream<TcpStream>);

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
