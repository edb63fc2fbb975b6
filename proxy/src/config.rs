//! What an operator can set, with its defaults and limits.
//!
//! A value comes from the first of: command line, environment, file, default. Invariant: a [`Config`] that passed
//! [`Config::check`] needs no further check.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use jiff::SignedDuration;
use serde::Deserialize;
use windlass_core::{Error, error::FieldViolation, name::ResourceName, size::parse_bytes};
use windlass_kit::telemetry::TelemetryConfig;

use crate::{hold::Budget, limits::Most, routes::Pooling};

/// The whole configuration of a proxy.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Directory for the identity, the routes and the hand-over socket.
    pub state_dir: PathBuf,
    /// Name of this proxy, a DNS label; absent means the machine's name.
    pub proxy_name: Option<String>,
    /// Addresses of the control plane, `https://host:port`, at least one.
    pub endpoints: Vec<String>,
    /// File with the join token. Needed until the proxy has enrolled; `WINDLASS_JOIN_TOKEN` wins over it.
    pub join_token_file: Option<PathBuf>,
    /// Where clients of PostgreSQL connect.
    pub listen: SocketAddr,
    /// Name or address that clients are told; absent means the address of `listen`.
    pub address: Option<String>,
    /// Instances are reached as `INSTANCE.PROJECT.DOMAIN`; empty: only by user suffix or a fixed port.
    pub domain: String,
    /// Ports for one instance each: `6001 = "app.team"`.
    pub fixed_ports: BTreeMap<String, String>,
    /// Whether clients without TLS are served.
    pub plaintext: Plaintext,
    /// How server connections are shared unless the instance says otherwise.
    pub pooling: Pooling,
    /// The certificate that clients see; absent means one from the control plane.
    pub tls: TlsConfig,
    /// Whether load balancers before the proxy say who the client is.
    pub proxy_protocol: ProxyProtocolConfig,
    /// Who may come in.
    pub limits: LimitsConfig,
    /// How much may be held.
    pub hold: HoldConfig,
    /// How the process ends.
    pub drain: DrainConfig,
    /// Where Prometheus asks, by plain HTTP; absent: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// The log.
    pub log: TelemetryConfig,
}

/// Whether clients without TLS are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plaintext {
    /// They are told to use TLS.
    Refuse,
    /// They are. For networks that are private, and for benchmarks.
    Allow,
}

/// The certificate that clients see. Both files or none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Chain in PEM, leaf first. Read again when it changes.
    pub cert_file: Option<PathBuf>,
    /// Private key in PEM.
    pub key_file: Option<PathBuf>,
}

/// PROXY protocol, version 2.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyProtocolConfig {
    /// Networks whose connections must begin with a header, as `10.0.0.0/8`; empty: none is expected.
    pub trusted: Vec<String>,
}

/// Who may come in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Clients of the whole process.
    pub clients: u32,
    /// Clients of one instance, unless it says otherwise.
    pub clients_per_instance: u32,
    /// Clients of one user of an instance, unless the instance says otherwise.
    pub clients_per_user: u32,
    /// Connections to one backend, unless the instance says otherwise.
    pub backends: u32,
    /// Clients that have not said who they are; beyond, the one that took longest is closed.
    pub starting: u32,
    /// How long a client may take to say who it is.
    pub startup_timeout: SignedDuration,
}

/// How much may be held in the whole process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HoldConfig {
    /// Clients at once.
    pub clients: u64,
    /// Bytes that they have sent, for example `"64MiB"`.
    pub bytes: String,
    /// How long one is held, unless its instance says otherwise.
    pub time: SignedDuration,
}

