//! What the control file says of a directory whose server does not run.

use std::{collections::BTreeMap, time::Duration};

use tokio_util::sync::CancellationToken;
use windlass_core::{Error, Reason};

use super::Lsn;
use crate::{
    engines::Server,
    host::helper::{Helper, Priority},
};

const LIMIT: Duration = Duration::from_secs(30);

/// The control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// System identifier.
    pub system: String,
    /// How the server ended.
    pub state: ClusterState,
    /// Start of the last checkpoint's record.
    pub checkpoint: Lsn,
    /// Where replay would begin.
    pub redo: Lsn,
    /// Timeline of the last checkpoint.
    pub timeline: u32,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// A primary, in order.
    ShutDown,
    /// A standby, in order.
    ShutDownInRecovery,
    /// Otherwise, or it runs.
    InUse,
}

/// Reads it by the engine's own program.
///
/// # Errors
/// `DATA_DIRECTORY_INVALID` if it cannot be read.
pub async fn read(server: &Server) -> Result<Control, Error> {
    let program = server.installation.server.with_file_name("pg_controldata");
    let helper = Helper {
        program: &program,
        arguments: vec!["-D".into(), server.site.data.clone().into_os_string()],
        directory: &server.site.scratch,
        account: &server.accounts.database,
        priority: Priority::Normal,
        limit: LIMIT,
    };
    let finished = helper.run(&CancellationToken::new()).await?;
    let believed = finished.success && !finished.errors.contains("warning");
    let control = believed.then(|| parse(&finished.output)).flatten();
    control.ok_or_else(|| {
        let message =
            format!("the control file below {} cannot be read: {}", server.site.data.display(), finished.last_lines());
        Error::precondition(Reason::DataDirectoryInvalid, message)
    })
}

fn parse(text: &str) -> Option<Control> {
    // A wrong check sum is only a warning of the program.
    if text.contains("WARNING") {
        return None;
    }
    let values: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim())).collect();
    Some(Control {
        system: (*values.get("Database system identifier")?).to_owned(),
        state: match *values.get("Database cluster state")? {
            "shut down" => ClusterState::ShutDown,
            "shut down in recovery" => ClusterState::ShutDownInRecovery,
            _ => ClusterState::InUse,
        },
        checkpoint: values.get("Latest checkpoint location")?.parse().ok()?,
        redo: values.get("Latest checkpoint's REDO location")?.parse().ok()?,
        timeline: values.get("Latest checkpoint's TimeLineID")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "pg_control version number:            1300\n\
        Database system identifier:           7301\n\
        Database cluster state:               shut down\n\
        pg_control last modified:             Thu 19 Nov 2026 10:00:00 AM UTC\n\
        Latest checkpoint location:           0/1500148\n\
        Latest checkpoint's REDO location:    0/1500148\n\
        Latest checkpoint's TimeLineID:       2\n";

    #[test]
    fn the_fields_that_matter_are_read() {
        let control = parse(TEXT).expect("readable");
        assert_eq!((control.system.as_str(), control.timeline), ("7301", 2));
        assert_eq!((control.state, control.checkpoint), (ClusterState::ShutDown, Lsn(0x150_0148)));
        assert_eq!(parse(&TEXT.replace("shut down", "in production")).map(|c| c.state), Some(ClusterState::InUse));
    }

    #[test]
    fn a_file_with_a_wrong_sum_is_not_believed() {
        assert_eq!(parse(&format!("WARNING: Calculated CRC checksum does not match\n{TEXT}")), None);
        assert_eq!(parse("nonsense"), None);
    }
}
