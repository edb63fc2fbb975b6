//! A directory of its own for a measurement, owned by the databases' user; what runs below it ends with it.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::User;

use crate::database;
use crate::lab::Node;
use crate::stack::run_as;

/// The directory.
#[derive(Debug)]
pub struct Ground {
    path: PathBuf,
}

impl Ground {
    /// Makes one.
    ///
    /// # Errors
    /// The system refused.
    pub fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("wl-{}", &uuid::Uuid::new_v4().simple().to_string()[..10]));
        std::fs::create_dir(&path)?;
        let ground = Self { path };
        std::fs::set_permissions(&ground.path, std::fs::Permissions::from_mode(0o755))?;
        if let Some(user) = database_user()? {
            chown(&ground.path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        Ok(ground)
    }

    /// A path below.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A command that runs here as the databases' user.
    ///
    /// # Errors
    /// There is no such user.
    pub fn command(&self, program: &Path) -> Result<Command> {
        let mut command = Command::new(program);
        command.current_dir(&self.path).env("TMPDIR", &self.path);
        if let Some(user) = database_user()? {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        Ok(command)
    }

    /// As [`Ground::command`], in the network of a lab's host.
    ///
    /// # Errors
    /// There is no such user.
    pub fn command_in(&self, node: Option<&Node>, program: &Path) -> Result<Command> {
        let Some(node) = node else { return self.command(program) };
        let mut command = node.entering();
        command.current_dir(&self.path).env("TMPDIR", &self.path);
        if let Some(user) = database_user()? {
            command.args([format!("--setuid={}", user.uid), format!("--setgid={}", user.gid)]);
        }
        command.arg(program);
        Ok(command)
    }

    /// Ends every process whose command line names a path below.
    pub fn end(&self) {
        database::end_below(&self.path);
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.end();
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn database_user() -> Result<Option<User>> {
    let Some(name) = run_as() else { return Ok(None) };
    Ok(Some(User::from_name(name)?.with_context(|| format!("no user {name}; `cargo xtask test` makes it"))?))
}