/// How the process ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrainConfig {
    /// After SIGTERM: how long clients may go on before they are closed between transactions.
    pub patience: SignedDuration,
    /// After a hand-over to a new process: the same.
    pub handover_patience: SignedDuration,
    /// How long running transactions may take after that.
    pub grace: SignedDuration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("/var/lib/windlass-proxy"),
            proxy_name: None,
            endpoints: Vec::new(),
            join_token_file: None,
            listen: SocketAddr::from(([0, 0, 0, 0], 6432)),
            address: None,
            domain: String::new(),
            fixed_ports: BTreeMap::new(),
            plaintext: Plaintext::Refuse,
            pooling: Pooling::Session,
            tls: TlsConfig::default(),
            proxy_protocol: ProxyProtocolConfig::default(),
            limits: LimitsConfig::default(),
            hold: HoldConfig::default(),
            drain: DrainConfig::default(),
            metrics_listen: None,
            log: TelemetryConfig::default(),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            clients: 20_000,
            clients_per_instance: 10_000,
            clients_per_user: 10_000,
            backends: 60,
            starting: 2_000,
            startup_timeout: SignedDuration::from_secs(10),
        }
    }
}

impl Default for HoldConfig {
    fn default() -> Self {
        Self { clients: 10_000, bytes: "64MiB".to_owned(), time: SignedDuration::from_secs(15) }
    }
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self {
            patience: SignedDuration::ZERO,
            handover_patience: SignedDuration::from_mins(60),
            grace: SignedDuration::from_secs(30),
        }
    }
}

