//! What an operator can set, with its defaults and limits.
//!
//! Invariant: a [`Config`] that passed [`Config::check`] needs no further check. Durations are written as in
//! `"30s"`, `"5m"`, `"24h"`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use jiff::SignedDuration;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use windlass_core::{Error, error::FieldViolation};
use windlass_kit::{config, telemetry::TelemetryConfig};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The whole configuration of a control plane.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Directory for keys and the embedded metadata database.
    pub state_dir: PathBuf,
    /// Address of the one port for the API and the agents.
    pub listen: SocketAddr,
    /// Names and addresses by which clients and agents reach this node; they go into its server certificate, beside
    /// `localhost`, the machine's host name and the listen address.
    pub advertise: Vec<String>,
    /// The metadata database.
    pub metadata: MetadataConfig,
    /// How long the data of a deleted instance is kept, 0 to 90 days.
    pub undelete_window: SignedDuration,
    /// What agents are told of timing.
    pub cadence: CadenceConfig,
    /// How long certificates live.
    pub certificates: CertificateConfig,
    /// How long finished things are remembered.
    pub retention: RetentionConfig,
    /// What one key may ask for.
    pub limits: LimitConfig,
    /// Logs.
    pub log: TelemetryConfig,
}

/// What flags and the environment set; they win over the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overrides {
    /// Directory for keys and the embedded metadata database.
    #[arg(long, global = true, env = "WINDLASS_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Address of the one port for the API and the agents.
    #[arg(long, global = true, env = "WINDLASS_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Name by which clients and agents reach this node; may be repeated.
    #[arg(long, global = true, env = "WINDLASS_ADVERTISE", value_delimiter = ',', value_name = "NAME")]
    pub advertise: Vec<String>,
    /// URL of an external metadata database. In the environment rather than in argv if it has a password.
    #[arg(long, global = true, env = "WINDLASS_METADATA_URL", hide_env_values = true, value_name = "URL")]
    pub metadata_url: Option<String>,
}

/// Where the metadata is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetadataConfig {
    /// `postgres://…` of a PostgreSQL 15 or newer; absent runs a private one on this machine. May hold a password.
    #[serde(deserialize_with = "secret")]
    pub url: Option<SecretString>,
    /// Embedded only: directories to look for `postgres` and `initdb` in, beside the usual places.
    pub search_dirs: Vec<PathBuf>,
    /// Embedded only: system user that runs the database when the control plane is root.
    pub run_as: Option<String>,
    /// Most connections, 4 to 1,000 (to 50 for the private one); absent means 20.
    pub connections: Option<u32>,
}

/// Timing of agents.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CadenceConfig {
    /// Between two heartbeats of an agent, 1 s to 5 min.
    pub heartbeat_every: SignedDuration,
    /// How long an agent's poll is held when there is nothing to do, 1 s to 5 min.
    pub poll_hold: SignedDuration,
    /// Agents spread their reconnects over this, 0 to 5 min.
    pub reconnect_spread: SignedDuration,
    /// Silence after which a host counts as offline, 2 s to 1 h.
    pub offline_after: SignedDuration,
}

/// Lifetimes of certificates. Each is renewed at half of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CertificateConfig {
    /// Of agents, 1 min to 1 year.
    pub host: SignedDuration,
    /// Of this server, 1 min to 1 year.
    pub server: SignedDuration,
    /// Of database members, 1 min to 1 year.
    pub member: SignedDuration,
}

/// How long finished things are remembered.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Answers kept for repeats with the same request id, 1 h to 30 days.
    pub idempotency: SignedDuration,
    /// Ended commands, 1 h to 1 year.
    pub commands: SignedDuration,
    /// Ended operations, 1 day to 10 years.
    pub operations: SignedDuration,
    /// Events, 1 h to 10 years.
    pub events: SignedDuration,
    /// Expired and used join tokens, 1 h to 1 year.
    pub join_tokens: SignedDuration,
}

/// Limits per API key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitConfig {
    /// Calls per second in the long run, 1 to 1,000,000.
    pub calls_per_second: u32,
    /// Calls at once after a pause, 1 to 1,000,000.
    pub burst: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("/var/lib/windlass/control-plane"),
            listen: SocketAddr::from(([127, 0, 0, 1], 7400)),
            advertise: Vec::new(),
            metadata: MetadataConfig::default(),
            undelete_window: DAY * 7,
            cadence: CadenceConfig::default(),
            certificates: CertificateConfig::default(),
            retention: RetentionConfig::default(),
            limits: LimitConfig::default(),
            log: TelemetryConfig::default(),
        }
    }
}

impl Default for CadenceConfig {
    fn default() -> Self {
        Self {
            heartbeat_every: SignedDuration::from_secs(5),
            poll_hold: SignedDuration::from_secs(30),
            reconnect_spread: SignedDuration::from_secs(2),
            offline_after: SignedDuration::from_secs(15),
        }
    }
}

impl Default for CertificateConfig {
    fn default() -> Self {
        Self { host: DAY * 7, server: DAY * 30, member: DAY * 30 }
    }
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { idempotency: DAY, commands: DAY * 7, operations: DAY * 180, events: DAY * 90, join_tokens: DAY * 30 }
    }
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self { calls_per_second: 500, burst: 2000 }
    }
}

