//! The command line of `windlass-proxy`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;
use windlass_core::Error;
use windlass_kit::config::{load, load_or_default};

use crate::{config::Config, link::TokenSource};

/// Read if no other file is named; need not exist.
const USUAL_FILE: &str = "/etc/windlass/proxy.toml";

/// Brings database clients to the primary of their instance.
#[derive(Debug, Parser)]
#[command(name = "windlass-proxy", version, subcommand_negates_reqs = true)]
pub struct Cli {
    /// What to do; `run` if it is left out.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run until SIGTERM. Takes over from a process that runs on the same state directory, without an outage.
    Run,
    /// Check the configuration and print what is wrong with it.
    CheckConfig,
}

/// Settings that win over the configuration file.
#[derive(Debug, Clone, Default, Args)]
pub struct Settings {
    /// Configuration file [default: /etc/windlass/proxy.toml if it exists].
    #[arg(long, global = true, env = "WINDLASS_PROXY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory for the identity, the routes and the hand-over socket.
    #[arg(long, global = true, env = "WINDLASS_PROXY_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Address of the control plane, https://host:port; repeat it for several.
    #[arg(long, global = true, env = "WINDLASS_CONTROL_PLANE", value_delimiter = ',', value_name = "URL")]
    pub control_plane: Vec<String>,
    /// File with the join token.
    #[arg(long, global = true, env = "WINDLASS_JOIN_TOKEN_FILE", value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// Name of this proxy.
    #[arg(long, global = true, env = "WINDLASS_PROXY_NAME", value_name = "NAME")]
    pub proxy_name: Option<String>,
    /// Where clients of PostgreSQL connect.
    #[arg(long, global = true, env = "WINDLASS_PROXY_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Name or address that clients are told.
    #[arg(long, global = true, env = "WINDLASS_PROXY_ADDRESS", value_name = "ADDRESS")]
    pub address: Option<String>,
    /// Instances are reached as INSTANCE.PROJECT.DOMAIN.
    #[arg(long, global = true, env = "WINDLASS_PROXY_DOMAIN", value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Where Prometheus asks.
    #[arg(long, global = true, env = "WINDLASS_PROXY_METRICS", value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<SocketAddr>,
}

impl Settings {
    /// The whole configuration, checked.
    ///
    /// # Errors
    /// `INVALID_FIELD` for each wrong value; `INTERNAL` if the file cannot be read.
    pub fn load(&self) -> Result<Config, Error> {
        let mut config: Config = match &self.config {
            Some(path) => load(path)?,
            None => load_or_default(USUAL_FILE.as_ref())?,
        };
        if let Some(path) = &self.state_dir {
            config.state_dir.clone_from(path);
        }
        if !self.control_plane.is_empty() {
            config.endpoints.clone_from(&self.control_plane);
        }
        if self.join_token_file.is_some() {
            config.join_token_file.clone_from(&self.join_token_file);
        }
        if self.proxy_name.is_some() {
            config.proxy_name.clone_from(&self.proxy_name);
        }
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        if self.address.is_some() {
            config.address.clone_from(&self.address);
        }
        if let Some(domain) = &self.domain {
            config.domain.clone_from(domain);
        }
        config.metrics_listen = self.metrics_listen.or(config.metrics_listen);
        config.check()?;
        Ok(config)
    }
}

/// Where the join token is: the environment, which a test or an installer sets, before the file.
pub fn token_source(config: &Config, environment: Option<SecretString>) -> TokenSource {
    match (environment, &config.join_token_file) {
        (Some(token), _) => TokenSource::Given(token),
        (None, Some(path)) => TokenSource::File(path.clone()),
        (None, None) => TokenSource::Absent,
    }
}
