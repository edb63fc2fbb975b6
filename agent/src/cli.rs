//! The command line of `windlass-agent`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;
use windlass_core::Error;
use windlass_kit::config::{load, load_or_default};

use crate::{config::Config, link::TokenSource};

/// Read if no other file is named; need not exist.
const USUAL_FILE: &str = "/etc/windlass/agent.toml";

/// Runs the databases of this host as the Windlass control plane says.
#[derive(Debug, Parser)]
#[command(name = "windlass-agent", version, subcommand_negates_reqs = true)]
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
    /// Run until SIGTERM. Databases go on afterwards.
    Run,
    /// Print who this host is, how its connection stands and what its databases do.
    Status,
    /// Check the configuration and print what is wrong with it.
    CheckConfig,
}

/// Settings that win over the configuration file.
#[derive(Debug, Clone, Default, Args)]
pub struct Settings {
    /// Configuration file [default: /etc/windlass/agent.toml if it exists].
    #[arg(long, global = true, env = "WINDLASS_AGENT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory for the identity, the journal and the databases.
    #[arg(long, global = true, env = "WINDLASS_AGENT_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Address of the control plane, https://host:port; repeat it for several.
    #[arg(long, global = true, env = "WINDLASS_CONTROL_PLANE", value_delimiter = ',', value_name = "URL")]
    pub control_plane: Vec<String>,
    /// File with the join token.
    #[arg(long, global = true, env = "WINDLASS_JOIN_TOKEN_FILE", value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// Name of this host.
    #[arg(long, global = true, env = "WINDLASS_HOST_NAME", value_name = "NAME")]
    pub host_name: Option<String>,
    /// Address that clients use for the databases of this host; databases listen on it.
    #[arg(long, global = true, env = "WINDLASS_LISTEN_ADDRESS", value_name = "ADDRESS")]
    pub listen_address: Option<String>,
    /// Ports that databases may get, as in 20000-29999.
    #[arg(long, global = true, env = "WINDLASS_PORT_RANGE", value_name = "LOW-HIGH", value_parser = port_range)]
    pub port_range: Option<(u16, u16)>,
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
        if self.host_name.is_some() {
            config.host_name.clone_from(&self.host_name);
        }
        if let Some(address) = &self.listen_address {
            config.address.clone_from(address);
        }
        if let Some((low, high)) = self.port_range {
            (config.port_low, config.port_high) = (low, high);
        }
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

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let parts = text.split_once('-').and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    parts.ok_or_else(|| format!("{text:?} is not a range of ports; write for example 20000-29999"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_file_and_run_is_the_default() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("agent.toml");
        std::fs::write(&file, "endpoints = [\"https://a:1\"]\nhost_name = \"of-the-file\"\n").expect("written");
        let file = file.to_string_lossy().into_owned();
        let cli = Cli::try_parse_from([
            "windlass-agent",
            "--config",
            &file,
            "--control-plane",
            "https://b:1",
            "--control-plane",
            "https://c:1",
            "--port-range",
            "21000-21009",
        ])
        .expect("parses");
        assert_eq!(cli.command, None);
        let config = cli.settings.load().expect("loads");
        assert_eq!(config.endpoints, ["https://b:1", "https://c:1"]);
        assert_eq!((config.port_low, config.port_high), (21000, 21009));
        assert_eq!(config.name().expect("name"), "of-the-file");
        let cli = Cli::try_parse_from(["windlass-agent", "status", "--config", &file]).expect("global");
        assert_eq!(cli.command, Some(Command::Status));
        Cli::try_parse_from(["windlass-agent", "--port-range", "many"]).expect_err("no range");
    }
}
