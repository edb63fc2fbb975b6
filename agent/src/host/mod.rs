//! The operating system below the agent: processes, users, files, facts of the machine.
//!
//! Why: everything else of the agent is portable and testable; only this folder makes system calls.

use serde::Deserialize;

/// Who runs the database processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostKind {
    /// systemd if this machine runs it and the agent is root, else direct.
    #[default]
    Auto,
    /// Transient units of systemd.
    Systemd,
    /// Processes of their own session, started by the agent.
    Direct,
}
