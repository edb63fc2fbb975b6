//! Makes a data directory by initdb, and tells whether one is ours to run.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use windlass_core::{Error, ErrorKind, Reason};

use super::SUPERUSER;
use crate::{
    engines::Server,
    host::{
        files,
        helper::{Helper, Priority},
    },
};

/// A slow disk may take long over the final fsync; a hung one shall not hold the order for ever.
const LIMIT: Duration = Duration::from_secs(300);

/// initdb syncs everything at its end: what it made survives power loss.
pub(super) async fn initialise(server: &Server, priority: Priority, cancel: &CancellationToken) -> Result<(), Error> {
    let site = &server.site;
    let mut arguments = vec!["-D".into(), site.data.clone().into_os_string(), "-U".into(), SUPERUSER.into()];
    let options = [
        "--data-checksums",
        "--auth-local=peer",
        "--auth-host=scram-sha-256",
        "--encoding=UTF8",
        // The collation order of `C` does not change below an index when the operating system is upgraded.
        "--locale=C.UTF-8",
        "--no-instructions",
    ];
    arguments.extend(options.map(Into::into));
    let helper = Helper {
        program: &server.installation.initialiser,
        arguments,
        directory: &site.scratch,
        account: &server.accounts.database,
        priority,
        limit: LIMIT,
    };
    let finished = helper.run(cancel).await?;
    if finished.success {
        return Ok(());
    }
    let said = finished.last_lines();
    if files::says_disk_full(&said) {
        return Err(files::disk_full(format!("no space left while initialising a data directory: {said}")));
    }
    Err(Error::new(ErrorKind::Internal, Reason::InitFailed, format!("initdb failed: {said}")))
}

/// `PG_VERSION` holds the major version that made the directory.
pub(super) fn check_data(server: &Server) -> Result<(), Error> {
    let (path, wanted) = (server.site.data.join("PG_VERSION"), &server.installation.version);
    let found = files::read_text(&path)?;
    match found.as_deref().map(str::trim) {
        Some(version) if version == wanted => Ok(()),
        Some(version) => Err(Error::precondition(
            Reason::DataDirectoryInvalid,
            format!(
                "{} was made by PostgreSQL {version}, but the goal is {wanted}; a major upgrade is another operation",
                server.site.data.display()
            ),
        )),
        None => Err(Error::precondition(
            Reason::DataDirectoryInvalid,
            format!("{} is no data directory of PostgreSQL: it has no PG_VERSION", server.site.data.display()),
        )),
    }
}
