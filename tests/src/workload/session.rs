//! A client's connection, over TLS or not, to the first of some addresses that takes writes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{CancelToken, Client, NoTls};

use crate::client::Handshake;

/// How long one address may take to be reached: the others wait behind it.
const CONNECT_LIMIT: Duration = Duration::from_millis(500);

/// How a client reaches an instance.
#[derive(Debug, Clone)]
pub struct Target {
    /// Tried in order until one takes writes; a proxy is one.
    pub addresses: Vec<SocketAddr>,
    /// The name that the server's certificate must have and the CA that must have signed it; None for no TLS.
    pub tls: Option<Trust>,
    /// Who.
    pub user: String,
    /// The user's password; may be empty.
    pub password: String,
    /// Which database.
    pub database: String,
    /// A connection that answers nothing for so long is given up.
    pub patience: Duration,
}

/// What a client trusts.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The server's name, also sent as SNI; None for its address.
    pub name: Option<String>,
    /// PEM of the CA.
    pub ca_pem: String,
}

impl Trust {
    fn handshake(&self, address: SocketAddr) -> Result<Handshake> {
        let name = self.name.clone().unwrap_or_else(|| address.ip().to_string());
        Handshake::with(&name, &self.ca_pem)
    }
}

/// An open connection. Dropped, it is cut.
#[derive(Debug)]
pub struct Session {
    /// The client's side.
    pub client: Client,
    /// Where it leads.
    pub address: SocketAddr,
    driver: AbortHandle,
    target: Target,
}

impl Session {
    /// Connects to the first address that takes writes.
    ///
    /// # Errors
    /// None does.
    pub async fn open(target: &Target) -> Result<Self> {
        let mut last = None;
        for address in &target.addresses {
            match Self::open_at(target, *address).await {
                Ok(session) => return Ok(session),
                Err(error) => last = Some(error.context(format!("{address}"))),
            }
        }
        Err(last.context("no address")?)
    }

    async fn open_at(target: &Target, address: SocketAddr) -> Result<Self> {
        let stream = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let session = timeout(target.patience, Self::log_in(target, address, stream)).await??;
        if target.addresses.len() > 1 {
            let row = session.within(session.client.simple_query("show transaction_read_only")).await?;
            if value(&row) != Some("off") {
                bail!("it takes no writes");
            }
        }
        Ok(session)
    }

    /// Logs in over a stream that is connected.
    pub(super) async fn log_in(target: &Target, address: SocketAddr, stream: TcpStream) -> Result<Self> {
        let mut config = tokio_postgres::Config::new();
        config.user(&target.user).dbname(&target.database).application_name("nemesis");
        if !target.password.is_empty() {
            config.password(&target.password);
        }
        let (client, driver) = match &target.tls {
            Some(trust) => {
                config.ssl_mode(SslMode::Require);
                let (client, connection) = config.connect_raw(stream, trust.handshake(address)?).await?;
                (client, tokio::spawn(connection).abort_handle())
            }
            None => {
                config.ssl_mode(SslMode::Disable);
                let (client, connection) = config.connect_raw(stream, NoTls).await?;
                (client, tokio::spawn(connection).abort_handle())
            }
        };
        Ok(Self { client, address, driver, target: target.clone() })
    }

    /// Waits for an answer as long as the client is patient.
    ///
    /// # Errors
    /// What the server said, or the client's patience ended.
    pub async fn within<T>(&self, work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
        Ok(timeout(self.target.patience, work).await??)
    }

    /// Asks that the statement under way be cancelled, by a connection of its own.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn cancel(token: CancelToken, target: &Target, address: SocketAddr) -> Result<()> {
        let stream = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await??;
        match &target.tls {
            Some(trust) => token.cancel_query_raw(stream, trust.handshake(address)?).await?,
            None => token.cancel_query_raw(stream, NoTls).await?,
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The first value of an answer to a simple query.
pub(super) fn value(answer: &[tokio_postgres::SimpleQueryMessage]) -> Option<&str> {
    answer.iter().find_map(|message| {
        let tokio_postgres::SimpleQueryMessage::Row(row) = message else { return None };
        row.get(0)
    })
}
