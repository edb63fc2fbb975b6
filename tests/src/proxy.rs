//! A proxy of a stack: the real program, with clients for it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::CancelToken;
use tokio_postgres::config::SslMode;
use windlass_proto::api::v1::join_token::Purpose;
use windlass_proto::api::v1::{Connection, CreateJoinTokenRequest, GetConnectionRequest, JoinToken};

use crate::Stack;
use crate::api::{instance_name, request_id};
use crate::client::Handshake;
use crate::home::make_directory;
use crate::program::Program;
use crate::stack::{START_LIMIT, free_ports};
use crate::wait::wait_until;

/// What instances' names end with.
pub const DOMAIN: &str = "db.test";

/// A proxy as a process.
#[derive(Debug)]
pub struct Proxy {
    /// The program.
    pub program: Program,
    /// Where clients come in.
    pub address: SocketAddr,
    /// Where Prometheus asks.
    pub metrics: SocketAddr,
    binary: PathBuf,
    config: PathBuf,
    directory: PathBuf,
    token: String,
    log: &'static str,
    starts: usize,
}

/// A client and the task that moves its bytes.
#[derive(Debug)]
pub struct Session {
    /// The client.
    pub client: tokio_postgres::Client,
    /// Ends with the connection.
    pub connection: tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Proxy {
    /// Starts a proxy of the stack; returns when it serves. `more` is TOML: top-level keys first.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(stack: &Stack, name: &str, more: &str) -> Result<Self> {
        let purpose = Purpose::Proxy.into();
        let request = CreateJoinTokenRequest {
            join_token: Some(JoinToken { host_name: name.to_owned(), purpose, ..Default::default() }),
            ttl: None,
            request_id: request_id(),
        };
        let token = stack.api.hosts().create_join_token(request).await?.into_inner().token;
        let directory = stack.directory().join(name);
        make_directory(&directory)?;
        let port = free_ports(2)?;
        let (address, metrics) = (loopback(port), loopback(port + 1));
        let config = directory.join("proxy.toml");
        let text = format!(
            "state_dir = {:?}\nendpoints = [{:?}]\nlisten = \"{address}\"\nmetrics_listen = \"{metrics}\"\n{more}",
            directory.join("state"),
            stack.endpoint,
        );
        std::fs::write(&config, text)?;
        let binary = crate::program::directory()?.join("windlass-proxy");
        let log = stack.log_level();
        let program = Program::new(name, binary.clone(), Vec::new(), directory.join("none.log"));
        let mut proxy = Self { program, address, metrics, binary, config, directory, token, log, starts: 0 };
        proxy.program = proxy.process()?;
        proxy.serves().await?;
        Ok(proxy)
    }

    /// Starts another process on the same state directory, as an upgrade does.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn process(&mut self) -> Result<Program> {
        self.starts += 1;
        let arguments = vec!["--config".to_owned(), self.config.to_string_lossy().into_owned()];
        let log = self.directory.join(format!("proxy-{}.log", self.starts));
        let mut program = Program::new("proxy", self.binary.clone(), arguments, log);
        program.start(&[("WINDLASS_JOIN_TOKEN", &self.token), ("RUST_LOG", self.log)])?;
        Ok(program)
    }

    /// Waits until it says that it serves.
    ///
    /// # Errors
    /// It does not.
    pub async fn serves(&mut self) -> Result<()> {
        let (program, metrics) = (&mut self.program, self.metrics);
        wait_until("proxy that serves", START_LIMIT, async || {
            program.check()?;
            anyhow::ensure!(program.log().contains("serving"), "it does not serve yet");
            let text = get(metrics, "/metrics").await?;
            anyhow::ensure!(!text.contains("windlass_proxy_routes 0\n"), "it knows no route yet");
            Ok(())
        })
        .await
    }

    /// Chain and key that it shows its clients, as it stored them.
    ///
    /// # Errors
    /// It has none from the control plane.
    pub fn server_certificate(&self) -> Result<(String, String)> {
        let text = std::fs::read_to_string(self.directory.join("state/server.json"))?;
        let stored: serde_json::Value = serde_json::from_str(&text)?;
        let part = |name: &str| Ok::<_, anyhow::Error>(stored[name].as_str().context("a PEM")?.to_owned());
        Ok((part("chain_pem")?, part("key_pem")?))
    }

    /// The value of one of its metrics, summed over its labels.
    ///
    /// # Errors
    /// It does not answer, or has no such metric.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text = get(self.metrics, "/metrics").await?;
        let of = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            (series.split('{').next()? == name).then(|| value.parse::<f64>().ok())?
        };
        let values: Vec<f64> = text.lines().filter_map(of).collect();
        anyhow::ensure!(!values.is_empty(), "no metric {name} in\n{text}");
        Ok(values.iter().sum())
    }

    /// A client that names the instance in its TLS handshake.
    ///
    /// # Errors
    /// It was refused.
    pub async fn by_name(&self, to: &Connection, name: &str) -> Result<Session> {
        session(self.address, to, &format!("{name}.{DOMAIN}"), &to.user).await
    }

    /// A client that names the instance behind its user's name, `user@instance.project`.
    ///
    /// # Errors
    /// It was refused.
    pub async fn by_suffix(&self, to: &Connection, name: &str) -> Result<Session> {
        session(self.address, to, "localhost", &format!("{}@{name}", to.user)).await
    }

    /// Asks for a cancellation.
    ///
    /// # Errors
    /// It was not taken.
    pub async fn cancel(&self, to: &Connection, token: CancelToken) -> Result<()> {
        let stream = TcpStream::connect(self.address).await?;
        Ok(token.cancel_query_raw(stream, Handshake::with("localhost", &to.ca_pem)?).await?)
    }
}

/// A session with whatever listens there.
///
/// # Errors
/// It was refused.
pub async fn session(address: SocketAddr, to: &Connection, tls_name: &str, user: &str) -> Result<Session> {
    let mut config = tokio_postgres::Config::new();
    config.user(user).password(&to.password).dbname(&to.database).ssl_mode(SslMode::Require);
    let stream = TcpStream::connect(address).await?;
    let (client, connection) = config.connect_raw(stream, Handshake::with(tls_name, &to.ca_pem)?).await?;
    Ok(Session { client, connection: tokio::spawn(connection) })
}

impl Stack {
    /// Credentials of the administrator of an instance, past the proxies.
    ///
    /// # Errors
    /// The control plane refused.
    pub async fn credentials(&self, project: &str, id: &str) -> Result<Connection> {
        let request = GetConnectionRequest { name: instance_name(project, id), direct: true, ..Default::default() };
        Ok(self.api.instances().get_connection(request).await?.into_inner())
    }
}

async fn get(address: SocketAddr, path: &str) -> Result<String> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: proxy\r\n\r\n").as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    tokio::time::timeout(Duration::from_secs(5), ask).await.context("no answer")?.context("metrics")
}

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}
