//! Where everything of the members lies on this host.
//!
//! ```text
//! <state>/members/<engine>-<short id>/{goal.json,data,conf,tls,scratch,log}
//! <state>/retained/<engine>-<short id>     data of removed members
//! <state>/warm/<engine>-<version>/data     initialised, unused data directories
//! <state>/catalogues/<engine>-<version>.json
//! <state>/units/<unit>.json                records of the direct process host
//! <run>/<short id>/                        sockets
//! ```

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use windlass_core::{Error, engine::Engine, id::MemberId};

use crate::{
    engines::Site,
    host::{account::Accounts, files},
};

/// Longest path of a unix socket, in bytes: `sun_path` without its final zero (unix(7)).
const SOCKET_PATH_MAX: usize = 107;
/// The longest that is put behind the run directory: `/<12 digits>/.s.PGSQL.65535.lock`.
const SOCKET_SUFFIX: usize = 1 + 12 + 1 + ".s.PGSQL.65535".len();

/// Where everything lies.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    state: PathBuf,
    run: PathBuf,
}

impl Layout {
    /// Makes the directories.
    ///
    /// # Errors
    /// `INVALID_FIELD` naming a directory that cannot work; `INTERNAL`, `DISK_FULL`.
    pub(super) fn create(state: &Path, run: &Path, accounts: &Accounts) -> Result<Self, Error> {
        let length = run.as_os_str().len() + SOCKET_SUFFIX;
        if length > SOCKET_PATH_MAX {
            return Err(Error::invalid(
                "run_dir",
                format!(
                    "{} is too long: the sockets below it would have paths of {length} bytes, and the system allows {SOCKET_PATH_MAX}; use a path of at most {} bytes",
                    run.display(),
                    SOCKET_PATH_MAX - SOCKET_SUFFIX
                ),
            ));
        }
        for (field, path) in [("state_dir", state), ("run_dir", run)] {
            if !path.is_absolute() {
                return Err(Error::invalid(field, format!("{} is not absolute; begin it with /", path.display())));
            }
            std::fs::create_dir_all(path).map_err(|error| files::failed("make", path, error))?;
            check_reachable(field, path, accounts)?;
        }
        let layout = Self { state: state.to_owned(), run: run.to_owned() };
        for path in [layout.members(), layout.retained(), layout.warm(), layout.units(), layout.catalogues()] {
            files::make_directory(&path, 0o755)?;
        }
        Ok(layout)
    }

    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    pub(super) fn members(&self) -> PathBuf {
        self.state.join("members")
    }

    pub(super) fn retained(&self) -> PathBuf {
        self.state.join("retained")
    }

    pub(super) fn warm(&self) -> PathBuf {
        self.state.join("warm")
    }

    pub(super) fn units(&self) -> PathBuf {
        self.state.join("units")
    }

    pub(super) fn catalogues(&self) -> PathBuf {
        self.state.join("catalogues")
    }

    /// Directory of a member.
    pub(super) fn member(&self, engine: Engine, member: MemberId) -> PathBuf {
        self.members().join(name(engine, member))
    }

    /// A member's directory before its goal is in it.
    pub(super) fn draft(&self, engine: Engine, member: MemberId) -> PathBuf {
        self.members().join(format!(".new-{}", name(engine, member)))
    }

    /// A member's directory while it is deleted.
    pub(super) fn doomed(&self, engine: Engine, member: MemberId) -> PathBuf {
        self.members().join(format!(".old-{}", name(engine, member)))
    }

    /// Directory of a member's sockets.
    pub(super) fn sockets(&self, name: &str) -> PathBuf {
        self.run.join(name)
    }

    /// Directory of the sockets of a server in the making, as long as a member's and told apart by its first letter:
    /// members' names are hex digits.
    pub(super) fn warm_sockets(&self, id: &str) -> PathBuf {
        self.run.join(format!("w{}", id.get(..11).unwrap_or(id)))
    }
}

/// `<engine>-<short id>`: name of a member's directory and, behind `windlass-`, of its unit.
pub(super) fn name(engine: Engine, member: MemberId) -> String {
    format!("{engine}-{}", member.short())
}

/// Whether a name among the members' is a draft or doomed: it belongs to nobody, and a crash left it.
pub(super) fn is_leftover(name: &str) -> bool {
    name.starts_with(".new-") || name.starts_with(".old-")
}

/// Name of the unit of a member.
pub(super) fn unit(engine: Engine, member: MemberId) -> String {
    format!("windlass-{}", name(engine, member))
}

/// The places of a server below `root`.
pub(super) fn site(root: &Path, socket_dir: PathBuf) -> Site {
    Site {
        data: root.join("data"),
        conf: root.join("conf"),
        tls: root.join("tls"),
        scratch: root.join("scratch"),
        log: root.join("log/server.log"),
        socket_dir,
    }
}

/// Makes the directories of a site but the data directory. They may be there.
///
/// # Errors
/// `INTERNAL`, `DISK_FULL`.
pub(super) fn make_site(site: &Site, accounts: &Accounts) -> Result<(), Error> {
    files::make_directory(&site.conf, 0o755)?;
    if let Some(log) = site.log.parent() {
        files::make_directory(log, 0o755)?;
    }
    for path in [&site.tls, &site.scratch, &site.socket_dir] {
        files::make_directory(path, 0o700)?;
        accounts.give(path)?;
    }
    Ok(())
}

/// The database user must be able to enter every directory on the way.
fn check_reachable(field: &str, path: &Path, accounts: &Accounts) -> Result<(), Error> {
    if accounts.agent == accounts.database {
        return Ok(());
    }
    for directory in path.ancestors() {
        let metadata = directory.metadata().map_err(|error| files::failed("look at", directory, error))?;
        let bit = match (metadata.uid() == accounts.database.uid, metadata.gid() == accounts.database.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        if metadata.mode() & bit == 0 {
            let (directory, user) = (directory.display(), &accounts.database.name);
            let message = format!(
                "user {user} cannot enter {directory}, which is on the way to {}; run: chmod o+x {directory}",
                path.display()
            );
            return Err(Error::invalid(field, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::account::Account;

    fn accounts() -> Accounts {
        let account = Account { name: "me".into(), uid: 1, gid: 1 };
        Accounts { agent: account.clone(), database: account }
    }

    #[test]
    fn a_run_directory_that_makes_socket_paths_too_long_is_refused() {
        let long = format!("/tmp/{}", "x".repeat(80));
        let error = Layout::create(Path::new("/tmp"), Path::new(&long), &accounts()).expect_err("long");
        assert!(error.message.starts_with("run_dir: ") && error.message.contains("at most 79 bytes"), "{error}");
    }

    #[test]
    fn a_directory_that_the_database_user_cannot_enter_is_named() {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("mode");
        let other = Account { name: "db".into(), uid: 12_345, gid: 12_345 };
        let accounts = Accounts { database: other, ..accounts() };
        let error = Layout::create(&dir.path().join("s"), dir.path(), &accounts).expect_err("0700");
        assert!(error.message.contains("user db cannot enter") && error.message.contains("chmod o+x"), "{error}");
    }
}
