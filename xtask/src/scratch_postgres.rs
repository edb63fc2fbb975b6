//! A throw-away PostgreSQL for tests and for checking SQL at build time.
//!
//! It listens on a unix socket in its own directory only, gives up durability for speed, and is gone (process and
//! directory) when the value is dropped. A crash of xtask leaves a directory in the temp directory and a server that
//! ends by itself once that directory is removed.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::database_user::DatabaseUser;
use crate::{packages, workspace};

const START_LIMIT: Duration = Duration::from_secs(30);

/// A running server.
pub(crate) struct ScratchPostgres {
    server: Child,
    directory: TempDir,
}

impl ScratchPostgres {
    /// Starts one.
    ///
    /// # Errors
    /// There are no server programs, or initdb or the server failed; the message ends with its log.
    pub(crate) fn start() -> Result<Self> {
        let bin = packages::postgres_directory()?;
        let user = DatabaseUser::ensure()?;
        let directory = tempfile::Builder::new().prefix("windlass-pg-").tempdir()?;
        user.own(directory.path())?;
        let data = directory.path().join("data");
        workspace::output(
            user.command(bin.join("initdb"))
                .current_dir(directory.path())
                .args(["--no-sync", "--auth=trust", "--username=windlass", "--encoding=UTF8", "--locale=C", "-D"])
                .arg(&data),
        )?;
        let log = std::fs::File::create(directory.path().join("log"))?;
        let server = user
            .command(bin.join("postgres"))
            .current_dir(directory.path())
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(directory.path())
            .args(["-c", "listen_addresses=", "-c", "max_connections=300", "-c", "shared_buffers=128MB"])
            .args(["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start postgres")?;
        let mut scratch = Self { server, directory };
        scratch.wait_until_ready()?;
        scratch.sql("postgres", "create database windlass")?;
        Ok(scratch)
    }

    /// The address of its database `windlass`, whose user may create others.
    pub(crate) fn url(&self) -> String {
        let host = self.directory.path().to_string_lossy().replace('/', "%2F");
        format!("postgres://windlass@{host}/windlass")
    }

    /// Runs the files of a folder in the order of their names in database `windlass`.
    ///
    /// # Errors
    /// A statement failed.
    pub(crate) fn apply(&self, folder: &Path) -> Result<()> {
        let mut files: Vec<_> = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
        files.sort();
        for file in files {
            workspace::output(self.psql("windlass").arg("-f").arg(file))?;
        }
        Ok(())
    }

    fn sql(&self, database: &str, statement: &str) -> Result<String> {
        workspace::output(self.psql(database).args(["-c", statement]))
    }

    fn psql(&self, database: &str) -> std::process::Command {
        let mut command = std::process::Command::new("psql");
        command.arg("-h").arg(self.directory.path());
        command.args(["-U", "windlass", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", database]);
        command
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let begin = Instant::now();
        loop {
            if self.sql("postgres", "select 1").is_ok() {
                return Ok(());
            }
            let exited = self.server.try_wait()?;
            if exited.is_some() || begin.elapsed() > START_LIMIT {
                let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                bail!("the throw-away PostgreSQL did not come up:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for ScratchPostgres {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.server.id().cast_signed());
        // SIGQUIT is PostgreSQL's immediate shutdown; nothing in it is worth a checkpoint.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT);
        let _ = self.server.wait();
    }
}