impl Config {
    /// Reads the file, if one is named, applies the overrides and checks the whole.
    ///
    /// # Errors
    /// `INTERNAL` when the file cannot be read; `INVALID_FIELD` naming line and key, or every value out of its limits.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Self, Error> {
        let mut config: Self = match file {
            Some(path) => config::load(path)?,
            None => Self::default(),
        };
        if let Some(dir) = &overrides.state_dir {
            config.state_dir.clone_from(dir);
        }
        if let Some(listen) = overrides.listen {
            config.listen = listen;
        }
        if !overrides.advertise.is_empty() {
            config.advertise.clone_from(&overrides.advertise);
        }
        if let Some(url) = &overrides.metadata_url {
            config.metadata.url = Some(url.clone().into());
        }
        config.check()?;
        Ok(config)
    }

    /// What matters of it in a few lines, without secrets.
    pub fn describe(&self) -> String {
        let metadata = match self.metadata.url {
            Some(_) => "external".to_owned(),
            None => format!("embedded, in {}", self.state_dir.join("metadata").display()),
        };
        let lines = [
            ("state_dir", self.state_dir.display().to_string()),
            ("listen", self.listen.to_string()),
            ("advertise", self.advertise.join(", ")),
            ("metadata", metadata),
            ("undelete_window", format!("{:#}", self.undelete_window)),
            ("cadence.heartbeat_every", format!("{:#}", self.cadence.heartbeat_every)),
            ("cadence.poll_hold", format!("{:#}", self.cadence.poll_hold)),
            ("cadence.offline_after", format!("{:#}", self.cadence.offline_after)),
            ("certificates.host", format!("{:#}", self.certificates.host)),
            ("certificates.server", format!("{:#}", self.certificates.server)),
            ("certificates.member", format!("{:#}", self.certificates.member)),
        ];
        lines.map(|(name, value)| format!("{name} = {value}")).join("\n")
    }

    /// Most connections to the metadata database.
    pub fn connections(&self) -> u32 {
        self.metadata.connections.unwrap_or(20)
    }

    /// Checks every value against its limits.
    ///
    /// # Errors
    /// `INVALID_FIELD` with one violation for each value that breaks a limit.
    pub fn check(&self) -> Result<(), Error> {
        let zero = SignedDuration::ZERO;
        let second = SignedDuration::from_secs(1);
        let year = DAY * 365;
        let durations = [
            ("undelete_window", self.undelete_window, zero, DAY * 90),
            ("cadence.heartbeat_every", self.cadence.heartbeat_every, second, MINUTE * 5),
            ("cadence.poll_hold", self.cadence.poll_hold, second, MINUTE * 5),
            ("cadence.reconnect_spread", self.cadence.reconnect_spread, zero, MINUTE * 5),
            ("cadence.offline_after", self.cadence.offline_after, second * 2, HOUR),
            ("certificates.host", self.certificates.host, MINUTE, year),
            ("certificates.server", self.certificates.server, MINUTE, year),
            ("certificates.member", self.certificates.member, MINUTE, year),
            ("retention.idempotency", self.retention.idempotency, HOUR, DAY * 30),
            ("retention.commands", self.retention.commands, HOUR, year),
            ("retention.operations", self.retention.operations, DAY, year * 10),
            ("retention.events", self.retention.events, HOUR, year * 10),
            ("retention.join_tokens", self.retention.join_tokens, HOUR, year),
        ];
        let numbers = [
            ("metadata.connections", self.connections(), 4, if self.metadata.url.is_some() { 1000 } else { 50 }),
            ("limits.calls_per_second", self.limits.calls_per_second, 1, 1_000_000),
            ("limits.burst", self.limits.burst, 1, 1_000_000),
        ];
        let mut wrong: Vec<FieldViolation> = durations
            .into_iter()
            .filter(|(_, value, low, high)| value < low || value > high)
            .map(|(field, value, low, high)| violation(field, format!("{value:#} is outside {low:#} to {high:#}")))
            .collect();
        wrong.extend(
            numbers
                .into_iter()
                .filter(|(_, value, low, high)| value < low || value > high)
                .map(|(field, value, low, high)| violation(field, format!("{value} is outside {low} to {high}"))),
        );
        if !self.state_dir.is_absolute() {
            wrong.push(violation("state_dir", format!("{} is not an absolute path", self.state_dir.display())));
        }
        if self.cadence.offline_after <= self.cadence.heartbeat_every {
            wrong.push(violation("cadence.offline_after", "must be longer than cadence.heartbeat_every".to_owned()));
        }
        if wrong.is_empty() { Ok(()) } else { Err(Error::violations(wrong)) }
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Option::<String>::deserialize(deserializer).map(|text| text.map(SecretString::from))
}

fn violation(field: &str, description: String) -> FieldViolation {
    FieldViolation { field: field.to_owned(), description }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_legal() {
        Config::default().check().expect("legal");
    }

    #[test]
    fn every_value_out_of_range_is_named_with_its_limits() {
        let mut config = Config { state_dir: "relative".into(), undelete_window: -HOUR, ..Config::default() };
        config.limits.burst = 0;
        config.cadence.offline_after = SignedDuration::from_secs(3);
        let error = config.check().expect_err("four are wrong");
        let fields: Vec<_> = error.violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["undelete_window", "limits.burst", "state_dir", "cadence.offline_after"]);
        assert!(error.message.contains("is outside 1 to 1000000"), "{error}");
    }
}
