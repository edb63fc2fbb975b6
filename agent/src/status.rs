//! The status file: what `windlass-agent status` prints, written by the running agent when something changes.
//!
//! Invariant: nothing reads it but people and their tools; losing it loses nothing.

use std::{fmt::Write as _, path::Path, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::sleep};
use windlass_core::Error;
use windlass_kit::{
    files::{self, Access},
    lock::StateLock,
    shutdown::Shutdown,
};
use windlass_proto::agent::v1 as pb;

use crate::{
    commands::CommandTarget,
    link::{HostIdentity, LinkStatus},
};

/// Changes within this go into one write.
const GATHER: Duration = Duration::from_millis(500);

/// What the file says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the agent that wrote it.
    pub agent_version: String,
    /// Its process.
    pub pid: u32,
    /// How the connection stands.
    pub connection: LinkStatus,
    /// The databases.
    pub members: Vec<pb::MemberFacts>,
}

/// Keeps the file up to date until shutdown.
///
/// # Errors
/// `INTERNAL` if it cannot be written.
pub async fn keep(
    path: &Path,
    target: Arc<dyn CommandTarget>,
    mut connection: watch::Receiver<LinkStatus>,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let mut changed = target.changed();
    loop {
        changed.mark_unchanged();
        let status = Status {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            connection: connection.borrow_and_update().clone(),
            members: target.facts(),
        };
        let text = serde_json::to_vec(&status)
            .map_err(|e| Error::internal("cannot write the status as JSON").with_source(e))?;
        files::replace(path, &text, Access::Private)?;
        tokio::select! {
            () = shutdown.begun() => return Ok(()),
            Ok(()) = changed.changed() => {}
            Ok(()) = connection.changed() => {}
        }
        shutdown.token().run_until_cancelled(sleep(GATHER)).await;
    }
}

/// What a person is told about the agent of a state directory.
///
/// # Errors
/// `INTERNAL` if the files there cannot be read.
pub fn describe(state_dir: &Path) -> Result<String, Error> {
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{label:<12} {value}");
    };
    match HostIdentity::load(&state_dir.join("identity.json"))? {
        None => line("host", "has not enrolled".to_owned()),
        Some(identity) => {
            line("host", format!("{} ({})", identity.host_name(), identity.host_id()));
            line("certificate", format!("valid until {}", identity.store().current().not_after()));
        }
    }
    let running = state_dir.is_dir() && StateLock::try_take(state_dir)?.is_none();
    let status = files::read_if_there(&state_dir.join("status.json"))?;
    let status: Option<Status> = status.and_then(|text| serde_json::from_str(&text).ok());
    match status {
        Some(status) if running => {
            line("agent", format!("running, version {}, process {}", status.agent_version, status.pid));
            line("connection", connection(&status.connection));
            for member in status.members {
                let problem = if member.problem.is_empty() { String::new() } else { format!(": {}", member.problem) };
                line(
                    "member",
                    format!("{} {}{problem}", member.member_id, member.process().as_str_name().to_lowercase()),
                );
            }
        }
        Some(_) | None if running => line("agent", "starting".to_owned()),
        Some(_) | None => line("agent", "not running; databases go on without it".to_owned()),
    }
    Ok(text)
}

fn connection(status: &LinkStatus) -> String {
    let because = |problem: &str| if problem.is_empty() { String::new() } else { format!(": {problem}") };
    match status {
        LinkStatus::Enrolling { problem } => format!("enrolling{}", because(problem)),
        LinkStatus::Connecting { problem } => format!("not connected{}", because(problem)),
        LinkStatus::Connected { endpoint } => format!("connected to {endpoint}"),
        LinkStatus::Refused { problem } => format!("refused{}", because(problem)),
    }
}