/// A port for one instance: its number and `instance.project`.
pub type FixedPort = (u16, String);

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
        need(
            self.state_dir.is_absolute(),
            "state_dir",
            format!("{} is not an absolute path", self.state_dir.display()),
        );
        need(!self.endpoints.is_empty(), "endpoints", "is empty; name at least one, as https://host:port".to_owned());
        for endpoint in &self.endpoints {
            need(endpoint.starts_with("https://"), "endpoints", format!("{endpoint:?} is not https://host:port"));
        }
        need(
            self.tls.cert_file.is_some() == self.tls.key_file.is_some(),
            "tls",
            "has only one of cert_file and key_file; set both or none".to_owned(),
        );
        need(
            self.address.is_some() || !self.listen.ip().is_unspecified(),
            "address",
            format!("is not set, and {} is no address that clients could be told; set it", self.listen.ip()),
        );
        let domain_ok = self.domain.is_empty() || rustls::pki_types::DnsName::try_from(self.domain.as_str()).is_ok();
        need(domain_ok, "domain", format!("{:?} is no DNS name", self.domain));
        for (field, value) in [
            ("limits.clients", self.limits.clients),
            ("limits.clients_per_instance", self.limits.clients_per_instance),
            ("limits.clients_per_user", self.limits.clients_per_user),
            ("limits.backends", self.limits.backends),
            ("limits.starting", self.limits.starting),
        ] {
            need((1..=1_000_000).contains(&value), field, format!("is {value}; it may be 1 to 1000000"));
        }
        let hour = SignedDuration::from_hours(1);
        for (field, value, least, most) in [
            ("limits.startup_timeout", self.limits.startup_timeout, SignedDuration::from_millis(100), hour),
            ("hold.time", self.hold.time, SignedDuration::ZERO, hour),
            ("drain.patience", self.drain.patience, SignedDuration::ZERO, hour * 24),
            ("drain.handover_patience", self.drain.handover_patience, SignedDuration::ZERO, hour * 24),
            ("drain.grace", self.drain.grace, SignedDuration::ZERO, hour),
        ] {
            need((least..=most).contains(&value), field, format!("{value:#} is outside {least:#} to {most:#}"));
        }
        let parts = [
            self.name().map(drop),
            self.ports().map(drop),
            self.trusted().map(drop),
            parse_bytes("hold.bytes", &self.hold.bytes).map(drop),
        ];
        wrong.extend(parts.into_iter().filter_map(Result::err).flat_map(|error| error.violations));
        if wrong.is_empty() { Ok(()) } else { Err(Error::violations(wrong)) }
    }

    /// The name of this proxy.
    ///
    /// # Errors
    /// `INVALID_FIELD` on `proxy_name` if it is no DNS label.
    pub fn name(&self) -> Result<String, Error> {
        let name = match &self.proxy_name {
            Some(name) => name.clone(),
            None => {
                let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
                machine.trim().split('.').next().unwrap_or_default().to_ascii_lowercase()
            }
        };
        ResourceName::parse("proxy_name", &name)?;
        Ok(name)
    }

    /// Ports for one instance each.
    ///
    /// # Errors
    /// `INVALID_FIELD` on `fixed_ports`.
    pub fn ports(&self) -> Result<Vec<FixedPort>, Error> {
        let wrong = |what: String| Error::invalid("fixed_ports", what);
        self.fixed_ports
            .iter()
            .map(|(port, key)| {
                let number = port.parse::<u16>().map_err(|_| wrong(format!("{port:?} is no port")))?;
                let (instance, project) = key
                    .split_once('.')
                    .ok_or_else(|| wrong(format!("{key:?} is not INSTANCE.PROJECT, as in 6001 = \"app.team\"")))?;
                ResourceName::parse("fixed_ports", instance)?;
                ResourceName::parse("fixed_ports", project)?;
                Ok((number, key.clone()))
            })
            .collect()
    }

    /// Networks that are trusted to say who the client is.
    ///
    /// # Errors
    /// `INVALID_FIELD` on `proxy_protocol.trusted`.
    pub fn trusted(&self) -> Result<Vec<Network>, Error> {
        self.proxy_protocol.trusted.iter().map(|text| Network::parse(text)).collect()
    }

    /// Who may come in.
    pub fn most(&self) -> Most {
        Most {
            clients: self.limits.clients,
            clients_per_instance: self.limits.clients_per_instance,
            clients_per_user: self.limits.clients_per_user,
            backends: self.limits.backends,
        }
    }

    /// How much may be held.
    ///
    /// # Errors
    /// `INVALID_FIELD` on `hold.bytes`.
    pub fn budget(&self) -> Result<Budget, Error> {
        Ok(Budget {
            clients: self.hold.clients,
            bytes: parse_bytes("hold.bytes", &self.hold.bytes)?,
            time: self.hold.time.unsigned_abs(),
        })
    }
}

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::invalid("proxy_protocol.trusted", format!("{text:?} is no network; write for example 10.0.0.0/8"))
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most { Err(wrong()) } else { Ok(Self { address, bits }) }
    }

    /// Whether the address is one of it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |own: u128, other: u128, width: u8| {
            let shift = u32::from(width - self.bits);
            own.checked_shr(shift).unwrap_or(0) == other.checked_shr(shift).unwrap_or(0)
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => same(own.to_bits().into(), other.to_bits().into(), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => same(own.to_bits(), other.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use windlass_kit::config::parse;

    use super::*;

    #[test]
    fn every_wrong_value_is_named_at_once() {
        let text = "state_dir = \"here\"\ndomain = \"a b\"\nproxy_name = \"Not A Name\"\n[tls]\ncert_file = \"/c\"\n\
                    [fixed_ports]\n6001 = \"db\"\n[limits]\nclients = 0\n[proxy_protocol]\ntrusted = [\"10.0.0.0/40\"]\n\
                    [hold]\nbytes = \"much\"\ntime = \"2h\"\n";
        let error = parse::<Config>(text, "proxy.toml").expect("parses").check().expect_err("wrong");
        let fields: Vec<_> = error.violations.iter().map(|violation| violation.field.as_str()).collect();
        let expected = [
            "state_dir",
            "endpoints",
            "tls",
            "address",
            "domain",
            "limits.clients",
            "hold.time",
            "proxy_name",
            "fixed_ports",
            "proxy_protocol.trusted",
            "hold.bytes",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn networks_contain_what_begins_with_their_bits() {
        let contains = |network: &str, address: &str| {
            Network::parse(network).expect(network).contains(address.parse().expect(address))
        };
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.1.2.3", "10.1.2.3") && !contains("10.1.2.3", "10.1.2.4"));
        assert!(contains("10.0.0.0/8", "::ffff:10.0.0.1"), "a socket of both families");
        assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("2001:db8::/32", "2001:db8::1") && contains("::/0", "::1"));
    }
}
