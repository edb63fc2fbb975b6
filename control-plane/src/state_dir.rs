//! The state directory: one control plane at a time, its node id, its key-encryption key and its CA certificate.
//!
//! Invariant: whoever holds a [`StateDir`] is the only process that writes below it. The lock is the kernel's, so it
//! ends with the process however that ends.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use uuid::Uuid;
use windlass_core::{Error, Reason};
use windlass_kit::files::{self, Access};

/// The locked directory.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl StateDir {
    /// Makes the directory if it is missing, and locks it.
    ///
    /// # Errors
    /// `STATE_FORBIDS` naming the process that has the lock; `UNAVAILABLE` when the directory cannot be used.
    pub fn lock(path: &Path) -> Result<Self, Error> {
        let failed = |what: &str, error: std::io::Error| {
            Error::precondition(Reason::Unavailable, format!("cannot {what} {}: {error}", path.display()))
                .with_source(error)
        };
        fs::create_dir_all(path).map_err(|e| failed("create the state directory", e))?;
        // Others may pass through to the metadata's own directory, but not look around.
        fs::set_permissions(path, fs::Permissions::from_mode(0o711)).map_err(|e| failed("set the mode of", e))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path.join("lock"))
            .map_err(|e| failed("open the lock of", e))?;
        let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
            let holder = fs::read_to_string(path.join("lock")).unwrap_or_default();
            Error::precondition(
                Reason::StateForbids,
                format!(
                    "another control plane (process {}) works in {}; stop it, or give this one a state_dir of its own",
                    holder.trim(),
                    path.display()
                ),
            )
        })?;
        lock.set_len(0)
            .and_then(|()| writeln!(*lock, "{}", std::process::id()))
            .map_err(|e| failed("write the lock of", e))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// This node's id, made at the first call and kept.
    ///
    /// # Errors
    /// `INTERNAL` when it cannot be read or written.
    pub fn node_id(&self) -> Result<String, Error> {
        let path = self.path.join("node-id");
        if let Some(id) = files::read_if_there(&path)?.filter(|text| !text.trim().is_empty()) {
            return Ok(id.trim().to_owned());
        }
        let id = Uuid::now_v7().to_string();
        files::replace(&path, id.as_bytes(), Access::Public)?;
        Ok(id)
    }

    /// Writes the CA's certificate for clients on this machine; gives its path.
    ///
    /// # Errors
    /// `INTERNAL` when it cannot be written.
    pub fn write_ca(&self, pem: &str) -> Result<PathBuf, Error> {
        let path = self.path.join("ca.pem");
        files::replace(&path, pem.as_bytes(), Access::Public)?;
        Ok(path)
    }
}

/// Path of the key-encryption key.
pub fn kek(state_dir: &Path) -> PathBuf {
    state_dir.join("kek")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_until_the_first_ends() {
        let dir = tempfile::tempdir().expect("dir");
        let first = StateDir::lock(dir.path()).expect("first");
        let error = StateDir::lock(dir.path()).expect_err("second");
        assert!(error.message.contains(&format!("process {}", std::process::id())), "{error}");
        let id = first.node_id().expect("id");
        drop(first);
        let again = StateDir::lock(dir.path()).expect("after the first");
        assert_eq!(again.node_id().expect("id"), id);
    }
}
