//! The file that the agent owns for a MariaDB server.
//!
//! Three layers, the last of which wins: what is good for every server and the user may change, the goal's parameters,
//! and what Windlass manages. Failover rests on some of the managed ones: a binary log in GTID order that is on disk
//! when a commit is acknowledged, and tables that can be replicated.

use std::{collections::BTreeMap, ffi::OsString, fmt::Write as _, path::Path, time::Duration};

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use windlass_core::{Error, ErrorKind, Reason};

use crate::{
    engines::{Network, OwnedFile, Rendered, Server},
    host::{
        files,
        helper::{Helper, Priority},
    },
};

const HEADER: &str =
    "# Written by the Windlass agent. Changes by hand are put back; use `windlass param`.\n[mariadbd]\n";
const LIMIT: Duration = Duration::from_secs(30);

/// Good for every server; the user may change them.
const BASE: &[(&str, &str)] = &[
    ("character_set_server", "utf8mb4"),
    ("binlog_format", "ROW"),
    // Three days: enough for a replica that was away over a weekend.
    ("binlog_expire_logs_seconds", "259200"),
    ("max_allowed_packet", "67108864"),
];

/// Windlass manages these.
const MANAGED: &[(&str, &str)] = &[
    ("log_bin", "binlog"),
    ("gtid_strict_mode", "ON"),
    ("log_slave_updates", "ON"),
    ("sync_binlog", "1"),
    ("innodb_flush_log_at_trx_commit", "1"),
    ("innodb_doublewrite", "ON"),
    ("default_storage_engine", "InnoDB"),
    ("enforce_storage_engine", "InnoDB"),
    ("skip_name_resolve", "ON"),
    ("local_infile", "OFF"),
    ("symbolic_links", "OFF"),
];

pub(super) fn render(server: &Server, parameters: &BTreeMap<String, String>) -> Result<Rendered, Error> {
    let site = &server.site;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let own = |name: &str, value: String| (name.to_owned(), value);
    let mut settings: BTreeMap<String, String> = pairs(BASE);
    settings.extend(parameters.iter().map(|(name, value)| (name.replace('-', "_"), value.clone())));
    settings.extend(pairs(MANAGED));
    settings.extend([
        own("datadir", path(&site.data)),
        own("tmpdir", path(&site.scratch)),
        own("socket", path(&socket(server))),
        own("pid_file", path(&site.socket_dir.join("mariadb.pid"))),
        own("server_id", server_id(&server.unit).to_string()),
    ]);
    match &server.network {
        Network::SocketOnly => settings.extend([own("skip_networking", "ON".to_owned())]),
        Network::Tcp { bind, port } => settings.extend([
            own("bind_address", bind.clone()),
            own("port", port.to_string()),
            own("require_secure_transport", "ON".to_owned()),
            own("tls_version", "TLSv1.2,TLSv1.3".to_owned()),
            own("ssl_cert", path(&site.tls.join("server.crt"))),
            own("ssl_key", path(&site.tls.join("server.key"))),
            own("ssl_ca", path(&site.tls.join("ca.crt"))),
        ]),
    }
    let mut text = HEADER.to_owned();
    for (name, value) in &settings {
        check_entry(name, value)?;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name} = {}", quote(value));
    }
    Ok(Rendered { files: vec![OwnedFile { path: file(server), text }], settings })
}

/// `--help --verbose` reads the whole file, prints it and exits without touching the data.
pub(super) async fn check(server: &Server, rendered: &Rendered, cancel: &CancellationToken) -> Result<(), Error> {
    let candidate = server.site.conf.join("windlass.cnf.check");
    let text = rendered.files.first().map(|file| file.text.as_str()).unwrap_or_default();
    files::write_derived(&candidate, text.as_bytes(), 0o644, files::Owner::Agent)?;
    let mut defaults = OsString::from("--defaults-file=");
    defaults.push(&candidate);
    let helper = Helper {
        program: &server.installation.server,
        arguments: vec![defaults, "--help".into(), "--verbose".into()],
        directory: &server.site.scratch,
        account: &server.accounts.database,
        priority: Priority::Normal,
        limit: LIMIT,
    };
    let finished = helper.run(cancel).await;
    windlass_kit::files::remove(&candidate)?;
    let finished = finished?;
    let said: Vec<&str> = finished.errors.lines().filter(|line| is_complaint(line)).collect();
    if finished.success && said.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        Reason::ParameterInvalid,
        format!("MariaDB refuses the parameters: {}", files::last_lines(&said.join("\n"), 4)),
    ))
}

/// Values out of range are only warned about and cut: that counts as refused, for the user would not get what was set.
fn is_complaint(line: &str) -> bool {
    line.contains("[ERROR]") || line.contains("adjusted to") || line.contains("Error while setting value")
}

pub(super) fn file(server: &Server) -> std::path::PathBuf {
    server.site.conf.join("windlass.cnf")
}

pub(super) fn socket(server: &Server) -> std::path::PathBuf {
    server.site.socket_dir.join("mariadb.sock")
}

/// Replication needs a number per server that no other has: 32 bits of a hash of the unit's name, never 0.
fn server_id(unit: &str) -> u32 {
    let digest: [u8; 32] = Sha256::digest(unit.as_bytes()).into();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]).max(1)
}

/// Plain words stay as they are; everything else is quoted, with the escapes that option files know.
fn quote(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.,/:*+-".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A file of lines: whatever would start a new one or another setting is refused.
fn check_entry(name: &str, value: &str) -> Result<(), Error> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
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

    #[test]
    fn the_managed_layer_wins_whatever_the_spelling() {
        let parameters =
            pairs(&[("sync-binlog", "0"), ("sql_mode", "ANSI,STRICT_ALL_TABLES"), ("init_connect", "set @a=\"b\"")]);
        let text = render(&sample(), &parameters).expect("render").files.remove(0).text;
        assert!(text.contains("sync_binlog = 1\n") && !text.contains("sync_binlog = 0"), "{text}");
        assert!(text.contains("sql_mode = ANSI,STRICT_ALL_TABLES\n"), "{text}");
        assert!(text.contains("init_connect = \"set @a=\\\"b\\\"\"\n"), "{text}");
        assert!(text.contains("require_secure_transport = ON\n"), "{text}");
    }

    #[test]
    fn a_line_break_or_a_section_is_refused() {
        for (name, value) in [("a", "1\n[client]"), ("[client]\na", "x"), ("", "x")] {
            let error = render(&sample(), &pairs(&[(name, value)])).expect_err(name);
            assert_eq!(error.reason, Reason::ParameterInvalid);
        }
    }

    #[test]
    fn servers_have_different_ids() {
        assert_ne!(server_id("a"), server_id("b"));
    }
}
