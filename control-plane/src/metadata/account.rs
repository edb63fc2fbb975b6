//! The system user that the embedded database runs as. PostgreSQL refuses to run as root.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use nix::unistd::{Gid, Uid, User, geteuid};
use windlass_core::Error;

/// Users tried when the control plane is root and none is configured.
const USUAL: [&str; 2] = ["windlass-db", "postgres"];

/// A system user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Name.
    pub name: String,
    /// User id.
    pub uid: Uid,
    /// Primary group id.
    pub gid: Gid,
}

impl Account {
    /// The user that this process runs as.
    ///
    /// # Errors
    /// `INVALID_FIELD` when the user has no entry in the user database: PostgreSQL needs one.
    pub fn current() -> Result<Self, Error> {
        let uid = geteuid();
        User::from_uid(uid).ok().flatten().map(Self::from).ok_or_else(|| {
            Error::invalid(
                "metadata.run_as",
                format!("user id {uid} has no name on this machine; add it to /etc/passwd"),
            )
        })
    }

    /// The user that runs the database: this process's own or, under root, the configured or usual one.
    ///
    /// # Errors
    /// `INVALID_FIELD` when there is no such user.
    pub fn for_database(run_as: Option<&str>) -> Result<Self, Error> {
        let own = Self::current()?;
        if !own.uid.is_root() {
            return match run_as {
                Some(name) if name != own.name => Err(Error::invalid(
                    "metadata.run_as",
                    format!(
                        "the control plane runs as {} and cannot become {name}; remove it or start as root",
                        own.name
                    ),
                )),
                _ => Ok(own),
            };
        }
        let names: Vec<&str> = run_as.map_or_else(|| USUAL.to_vec(), |name| vec![name]);
        let found = names.iter().find_map(|name| User::from_name(name).ok().flatten()).map(Self::from);
        match found {
            Some(account) if account.uid.is_root() => {
                Err(Error::invalid("metadata.run_as", "PostgreSQL refuses to run as root; name an unprivileged user"))
            }
            Some(account) => Ok(account),
            None => Err(Error::invalid(
                "metadata.run_as",
                format!(
                    "no user {} on this machine; create one, for example: useradd --system --home-dir /nonexistent windlass-db",
                    names.join(" or ")
                ),
            )),
        }
    }

    /// Checks that this user can reach `path`, that is search every directory above it.
    ///
    /// # Errors
    /// `INVALID_FIELD` naming the directory that bars the way.
    pub fn check_reaches(&self, path: &Path) -> Result<(), Error> {
        for dir in path.ancestors().skip(1) {
            let Ok(meta) = dir.metadata() else { continue };
            let bit = if meta.uid() == self.uid.as_raw() {
                0o100
            } else if meta.gid() == self.gid.as_raw() {
                0o010
            } else {
                0o001
            };
            if meta.mode() & bit == 0 {
                return Err(Error::invalid(
                    "state_dir",
                    format!(
                        "the user {}, which runs the metadata database, cannot enter {}; choose a directory below one that all may enter, or chmod o+x it",
                        self.name,
                        dir.display()
                    ),
                ));
            }
        }
        Ok(())
    }
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self { name: user.name, uid: user.uid, gid: user.gid }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_unknown_user_is_refused_with_a_remedy() {
        let error = Account::for_database(Some("no-such-user-here")).expect_err("unknown");
        assert_eq!(error.violations[0].field, "metadata.run_as");
    }

    #[test]
    fn a_barred_directory_is_named() {
        let dir = tempfile::tempdir().expect("temp dir");
        let barred = dir.path().join("barred");
        std::fs::create_dir(&barred).expect("create");
        std::fs::set_permissions(&barred, std::fs::Permissions::from_mode(0o700)).expect("chmod");
        let stranger = Account { name: "stranger".into(), uid: Uid::from_raw(54_321), gid: Gid::from_raw(54_321) };
        let error = stranger.check_reaches(&barred.join("metadata")).expect_err("barred");
        assert!(error.message.contains("cannot enter"), "{error}");
        Account::current().expect("me").check_reaches(&barred.join("metadata")).expect("the owner may");
    }
}
