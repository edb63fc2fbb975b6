//! Makes a data directory by mariadb-install-db, and tells whether one is ours to run.

use std::{ffi::OsString, time::Duration};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use windlass_core::{Error, ErrorKind, Reason};

use crate::{
    engines::Server,
    host::{
        files,
        helper::{Helper, Priority},
    },
};

const LIMIT: Duration = Duration::from_secs(300);
/// MariaDB gives its data no identity of its own (`server_uid` follows from the machine), so the agent does.
pub(super) const IDENTITY: &str = "windlass_identity";

pub(super) async fn initialise(server: &Server, priority: Priority, cancel: &CancellationToken) -> Result<(), Error> {
    let (site, accounts) = (&server.site, &server.accounts);
    let option = |name: &str, value: &std::ffi::OsStr| {
        let mut option = OsString::from(format!("--{name}="));
        option.push(value);
        option
    };
    let arguments = vec![
        "--no-defaults".into(),
        option("datadir", site.data.as_os_str()),
        option("tmpdir", site.scratch.as_os_str()),
        option("auth-root-socket-user", accounts.agent.name.as_ref()),
        "--auth-root-authentication-method=socket".into(),
        "--skip-test-db".into(),
        "--skip-name-resolve".into(),
    ];
    let helper = Helper {
        program: &server.installation.initialiser,
        arguments,
        directory: &site.scratch,
        account: &accounts.database,
        priority,
        limit: LIMIT,
    };
    let finished = helper.run(cancel).await?;
    if !finished.success {
        let said = finished.last_lines();
        if files::says_disk_full(&said) {
            return Err(files::disk_full(format!("no space left while initialising a data directory: {said}")));
        }
        return Err(Error::new(ErrorKind::Internal, Reason::InitFailed, format!("mariadb-install-db failed: {said}")));
    }
    let identity = site.data.join(IDENTITY);
    let owner = files::Owner::Database(accounts);
    files::write_derived(&identity, Uuid::new_v4().to_string().as_bytes(), 0o640, owner)
}

/// The upgrade marker holds the version that last made or upgraded the system tables.
pub(super) fn check_data(server: &Server) -> Result<(), Error> {
    let (data, wanted) = (&server.site.data, &server.installation.version);
    let mut marker = None;
    for name in ["mariadb_upgrade_info", "mysql_upgrade_info"] {
        marker = marker.or(files::read_text(&data.join(name))?);
    }
    let wrong =
        |why: String| Err(Error::precondition(Reason::DataDirectoryInvalid, format!("{} {why}", data.display())));
    match marker.as_deref().map(str::trim) {
        Some(version) if version.starts_with(&format!("{wanted}.")) => Ok(()),
        Some(version) => wrong(format!(
            "was made by MariaDB {version}, but the goal is {wanted}; a major upgrade is another operation"
        )),
        None if data.join("mysql").is_dir() => Ok(()),
        None => wrong("is no data directory of MariaDB: it has no system tables".to_owned()),
    }
}
