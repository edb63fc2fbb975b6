//! Makes a diverged directory a part of the leader's history by pg_rewind.
//!
//! The program believes the timeline in the leader's control file: before the leader's first checkpoint it says "no rewind
//! required" of a diverged directory. So the caller asks first ([`super::look_at_leader`]). A marker lies beside the
//! directory while it is rewound: one that was left half rewound is not trusted again. What it throws away of the log is
//! put aside first.

use std::{path::Path, time::Duration};

use tokio_util::sync::CancellationToken;
use windlass_core::{Error, Reason};

use super::{Lsn, Recovering, Upstream, conf, lineage::segment_name, lost_writes};
use crate::{
    engines::Server,
    host::{
        files,
        helper::{Helper, Priority},
    },
};

/// It reads the whole difference over the network.
const LIMIT: Duration = Duration::from_secs(6 * 3600);

/// What a rewind left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewound {
    /// What was committed behind the fork, for people.
    pub lost_writes: String,
}

/// What is to be rewound.
#[derive(Debug, Clone, Copy)]
pub struct Divergence<'a> {
    /// The own timeline.
    pub timeline: u32,
    /// The last common position.
    pub fork: Lsn,
    /// Bytes of a segment of the log.
    pub segment: u64,
    /// Where the log behind the fork is put.
    pub aside: &'a Path,
}

/// Rewinds. The server does not run and was stopped in order.
///
/// # Errors
/// `DATA_DIRECTORY_INVALID` if it failed: the directory is not to be trusted. `OPERATION_CANCELLED`.
pub async fn rewind(
    server: &Server,
    upstream: &Upstream,
    divergence: Divergence<'_>,
    cancel: &CancellationToken,
) -> Result<Rewound, Error> {
    let lost = lost_writes(server, divergence.timeline, divergence.fork).await?;
    keep_log(server, divergence)?;
    // A server in single-user mode, which the program may start, refuses to be a standby.
    conf::mark(server, Recovering::No)?;
    let helper = Helper {
        program: &server.installation.server.with_file_name("pg_rewind"),
        arguments: vec![
            "--target-pgdata".into(),
            server.site.data.clone().into_os_string(),
            "--source-server".into(),
            upstream.conninfo(server).into(),
        ],
        directory: &server.site.scratch,
        account: &server.accounts.database,
        priority: Priority::Normal,
        limit: LIMIT,
    };
    let finished = helper.run(cancel).await?;
    if !finished.success {
        let message = format!("pg_rewind failed: {}", finished.last_lines());
        return Err(Error::precondition(Reason::DataDirectoryInvalid, message));
    }
    conf::mark(server, Recovering::Yes)?;
    Ok(Rewound { lost_writes: lost })
}

/// Copies the segments with anything behind the fork.
fn keep_log(server: &Server, divergence: Divergence<'_>) -> Result<(), Error> {
    let log = server.site.data.join("pg_wal");
    let first = segment_name(Lsn(divergence.fork.0 + 1), divergence.segment);
    let timeline = format!("{:08X}", divergence.timeline);
    for name in files::names_in(&log)? {
        let history = name.ends_with(".history");
        let behind = name.len() == 24 && name.starts_with(&timeline) && name[8..] >= first[..];
        if history || behind {
            let to = divergence.aside.join(&name);
            std::fs::copy(log.join(&name), &to).map_err(|error| files::failed("write", &to, error))?;
        }
    }
    windlass_kit::files::sync_directory(divergence.aside)
        .map_err(|error| files::failed("sync", divergence.aside, error))
}
