//! The files that the agent owns for a PostgreSQL server.
//!
//! `windlass.conf` has three layers, the last of which wins: what is good for every server and the user may change,
//! the goal's parameters, and what Windlass manages. The rules of failover rest on some of the managed ones: hint bits
//! in the log and checksums for a rejoin, no restart by the server itself, commits that are on disk when acknowledged.

use std::{collections::BTreeMap, ffi::OsString, fmt::Write as _, path::Path, time::Duration};

use tokio_util::sync::CancellationToken;
use windlass_core::{Error, ErrorKind, Reason};

use super::access::{Followers, Gate, client_authentication, identities};
use crate::{
    engines::{Kinship, Network, OwnedFile, Rendered, Server},
    host::{
        files,
        helper::{Helper, Priority},
    },
};

pub(super) const HEADER: &str =
    "# Written by the Windlass agent. Changes by hand are put back; use `windlass param`.\n";
const LIMIT: Duration = Duration::from_secs(30);
/// Loaded into every server that has it, so that statistics are there when they are needed.
const STATISTICS: &str = "pg_stat_statements";
/// Longest cluster name: NAMEDATALEN - 1.
const CLUSTER_NAME_MAX: usize = 63;

/// Good for every server; the user may change them.
const BASE: &[(&str, &str)] = &[
    ("synchronous_commit", "on"),
    ("max_standby_streaming_delay", "500ms"),
    ("max_wal_senders", "10"),
    ("max_replication_slots", "10"),
    ("max_slot_wal_keep_size", "1GB"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("log_checkpoints", "off"),
    ("log_timezone", "UTC"),
    ("timezone", "UTC"),
    // A client whose host is gone keeps its locks for half a minute at most.
    ("tcp_keepalives_idle", "15"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "30s"),
];

/// Windlass manages these.
const MANAGED: &[(&str, &str)] = &[
    ("ssl", "on"),
    ("ssl_min_protocol_version", "TLSv1.2"),
    ("password_encryption", "scram-sha-256"),
    ("unix_socket_permissions", "0700"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("restart_after_crash", "off"),
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("wal_level", "replica"),
    ("wal_log_hints", "on"),
    ("hot_standby", "on"),
    ("archive_mode", "off"),
    ("allow_system_table_mods", "off"),
];

pub(super) fn render(server: &Server, parameters: &BTreeMap<String, String>) -> Result<Rendered, Error> {
    let site = &server.site;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let mut settings: BTreeMap<String, String> = pairs(BASE);
    settings.extend(parameters.clone());
    let preload = settings.remove("shared_preload_libraries").unwrap_or_default();
    settings.extend(pairs(MANAGED));
    settings.insert("shared_preload_libraries".to_owned(), preloaded(server, &preload));
    let (listen, port) = match &server.network {
        Network::SocketOnly => (String::new(), server.port()),
        Network::Tcp { bind, port } => (bind.clone(), *port),
    };
    let mut title: String = server.title.chars().filter(char::is_ascii_graphic).collect();
    title.truncate(CLUSTER_NAME_MAX);
    let own = [
        ("listen_addresses", listen),
        ("port", port.to_string()),
        ("unix_socket_directories", path(&site.socket_dir)),
        ("hba_file", path(&site.conf.join("pg_hba.conf"))),
        ("ident_file", path(&site.conf.join("pg_ident.conf"))),
        ("cluster_name", title),
        ("ssl_cert_file", path(&site.tls.join("server.crt"))),
        ("ssl_key_file", path(&site.tls.join("server.key"))),
        // Members and proxies prove themselves with certificates of this CA.
        ("ssl_ca_file", path(&site.tls.join("ca.crt"))),
    ];
    settings.extend(own.map(|(name, value)| (name.to_owned(), value)));
    if server.network == Network::SocketOnly {
        // A directory that is being prepared has no certificate and no clients.
        settings.insert("ssl".to_owned(), "off".to_owned());
        settings.remove("ssl_ca_file");
    }
    let mut text = HEADER.to_owned();
    for (name, value) in &settings {
        check_entry(name, value)?;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
    }
    let file = |directory: &Path, name: &str, text: String| OwnedFile { path: directory.join(name), text };
    let mut files = Vec::new();
    match server.kinship {
        Kinship::Single => {
            files.push(file(&site.conf, "windlass.conf", text));
            let entry = client_authentication(server, Gate::Open, Followers::None);
            files.push(file(&site.conf, "pg_hba.conf", entry));
            files.push(file(&site.conf, "pg_ident.conf", identities(server, &[])));
        }
        Kinship::Replicated => {
            // A missing file must be an error: without it the server would wait for nobody.
            text.push_str("include 'replication.conf'\n");
            files.push(file(&site.conf, "windlass.conf", text));
        }
    }
    files.extend(in_data(server));
    Ok(Rendered { files, settings })
}

/// The files in the data directory: nothing is in them. A copy of another server's directory has that one's.
pub(super) fn in_data(server: &Server) -> [OwnedFile; 2] {
    let site = &server.site;
    let main = site.conf.join("windlass.conf").to_string_lossy().replace('\'', "''");
    let include = format!("{HEADER}include '{main}'\n");
    [("postgresql.conf", include), ("postgresql.auto.conf", HEADER.to_owned())]
        .map(|(name, text)| OwnedFile { path: site.data.join(name), text })
}

/// `postgres -C` reads the whole file and exits; it needs no lock on the data directory.
pub(super) async fn check(server: &Server, rendered: &Rendered, cancel: &CancellationToken) -> Result<(), Error> {
    let candidate = server.site.conf.join("windlass.conf.check");
    let text = rendered.files.first().map(|file| file.text.as_str()).unwrap_or_default();
    files::write_derived(&candidate, text.as_bytes(), 0o644, files::Owner::Agent)?;
    let mut config_file = OsString::from("config_file=");
    config_file.push(&candidate);
    let helper = Helper {
        program: &server.installation.server,
        arguments: vec![
            "-D".into(),
            server.site.data.clone().into_os_string(),
            "-c".into(),
            config_file,
            "-C".into(),
            "config_file".into(),
        ],
        directory: &server.site.scratch,
        account: &server.accounts.database,
        priority: Priority::Normal,
        limit: LIMIT,
    };
    let finished = helper.run(cancel).await;
    windlass_kit::files::remove(&candidate)?;
    let finished = finished?;
    if finished.success {
        return Ok(());
    }
    let complaint = |line: &&str| ["LOG:", "FATAL:", "ERROR:"].iter().any(|level| line.contains(level));
    let said: Vec<&str> =
        finished.errors.lines().filter(complaint).filter(|line| !line.contains("contains errors")).collect();
    Err(Error::new(
        ErrorKind::InvalidArgument,
        Reason::ParameterInvalid,
        format!("PostgreSQL refuses the parameters: {}", files::last_lines(&said.join("\n"), 4)),
    ))
}

/// The user's libraries behind ours.
fn preloaded(server: &Server, wanted: &str) -> String {
    let ours = has_library(server, STATISTICS).then_some(STATISTICS);
    let others = wanted.split(',').map(str::trim).filter(|library| !library.is_empty() && Some(*library) != ours);
    ours.into_iter().chain(others).collect::<Vec<_>>().join(",")
}

/// Whether the server has this module: its library directory is beside the programs, or below `lib/postgresql`.
pub(super) fn has_library(server: &Server, library: &str) -> bool {
    let program =
        std::fs::canonicalize(&server.installation.server).unwrap_or_else(|_| server.installation.server.clone());
    let Some(root) = program.parent().and_then(Path::parent) else { return false };
    ["lib", "lib/postgresql", "lib64", "lib64/postgresql"]
        .iter()
        .any(|directory| root.join(directory).join(format!("{library}.so")).is_file())
}

/// A file of lines: whatever would start a new one or another setting is refused.
fn check_entry(name: &str, value: &str) -> Result<(), Error> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let why = if name.is_empty() || !name.chars().all(legal) {
        "is not the name of a parameter"
    } else if value.contains(['\n', '\r', '\0']) {
        "has a value with a line break"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::InvalidArgument, Reason::ParameterInvalid, format!("parameters.{name}: {why}")))
}

fn pairs(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::server::sample;

    fn text(parameters: &[(&str, &str)]) -> String {
        render(&sample(), &pairs(parameters)).expect("render").files[0].text.clone()
    }

    #[test]
    fn the_managed_layer_wins_and_values_are_quoted() {
        let text = text(&[("fsync", "off"), ("work_mem", "64MB"), ("search_path", "\"it's\", public")]);
        assert!(text.contains("fsync = 'on'") && !text.contains("fsync = 'off'"), "{text}");
        assert!(text.contains("work_mem = '64MB'"), "{text}");
        assert!(text.contains("search_path = '\"it''s\", public'"), "{text}");
    }

    #[test]
    fn a_line_break_or_a_strange_name_is_refused() {
        for (name, value) in [("work_mem", "1\nfsync=off"), ("a = 'b'\nfsync", "x"), ("", "x")] {
            let error = render(&sample(), &pairs(&[(name, value)])).expect_err(name);
            assert_eq!(error.reason, Reason::ParameterInvalid);
        }
    }
}
