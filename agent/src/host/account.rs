//! System users: the agent's own and the one that database processes run as.
//!
//! Invariant: database processes never run as root.

use std::{io, os::unix::fs::lchown, path::Path};

use nix::unistd::{Uid, User};
use windlass_core::Error;

use super::files;

/// A system user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name; databases map it to a role.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Id of its primary group.
    pub gid: u32,
}

/// The two system users that matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    /// Who the agent is.
    pub agent: Account,
    /// Who database processes are.
    pub database: Account,
}

impl Accounts {
    /// Resolves the users: `run_as` when the agent is root, else the agent's own.
    ///
    /// # Errors
    /// `INVALID_FIELD` naming `members.run_as`.
    pub fn resolve(run_as: Option<&str>) -> Result<Self, Error> {
        let field = "members.run_as";
        let own = User::from_uid(Uid::effective()).ok().flatten();
        let agent = own.map(Account::from).ok_or_else(|| {
            Error::invalid(
                field,
                format!("the agent's user id {} has no name; add it to the system's users", Uid::effective()),
            )
        })?;
        let database = match run_as {
            None if agent.uid == 0 => {
                return Err(Error::invalid(
                    field,
                    "databases refuse to run as root; name a system user, made for example by `useradd --system windlass-db`",
                ));
            }
            None => agent.clone(),
            Some(name) => User::from_name(name).ok().flatten().map(Account::from).ok_or_else(|| {
                Error::invalid(field, format!("no system user {name}; make it by `useradd --system {name}`"))
            })?,
        };
        if agent.uid != 0 && database.uid != agent.uid {
            return Err(Error::invalid(
                field,
                format!("only an agent that runs as root can run databases as {}; leave it out", database.name),
            ));
        }
        if database.uid == 0 {
            return Err(Error::invalid(field, "databases refuse to run as root; name another system user"));
        }
        Ok(Self { agent, database })
    }

    /// Gives a directory to the database user. Links are not followed.
    ///
    /// # Errors
    /// `INTERNAL` naming the path.
    pub fn give(&self, path: &Path) -> Result<(), Error> {
        if self.agent.uid == self.database.uid {
            return Ok(());
        }
        lchown(path, Some(self.database.uid), Some(self.database.gid))
            .map_err(|error| files::failed("give away", path, error))
    }
}

impl Account {
    /// Makes a command run as this user. Supplementary groups are dropped with the change.
    pub fn applied_to(&self, command: &mut std::process::Command) {
        use std::os::unix::process::CommandExt;
        if self.uid != Uid::effective().as_raw() {
            command.uid(self.uid).gid(self.gid);
        }
    }
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }
    }
}

/// The path of a program in the usual places.
///
/// # Errors
/// `NotFound`, naming the program.
pub fn find_program(name: &str) -> io::Result<std::path::PathBuf> {
    std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .chain(["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"].map(Into::into))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no program {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_refused_and_unknown_users_are_named() {
        let error = Accounts::resolve(Some("root")).expect_err("root");
        assert!(error.message.contains("run as root"), "{error}");
        let error = Accounts::resolve(Some("no-such-user")).expect_err("unknown");
        assert!(error.message.contains("no system user no-such-user"), "{error}");
    }
}
