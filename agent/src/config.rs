//! What an operator can set, with its defaults and limits.
//!
//! A value comes from the first of: command line, environment, file, default. Invariant: a [`Config`] that passed
//! [`Config::check`] needs no further check. Durations are written as in `"30s"`, sizes as in `"4GiB"`.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use jiff::SignedDuration;
use serde::Deserialize;
use windlass_core::{
    Error,
    error::FieldViolation,
    name::ResourceName,
    size::{Resources, parse_bytes},
};
use windlass_kit::telemetry::TelemetryConfig;

use crate::{
    host::HostKind,
    members::{MembersConfig, WarmPool},
};

/// Lowest port that members may get: below live the system's own services.
const LOWEST_PORT: u16 = 1024;
/// Longest of the durations that can be set.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// The whole configuration of an agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Directory for the identity, the journal and the databases.
    pub state_dir: PathBuf,
    /// Directory for the sockets of the databases. Short: a socket's path may have 107 bytes.
    pub run_dir: PathBuf,
    /// Name of this host, a DNS label; absent means the machine's name.
    pub host_name: Option<String>,
    /// Addresses of the control plane, `https://host:port`, at least one.
    pub endpoints: Vec<String>,
    /// File with the join token. Needed until the host has enrolled; `WINDLASS_JOIN_TOKEN` wins over it.
    pub join_token_file: Option<PathBuf>,
    /// Address that clients use for the databases of this host.
    pub address: String,
    /// IP address on which databases listen, `*` for all; absent means `address` if that is one, else `*`.
    pub bind_address: Option<String>,
    /// First port that databases may get.
    pub port_low: u16,
    /// Last port that databases may get.
    pub port_high: u16,
    /// IP address and port for other agents, which look whether this host lives; any free port if it is taken.
    pub peer_listen: SocketAddr,
    /// System user of the databases; needed when the agent is root, else the agent's own user.
    pub run_as: Option<String>,
    /// Who runs the database processes: `auto`, `systemd` or `direct`.
    pub process_host: HostKind,
    /// Directories with engine programs, searched before the usual ones.
    pub engine_search_dirs: Vec<PathBuf>,
    /// Whether one initialised directory is kept ready for each engine version: `on` or `off`.
    pub warm_pool: WarmPool,
    /// What databases may use in sum; absent parts are what the machine has.
    pub capacity: CapacityConfig,
    /// How long a database may take to stop by itself before it is killed.
    pub stop_grace: SignedDuration,
    /// How long a database may take to accept connections.
    pub start_timeout: SignedDuration,
    /// How often files are compared with the goal and facts are taken.
    pub check_every: SignedDuration,
    /// No database is made while less than this is free on the disk.
    pub disk_floor: String,
    /// The log.
    pub log: TelemetryConfig,
}

