//! Copies a leader's data by pg_basebackup, over TLS, by the replication role.
//!
//! The copy is made beside the place where it shall be, and gets its name by a rename when it is whole: the leader checks
//! each page's checksum while it sends, and the program syncs what it wrote. A crash leaves `data.new`, which the next
//! copy removes.

use std::{path::Path, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_core::{Error, ErrorKind, Reason};

use super::{Recovering, Upstream, conf};
use crate::{
    engines::Server,
    host::{
        files,
        helper::{Helper, Priority},
    },
};

/// Per cent of the copy.
pub type Progress = watch::Sender<i32>;

/// The largest databases take hours; one that takes longer than this hangs.
const LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Copies into `scratch`, which must not be the data directory, then moves it there.
///
/// # Errors
/// `UNAVAILABLE` with what the program said, `DISK_FULL`, `OPERATION_CANCELLED`.
pub async fn clone(
    server: &Server,
    upstream: &Upstream,
    scratch: &Path,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    files::remove_large_tree(scratch.to_owned()).await?;
    files::make_directory(scratch, 0o700)?;
    server.accounts.give(scratch)?;
    let helper = Helper {
        program: &server.installation.server.with_file_name("pg_basebackup"),
        arguments: vec![
            "--pgdata".into(),
            scratch.as_os_str().to_owned(),
            "--dbname".into(),
            upstream.conninfo(server).into(),
            "--slot".into(),
            upstream.slot.clone().into(),
            "--wal-method=stream".into(),
            "--checkpoint=fast".into(),
            "--status-interval=1".into(),
            "--no-password".into(),
            "--progress".into(),
        ],
        directory: &server.site.scratch,
        account: &server.accounts.database,
        priority: Priority::Normal,
        limit: LIMIT,
    };
    let finished = helper
        .watched(cancel, |said| {
            if let Some(percent) = percent(said) {
                progress.send_replace(percent);
            }
        })
        .await?;
    if !finished.success {
        let said = finished.last_lines();
        if files::says_disk_full(&said) {
            return Err(files::disk_full(format!("no space left for a copy of the leader: {said}")));
        }
        let message = format!("cannot copy {}:{}: {said}", upstream.address, upstream.port);
        return Err(Error::new(ErrorKind::Unavailable, Reason::Unavailable, message));
    }
    let placed =
        Server { site: crate::engines::Site { data: scratch.to_owned(), ..server.site.clone() }, ..server.clone() };
    conf::mark(&placed, Recovering::Yes)?;
    files::move_durably(scratch, &server.site.data)
}

/// `  24576/49152 kB (50%), 0/1 tablespace`.
fn percent(said: &str) -> Option<i32> {
    let before = &said[..said.rfind("%)")?];
    before[before.rfind('(')? + 1..].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_figure_counts() {
        assert_eq!(percent("  100/400 kB (25%), 0/1 tablespace\r  200/400 kB (50%), 0/1 tablespace\r"), Some(50));
        assert_eq!(percent("waiting for checkpoint"), None);
    }
}
