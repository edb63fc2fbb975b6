//! The part of the configuration that follows from a member's role: `replication.conf`, who may enter, and the file that
//! says that a directory is a standby's.
//!
//! Why a file of its own: parameters are the goal's and change by orders of one kind, roles by orders of another. The
//! numbers are what detection and promotion rest on: a silent leader is noticed in 1.5 s, a lost connection is tried
//! again after 0.1 s, and a query on a standby holds the replay up for half a second at most.

use std::path::Path;

use windlass_core::{Error, id::MemberId, replication};

use super::super::{
    access::{Followers, Gate, REPLICATION_ROLE, client_authentication, identities},
    conf::{HEADER, in_data},
};
use crate::{
    engines::{OwnedFile, Server},
    host::files::{self, Owner},
};

/// Its presence makes a starting server a standby; its absence makes it a primary.
const STANDBY_SIGNAL: &str = "standby.signal";

const MANAGED: &[(&str, &str)] = &[
    ("wal_receiver_timeout", "1500ms"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_sender_timeout", "3s"),
    ("wal_retrieve_retry_interval", "100ms"),
    ("max_standby_streaming_delay", "500ms"),
    ("recovery_min_apply_delay", "0"),
    ("recovery_target_timeline", "latest"),
    // A follower that was elsewhere for a moment finds what it missed even on a leader that never kept a slot for it.
    ("wal_keep_size", "128MB"),
];

/// What a server does with others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The epoch that is led; None: none is.
    pub epoch: Option<u64>,
    /// Names whose receipt releases a commit.
    pub names: Vec<String>,
    /// How many of them.
    pub needed: u32,
    /// Whom to follow.
    pub upstream: Option<Upstream>,
    /// Members that may follow this one.
    pub members: Vec<MemberId>,
    /// How a new segment of the log is made.
    pub segments: Segments,
}

/// How a new segment of the log is made (`wal_init_zero`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Segments {
    /// Written in full, so that commits need not allocate.
    #[default]
    Written,
    /// Sparse, while clients wait for the first byte of the new timeline: 16 MiB and their fsync take longer than
    /// everything else that a follower does then.
    Sparse,
}

/// How to follow another member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Host name or IP address.
    pub address: String,
    /// Port.
    pub port: u16,
    /// The streaming name.
    pub name: String,
    /// The slot on the other side.
    pub slot: String,
}

/// A standby's `synchronous_standby_names`, borne by nobody.
const NOBODY: &str = "nobody";

impl Configuration {
    /// Of a standby. Its server is to wait for receipts from before it is promoted: whether commits wait at all is a flag
    /// that only the checkpointer sets and clears, which after a reload may take as long as a checkpoint
    /// (`SyncRepUpdateSyncStandbysDefined` in PostgreSQL's `syncrep.c`), while the names are read by each process itself.
    /// One of two is most likely promoted to lead alone, and would have to wait until it is cleared.
    pub fn standby(members: Vec<MemberId>) -> Self {
        if members.len() < 2 {
            return Self { members, ..Self::default() };
        }
        Self { names: vec![NOBODY.to_owned()], needed: 1, members, ..Self::default() }
    }

    /// `synchronous_standby_names`.
    pub fn standby_names(&self) -> String {
        if self.names.is_empty() {
            return String::new();
        }
        let names: Vec<String> = self.names.iter().map(|name| format!("\"{name}\"")).collect();
        format!("ANY {} ({})", self.needed.max(1), names.join(", "))
    }

    /// `windlass.epoch`; 0 while none is led.
    pub fn epoch_text(&self) -> String {
        self.epoch.unwrap_or(0).to_string()
    }

    /// `primary_conninfo`.
    pub fn conninfo(&self, server: &Server) -> String {
        self.upstream.as_ref().map(|upstream| upstream.conninfo(server)).unwrap_or_default()
    }
}

