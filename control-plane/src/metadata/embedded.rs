//! A private PostgreSQL for the metadata: own directory, unix socket only, own system user.
//!
//! Layout under `<state>/metadata`: `data` (the cluster), `log`, `start.log`, and `run` (the socket, elsewhere when
//! the path would be too long for one).
//!
//! Invariants:
//! 1. It is started in a session of its own (by `pg_ctl`), so it survives the control plane's crash; the next control
//!    plane adopts it instead of starting a second one.
//! 2. Only the holder of the state directory's lock initialises, starts or stops it.
//! 3. `data` is complete once it exists: it is made under another name and renamed. A crash before that leaves a
//!    `new-*` directory, which the next start removes.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::process::Command;
use tracing::{info, warn};
use uuid::Uuid;
use windlass_core::{Error, Reason};

use super::{
    account::Account,
    binaries::{self, Binaries},
    files,
};
use crate::config::Config;

/// Longest path of a unix socket, in bytes (`sun_path` without its final zero).
const SOCKET_PATH_MAX: usize = 107;
const SOCKET_NAME: &str = ".s.PGSQL.5432";
/// How long a start may take: crash recovery reads at most `max_wal_size` of log.
const START_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const INIT_TIMEOUT: Duration = Duration::from_secs(120);
const ORPHAN_CHECKS: u32 = 200;
const ORPHAN_PAUSE: Duration = Duration::from_millis(50);

/// The embedded server, running or not.
#[derive(Debug, Clone)]
pub struct Embedded {
    home: PathBuf,
    socket_dir: PathBuf,
    search: Vec<PathBuf>,
    /// Runs the database.
    account: Account,
    /// Runs the control plane and connects.
    client: Account,
}

/// How [`Embedded::start`] found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It was running already.
    Adopted,
    /// It was started.
    Started,
}

impl Embedded {
    /// Finds out where it lives and who runs it. Changes nothing.
    ///
    /// # Errors
    /// `INVALID_FIELD` when no unprivileged user is there.
    pub fn locate(config: &Config) -> Result<Self, Error> {
        let account = Account::for_database(config.metadata.run_as.as_deref())?;
        let home = config.state_dir.join("metadata");
        Ok(Self {
            socket_dir: socket_dir(&home, &account)?,
            search: config.metadata.search_dirs.clone(),
            client: Account::current()?,
            account,
            home,
        })
    }

    /// URL to connect by.
    pub fn url(&self) -> String {
        let host: String = self
            .socket_dir
            .to_string_lossy()
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect();
        format!("postgres://{}@localhost/postgres?host={host}", files::ROLE)
    }

