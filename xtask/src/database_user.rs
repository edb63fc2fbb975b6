//! Who runs the databases: PostgreSQL refuses to run as root, so root uses a system user, made once and kept.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::{Gid, Uid, User};

use crate::workspace;

/// Name of the system user.
pub(crate) const NAME: &str = "windlass-db";

/// The user that databases run as.
#[derive(Clone, Copy)]
pub(crate) enum DatabaseUser {
    /// Whoever runs this.
    Myself,
    /// The system user, because root runs this.
    System(Uid, Gid),
}

impl DatabaseUser {
    /// Finds the user, making the system user when root runs this and it is missing.
    ///
    /// # Errors
    /// The system user cannot be made.
    pub(crate) fn ensure() -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(Self::Myself);
        }
        if User::from_name(NAME)?.is_none() {
            workspace::run(Command::new("useradd").args([
                "--system",
                "--user-group",
                "--no-create-home",
                "--home-dir",
                "/nonexistent",
                "--shell",
                "/usr/sbin/nologin",
                NAME,
            ]))?;
        }
        let user = User::from_name(NAME)?.with_context(|| format!("the system user {NAME} is still missing"))?;
        Ok(Self::System(user.uid, user.gid))
    }

    /// A command that runs as this user.
    pub(crate) fn command(self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        if let Self::System(uid, gid) = self {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        command
    }

    /// Gives a path to this user.
    ///
    /// # Errors
    /// The system refused.
    pub(crate) fn own(self, path: &Path) -> Result<()> {
        match self {
            Self::Myself => Ok(()),
            Self::System(uid, gid) => nix::unistd::chown(path, Some(uid), Some(gid))
                .with_context(|| format!("cannot give {} to {NAME}", path.display())),
        }
    }
}
