//! Where the demo's state lives.
//!
//! Under `target/demo`, unless the databases' user could not reach it there (an ancestor is closed to others) or the
//! paths of unix sockets would be too long; then in a private directory of the temp directory, linked from there.
//! Invariant: what an earlier demo left behind is stopped and removed before a new one begins.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::processes;
use crate::database_user::DatabaseUser;
use crate::workspace;

/// Longest base path that leaves room for `/host-99/run/<member>/.s.PGSQL.65535` within a socket's 107 bytes.
const LONGEST_BASE: usize = 50;

/// The directories of one demo.
pub(crate) struct Place {
    /// `target/demo`.
    pub(crate) front: PathBuf,
    /// Where the state really is.
    pub(crate) state: PathBuf,
}

impl Place {
    /// Makes the directories afresh.
    ///
    /// # Errors
    /// The system refused.
    pub(crate) fn make(user: DatabaseUser) -> Result<Self> {
        let front = workspace::target().join("demo");
        std::fs::create_dir_all(&front).with_context(|| format!("cannot make {}", front.display()))?;
        let link = front.join("state");
        if let Ok(old) = link.canonicalize() {
            processes::stop_recorded(&old)?;
            std::fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
        if link.symlink_metadata().is_ok() {
            std::fs::remove_file(&link)?;
        }
        let near = front.canonicalize()?.join("state");
        let fits = near.as_os_str().len() <= LONGEST_BASE;
        let state = if fits && reachable(&near, user)? {
            std::fs::create_dir(&near)?;
            near
        } else {
            let far = tempfile::Builder::new().prefix("windlass-demo-").tempdir()?.keep();
            symlink(&far, &link)?;
            far
        };
        // Others may pass through to what they own inside, but not look around.
        let mode = if matches!(user, DatabaseUser::Myself) { 0o700 } else { 0o711 };
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(mode))?;
        Ok(Self { front, state })
    }

    /// A directory inside the state, made if missing.
    ///
    /// # Errors
    /// The system refused.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.state.join(name);
        std::fs::create_dir_all(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711))?;
        Ok(path)
    }

    /// Where the log of a program is. Logs outlive the demo.
    pub(crate) fn log(&self, program: &str) -> PathBuf {
        self.front.join(format!("{program}.log"))
    }

    /// Removes the state, keeping the logs.
    ///
    /// # Errors
    /// The system refused.
    pub(crate) fn remove(&self) -> Result<()> {
        std::fs::remove_dir_all(&self.state).with_context(|| format!("cannot remove {}", self.state.display()))?;
        for leftover in ["state", "env"] {
            let path = self.front.join(leftover);
            if path.symlink_metadata().is_ok() {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Whether the databases' user may pass through every ancestor.
fn reachable(path: &Path, user: DatabaseUser) -> Result<bool> {
    if matches!(user, DatabaseUser::Myself) {
        return Ok(true);
    }
    for ancestor in path.ancestors().skip(1) {
        if std::fs::metadata(ancestor)?.permissions().mode() & 0o001 == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}