/// What databases may use in sum.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CapacityConfig {
    /// Thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Memory, for example `"8GiB"`.
    pub memory: Option<String>,
    /// Disk, for example `"100GiB"`.
    pub disk: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("/var/lib/windlass-agent"),
            run_dir: PathBuf::from("/run/windlass-agent"),
            host_name: None,
            endpoints: Vec::new(),
            join_token_file: None,
            address: "127.0.0.1".to_owned(),
            bind_address: None,
            port_low: 20_000,
            port_high: 29_999,
            peer_listen: SocketAddr::from(([0, 0, 0, 0], 7411)),
            run_as: None,
            process_host: HostKind::Auto,
            engine_search_dirs: Vec::new(),
            warm_pool: WarmPool::On,
            capacity: CapacityConfig::default(),
            stop_grace: SignedDuration::from_secs(30),
            start_timeout: SignedDuration::from_secs(300),
            check_every: SignedDuration::from_secs(10),
            disk_floor: "256MiB".to_owned(),
            log: TelemetryConfig::default(),
        }
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// `INVALID_FIELD` with one violation for each value that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let mut wrong = Vec::new();
        let mut need = |holds: bool, field: &str, what: String| {
            if !holds {
                wrong.push(FieldViolation { field: field.to_owned(), description: what });
            }
        };
        for (field, path) in [("state_dir", &self.state_dir), ("run_dir", &self.run_dir)] {
            need(path.is_absolute(), field, format!("{} is not an absolute path", path.display()));
        }
        need(!self.endpoints.is_empty(), "endpoints", "is empty; name at least one, as https://host:port".to_owned());
        for endpoint in &self.endpoints {
            need(endpoint.starts_with("https://"), "endpoints", format!("{endpoint:?} is not https://host:port"));
        }
        need(!self.address.is_empty(), "address", "is empty; name an IP address or a host name".to_owned());
        let bind = self.bind();
        need(
            bind == "*" || bind.parse::<IpAddr>().is_ok(),
            "bind_address",
            format!("{bind:?} is neither an IP address nor *"),
        );
        need(
            self.port_low >= LOWEST_PORT && self.port_low <= self.port_high,
            "port_low",
            format!("{} to {} is not a range of ports from {LOWEST_PORT} on", self.port_low, self.port_high),
        );
        for (field, value) in
            [("stop_grace", self.stop_grace), ("start_timeout", self.start_timeout), ("check_every", self.check_every)]
        {
            let fits = value >= SignedDuration::from_millis(10) && value <= LONGEST;
            need(fits, field, format!("{value:#} is outside 10ms to {LONGEST:#}"));
        }
        for checked in [self.name().map(drop), self.capacity(Resources::default()).map(drop), self.floor().map(drop)] {
            if let Err(error) = checked {
                wrong.extend(error.violations);
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(Error::violations(wrong)) }
    }

    /// The name of this host.
    ///
    /// # Errors
    /// `INVALID_FIELD` on `host_name` if it is no DNS label.
    pub fn name(&self) -> Result<String, Error> {
        let name = match &self.host_name {
            Some(name) => name.clone(),
            None => {
                let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
                machine.trim().split('.').next().unwrap_or_default().to_ascii_lowercase()
            }
        };
        ResourceName::parse("host_name", &name)?;
        Ok(name)
    }

    /// What databases may use in sum on a machine that has this.
    ///
    /// # Errors
    /// `INVALID_FIELD` on a size that is none.
    pub fn capacity(&self, machine: Resources) -> Result<Resources, Error> {
        let bytes = |field: &str, text: &Option<String>, usual: u64| {
            text.as_deref().map_or(Ok(usual), |text| parse_bytes(field, text))
        };
        Ok(Resources {
            cpu_millis: self.capacity.cpu_millis.unwrap_or(machine.cpu_millis),
            memory_bytes: bytes("capacity.memory", &self.capacity.memory, machine.memory_bytes)?,
            disk_bytes: bytes("capacity.disk", &self.capacity.disk, machine.disk_bytes)?,
        })
    }

    /// What the members need to know.
    ///
    /// # Errors
    /// `INVALID_FIELD` on a value that [`Config::check`] would have refused.
    pub fn members(&self) -> Result<MembersConfig, Error> {
        Ok(MembersConfig {
            state_dir: self.state_dir.clone(),
            run_dir: self.run_dir.clone(),
            run_as: self.run_as.clone(),
            engine_dirs: self.engine_search_dirs.clone(),
            process_host: self.process_host,
            bind_address: self.bind(),
            stop_grace: self.stop_grace.unsigned_abs(),
            start_timeout: self.start_timeout.unsigned_abs(),
            check_every: self.check_every.unsigned_abs().max(Duration::from_millis(10)),
            disk_floor_bytes: self.floor()?,
            warm_pool: self.warm_pool,
        })
    }

    fn bind(&self) -> String {
        match &self.bind_address {
            Some(address) => address.clone(),
            None if self.address.parse::<IpAddr>().is_ok() => self.address.clone(),
            None => "*".to_owned(),
        }
    }

    fn floor(&self) -> Result<u64, Error> {
        parse_bytes("disk_floor", &self.disk_floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_core::size::GIB;
    use windlass_kit::config::parse;

    #[test]
    fn every_wrong_value_is_named_at_once() {
        let config: Config = parse(
            "state_dir = \"here\"\nport_low = 80\nhost_name = \"Not A Name\"\ncheck_every = \"0s\"\ndisk_floor = \"much\"\n",
            "agent.toml",
        )
        .expect("parses");
        let error = config.check().expect_err("wrong");
        let fields: Vec<_> = error.violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["state_dir", "endpoints", "port_low", "check_every", "host_name", "disk_floor"]);
    }

    #[test]
    fn a_slip_in_a_key_is_answered_with_line_and_suggestion() {
        let error = parse::<Config>("port_low = 1\nprot_high = 2\n", "agent.toml").expect_err("unknown");
        assert!(error.message.starts_with("prot_high: unknown field"), "{error}");
        assert!(error.message.contains("line 2") && error.message.ends_with("did you mean port_high?"), "{error}");
    }

    #[test]
    fn capacity_is_what_the_machine_has_unless_it_is_set() {
        let config: Config = parse("[capacity]\nmemory = \"2GiB\"\n", "agent.toml").expect("parses");
        let machine = Resources { cpu_millis: 4000, memory_bytes: 64 * GIB, disk_bytes: 100 * GIB };
        let capacity = config.capacity(machine).expect("sizes");
        assert_eq!(capacity, Resources { memory_bytes: 2 * GIB, ..machine });
    }

    #[test]
    fn databases_bind_to_the_address_if_it_is_an_ip_address() {
        let config = |text: &str| parse::<Config>(text, "agent.toml").expect("parses").bind();
        assert_eq!(config(""), "127.0.0.1");
        assert_eq!(config("address = \"db-1.example\""), "*");
        assert_eq!(config("address = \"db-1.example\"\nbind_address = \"10.0.0.1\""), "10.0.0.1");
    }
}