    /// Process id of the running server, None when it does not run.
    pub fn running(&self) -> Option<i32> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        let pid: i32 = text.lines().next()?.trim().parse().ok()?;
        // A pid can be another's by now: the server is the one that works in our data directory.
        works_in(pid, &fs::canonicalize(self.data()).ok()?).then_some(pid)
    }

    /// Sees to it that it runs, initialising it the first time. The caller holds the state directory's lock.
    ///
    /// # Errors
    /// `UNAVAILABLE` with the server's own words when it does not come up; `INVALID_FIELD` for a state directory
    /// that it cannot use.
    pub async fn start(&self) -> Result<Start, Error> {
        if let Some(pid) = self.running() {
            info!(pid, "adopted the running metadata database");
            return Ok(Start::Adopted);
        }
        self.make_directories()?;
        let binaries = binaries::find(&self.search, self.made_by()).await?;
        if !self.data().exists() {
            self.initialise(&binaries).await?;
        }
        self.write_files()?;
        self.wait_for_orphans().await?;
        // Nobody works here any more; a pid in these that is another's by now would make the server refuse to start.
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
        let _ = fs::remove_file(self.socket_dir.join(format!("{SOCKET_NAME}.lock")));
        let log = self.home.join("start.log");
        let _ = fs::remove_file(&log);
        let mut command = self.command(&binaries, "pg_ctl");
        command.arg("start").arg("-D").arg(self.data()).arg("-l").arg(&log).args(["-w", "-s"]);
        command.arg("-t").arg(START_TIMEOUT.as_secs().to_string());
        run(command, "start the metadata database", START_TIMEOUT + Duration::from_secs(10))
            .await
            .map_err(|error| self.with_log(error))?;
        info!(pid = self.running(), major = binaries.major, "started the metadata database");
        Ok(Start::Started)
    }

    /// Stops it; clients' transactions are rolled back, what was committed is kept.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it did not stop in time.
    pub async fn stop(&self) -> Result<(), Error> {
        if self.running().is_none() {
            return Ok(());
        }
        let binaries = binaries::find(&self.search, self.made_by()).await?;
        let mut command = self.command(&binaries, "pg_ctl");
        command.arg("stop").arg("-D").arg(self.data()).args(["-m", "fast", "-w", "-s"]);
        command.arg("-t").arg(STOP_TIMEOUT.as_secs().to_string());
        run(command, "stop the metadata database", STOP_TIMEOUT + Duration::from_secs(10)).await?;
        info!("stopped the metadata database");
        Ok(())
    }

    /// Starts it again whenever it is gone, until the future is dropped.
    pub async fn keep_running(&self) {
        let mut pause = Duration::from_secs(1);
        loop {
            tokio::time::sleep(pause).await;
            pause = Duration::from_secs(1);
            if self.running().is_some() {
                continue;
            }
            warn!("the metadata database is gone; starting it again");
            if let Err(error) = self.start().await {
                warn!(error = error.chain(), "the metadata database does not start");
                pause = Duration::from_secs(10);
            }
        }
    }

    /// After a crash of the server its children may live a moment longer; two generations on one data directory
    /// would destroy it.
    async fn wait_for_orphans(&self) -> Result<(), Error> {
        let Ok(data) = fs::canonicalize(self.data()) else { return Ok(()) };
        let mut left = Vec::new();
        for _ in 0..ORPHAN_CHECKS {
            left = processes().filter(|pid| works_in(*pid, &data)).collect();
            if left.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(ORPHAN_PAUSE).await;
        }
        Err(Error::precondition(
            Reason::Unavailable,
            format!("processes {left:?} of a crashed metadata database still work in {}; end them", data.display()),
        ))
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn made_by(&self) -> Option<u32> {
        fs::read_to_string(self.data().join("PG_VERSION")).ok()?.trim().parse().ok()
    }

    fn make_directories(&self) -> Result<(), Error> {
        self.own_directory(&self.home)?;
        self.account.check_reaches(&self.home)?;
        self.own_directory(&self.socket_dir)?;
        self.own_directory(&self.home.join("log"))?;
        for entry in fs::read_dir(&self.home).map_err(|e| io("read", &self.home, e))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("new-") {
                fs::remove_dir_all(entry.path()).map_err(|e| io("remove", &entry.path(), e))?;
            }
        }
        Ok(())
    }

    /// Makes `dir` if it is missing and checks that it is the database user's alone.
    fn own_directory(&self, dir: &Path) -> Result<(), Error> {
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => self.give(dir)?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io("create", dir, error)),
        }
        let meta = fs::symlink_metadata(dir).map_err(|e| io("examine", dir, e))?;
        if !meta.is_dir() || meta.uid() != self.account.uid.as_raw() {
            return Err(Error::invalid(
                "state_dir",
                format!(
                    "{} is not a directory of the user {}; remove it or choose another state_dir",
                    dir.display(),
                    self.account.name
                ),
            ));
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(|e| io("set the mode of", dir, e))
    }

    fn give(&self, path: &Path) -> Result<(), Error> {
        if self.account == self.client {
            return Ok(());
        }
        nix::unistd::chown(path, Some(self.account.uid), Some(self.account.gid))
            .map_err(|e| io("change the owner of", path, e.into()))
    }

    async fn initialise(&self, binaries: &Binaries) -> Result<(), Error> {
        let fresh = self.home.join(format!("new-{}", Uuid::now_v7().simple()));
        let mut command = self.command(binaries, "initdb");
        command.arg("-D").arg(&fresh).args(["-U", files::ROLE, "--auth=peer", "--encoding=UTF8", "--locale=C"]);
        // Syncing the file system once is much faster than each of a thousand files.
        command.args(["--data-checksums", "--no-instructions", "--no-sync"]);
        run(command, "initialise the metadata database", INIT_TIMEOUT).await?;
        sync_file_system(&fresh).await?;
        fs::rename(&fresh, self.data()).map_err(|e| io("rename", &fresh, e))?;
        sync_dir(&self.home)
    }

    fn write_files(&self) -> Result<(), Error> {
        let texts = [
            ("postgresql.conf", files::postgresql_conf(&self.socket_dir)),
            ("pg_hba.conf", files::hba_conf()),
            ("pg_ident.conf", files::ident_conf(&self.client)),
        ];
        for (name, text) in texts {
            let path = self.data().join(name);
            fs::write(&path, text).map_err(|e| io("write", &path, e))?;
            self.give(&path)?;
        }
        Ok(())
    }

    /// Adds the last lines of the server's newest log to an error.
    fn with_log(&self, mut error: Error) -> Error {
        let logs = fs::read_dir(self.home.join("log")).into_iter().flatten().flatten().map(|entry| entry.path());
        let modified = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
        let newest = logs.chain([self.home.join("start.log")]).max_by_key(modified);
        if let Some(text) = newest.and_then(|log| fs::read_to_string(log).ok()) {
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(5)..];
            error.message = format!("{}\n{}", error.message, tail.join("\n"));
        }
        error
    }

    fn command(&self, binaries: &Binaries, program: &str) -> Command {
        let mut command = Command::new(binaries.dir.join(program));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir(&self.home);
        if self.account != self.client {
            command.uid(self.account.uid.as_raw()).gid(self.account.gid.as_raw());
        }
        command
    }
}