impl Upstream {
    /// Connection string with the member's own certificate. The server's name is verified; libraries before 15 cannot
    /// verify IP addresses, so for them the CA has to do: lineage is compared before anything is believed anyway.
    pub fn conninfo(&self, server: &Server) -> String {
        let major = (server.installation.engine.descriptor().version_key)(&server.installation.version).0;
        let verifiable = major >= 15 || self.address.parse::<std::net::IpAddr>().is_err();
        let tls = |name: &str| quoted(&server.site.tls.join(name).to_string_lossy());
        format!(
            "host={} port={} user={REPLICATION_ROLE} dbname=postgres application_name={} sslmode={} sslrootcert={} \
             sslcert={} sslkey={} connect_timeout=3 keepalives_idle=2 keepalives_interval=1 keepalives_count=3 tcp_user_timeout=3000",
            quoted(&self.address),
            self.port,
            quoted(&self.name),
            if verifiable { "verify-full" } else { "verify-ca" },
            tls("ca.crt"),
            tls("server.crt"),
            tls("server.key"),
        )
    }
}

/// A value of a connection string.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The files that follow from the role.
pub fn files(server: &Server, configuration: &Configuration, gate: Gate) -> Vec<OwnedFile> {
    let conf = &server.site.conf;
    let mut text = HEADER.to_owned();
    let mut set = |name: &str, value: &str| text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
    for (name, value) in MANAGED {
        set(name, value);
    }
    set("synchronous_standby_names", &configuration.standby_names());
    set("windlass.epoch", &configuration.epoch_text());
    if configuration.segments == Segments::Sparse {
        set("wal_init_zero", "off");
    }
    set("primary_conninfo", &configuration.conninfo(server));
    set("primary_slot_name", configuration.upstream.as_ref().map_or("", |upstream| upstream.slot.as_str()));
    let entry = client_authentication(server, gate, Followers::Admitted);
    let names = identities(server, &configuration.members);
    [("replication.conf", text), ("pg_hba.conf", entry), ("pg_ident.conf", names)]
        .map(|(name, text)| OwnedFile { path: conf.join(name), text })
        .into()
}

/// The files in the data directory, which a copy of another member's has otherwise.
pub fn files_in_data(server: &Server) -> Vec<OwnedFile> {
    in_data(server).into()
}

/// Makes the directory one of a standby, or of a primary.
///
/// # Errors
/// `DISK_FULL`, `INTERNAL`.
pub fn mark(server: &Server, recovering: Recovering) -> Result<(), Error> {
    let path = server.site.data.join(STANDBY_SIGNAL);
    // Left by a backup or by hand: it would make the server recover to somewhere and become a primary.
    windlass_kit::files::remove(&server.site.data.join("recovery.signal"))?;
    match recovering {
        Recovering::Yes => files::write_derived(&path, b"", 0o600, Owner::Database(&server.accounts))?,
        Recovering::No => windlass_kit::files::remove(&path)?,
    }
    windlass_kit::files::sync_directory(&server.site.data)
        .map_err(|error| files::failed("sync", &server.site.data, error))
}

/// Whether a server is to start as a standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovering {
    /// As a standby.
    Yes,
    /// As a primary.
    No,
}

/// Whether the directory is one of a standby.
pub fn has_standby_signal(data: &Path) -> bool {
    data.join(STANDBY_SIGNAL).exists()
}

/// The slot on a leader for a follower's stream.
impl Upstream {
    /// Follows at this address under this name.
    pub fn new(address: &str, port: u16, name: String, member: MemberId) -> Self {
        Self { address: address.to_owned(), port, name, slot: replication::slot_name(member) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::server::sample;

    #[test]
    fn names_are_listed_with_how_many_are_needed() {
        let configuration = Configuration {
            epoch: Some(7),
            names: vec!["m1_e7".into(), "m2_e7".into()],
            needed: 1,
            ..Configuration::default()
        };
        assert_eq!(configuration.standby_names(), "ANY 1 (\"m1_e7\", \"m2_e7\")");
        assert_eq!(Configuration::default().standby_names(), "");
    }

    #[test]
    fn a_path_with_a_quote_stays_one_value_in_the_file() {
        let mut server = sample();
        server.site.tls = "/it's/tls".into();
        let upstream = Upstream::new("10.0.0.1", 5432, "m1_catchup".into(), MemberId::new());
        let configuration = Configuration { upstream: Some(upstream), ..Configuration::default() };
        let text = &files(&server, &configuration, Gate::Shut)[0].text;
        assert!(text.contains(r"sslkey=''/it\''s/tls/server.key''"), "{text}");
    }
}