fn processes() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Every process of a PostgreSQL server has its data directory as working directory.
fn works_in(pid: i32, data: &Path) -> bool {
    let postgres = |exe: PathBuf| exe.to_string_lossy().contains("postgres");
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)
        && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(postgres)
}

/// Below the home if the path is short enough for a socket, else in a short directory named after it.
fn socket_dir(home: &Path, account: &Account) -> Result<PathBuf, Error> {
    let near = home.join("run");
    let fits = |dir: &Path| dir.as_os_str().len() + 1 + SOCKET_NAME.len() <= SOCKET_PATH_MAX;
    if fits(&near) {
        return Ok(near);
    }
    let digest = hex::encode(&Sha256::digest(home.as_os_str().as_encoded_bytes())[..6]);
    let base = if nix::unistd::geteuid().is_root() { "/run" } else { "/tmp" };
    let short = PathBuf::from(format!("{base}/windlass-{}-{digest}", account.uid));
    if fits(&short) { Ok(short) } else { Err(Error::internal("no directory is short enough for a unix socket")) }
}

/// Runs a command to its end; what it printed is the error's text.
async fn run(mut command: Command, what: &str, limit: Duration) -> Result<(), Error> {
    let failed = |why: String| Error::precondition(Reason::Unavailable, format!("cannot {what}: {why}"));
    let output = tokio::time::timeout(limit, command.kill_on_drop(true).output())
        .await
        .map_err(|_| failed(format!("no end after {} s", limit.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stderr, output.stdout].concat();
    Err(failed(String::from_utf8_lossy(&text).trim().to_owned()))
}

async fn sync_file_system(dir: &Path) -> Result<(), Error> {
    let dir = dir.to_owned();
    let sync = move || {
        let file = fs::File::open(&dir).map_err(|e| io("open", &dir, e))?;
        nix::unistd::syncfs(&file).map_err(|e| io("sync", &dir, e.into()))
    };
    tokio::task::spawn_blocking(sync).await.map_err(|e| Error::internal("a sync died").with_source(e))?
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    fs::File::open(dir).and_then(|file| file.sync_all()).map_err(|e| io("sync", dir, e))
}

fn io(verb: &str, path: &Path, error: std::io::Error) -> Error {
    Error::precondition(Reason::Unavailable, format!("cannot {verb} {}: {error}", path.display())).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_moves_the_socket_to_a_short_directory() {
        let account = Account::current().expect("me");
        let short = socket_dir(Path::new("/var/lib/windlass/metadata"), &account).expect("short");
        assert_eq!(short, Path::new("/var/lib/windlass/metadata/run"));
        let deep = PathBuf::from(format!("/{}", "x".repeat(100)));
        let moved = socket_dir(&deep, &account).expect("moved");
        assert!(moved.as_os_str().len() + 1 + SOCKET_NAME.len() <= SOCKET_PATH_MAX, "{}", moved.display());
        assert_ne!(moved, socket_dir(&deep.join("y"), &account).expect("another"));
    }
}
