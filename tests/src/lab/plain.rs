//! A PostgreSQL without Windlass: what findings about the engine are shown with, and metadata for control planes of a lab.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Node;
use crate::ground::Ground;
use crate::processes::Scope;
use crate::{database, wait_until};

const LIMIT: Duration = Duration::from_secs(30);

/// A server below a [`Ground`]. Its superuser is `root`, who needs no password.
#[derive(Debug)]
pub struct Plain {
    ground: Arc<Ground>,
    name: String,
    port: u16,
    node: Option<Node>,
    server: Option<Child>,
}

impl Plain {
    /// Describes one; nothing is made yet.
    pub fn new(ground: &Arc<Ground>, name: &str, port: u16) -> Self {
        Self { ground: Arc::clone(ground), name: name.to_owned(), port, node: None, server: None }
    }

    /// It is to live in a host of a lab.
    #[must_use]
    pub fn at(mut self, node: &Node) -> Self {
        self.node = Some(node.clone());
        self
    }

    /// Makes its data by `initdb`, reachable by everybody who reaches the machine.
    ///
    /// # Errors
    /// It failed.
    pub fn initialise(&self) -> Result<()> {
        let mut command = self.program("initdb")?;
        command.args(["--no-sync", "--data-checksums", "--auth=trust", "--username=root", "--locale=C.UTF-8", "-D"]);
        database::output(command.arg(self.data()))?;
        self.append("pg_hba.conf", "host all all 0.0.0.0/0 trust\nhost replication all 0.0.0.0/0 trust\n")
    }

    /// Makes its data as a copy of a running server, with `standby.signal`.
    ///
    /// # Errors
    /// It failed.
    pub fn copy(&self, from: &Self) -> Result<()> {
        let mut command = self.program("pg_basebackup")?;
        command.args(["-X", "stream", "-c", "fast", "--no-sync", "-h", "127.0.0.1", "-U", "root", "-p"]);
        command.arg(from.port.to_string()).arg("-D").arg(self.data());
        database::output(&mut command)?;
        self.standby()
    }

    /// It is to be a standby from its next start on.
    ///
    /// # Errors
    /// The system refused.
    pub fn standby(&self) -> Result<()> {
        Ok(std::fs::write(self.data().join("standby.signal"), "")?)
    }

    /// Adds lines to its configuration.
    ///
    /// # Errors
    /// The system refused.
    pub fn configure(&self, lines: &str) -> Result<()> {
        self.append("postgresql.auto.conf", &format!("{lines}\n"))
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// It does not come up; the message ends with its log.
    pub async fn start(&mut self) -> Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(self.log())?;
        let directory = database::postgres_directory().context("no PostgreSQL on this machine")?;
        let mut command = self.ground.command_in(self.node.as_ref(), &directory.join("postgres"))?;
        command.arg("-D").arg(self.data()).arg("-k").arg(self.ground.path("")).args(["-c", "listen_addresses=*"]);
        command.args(["-p", &self.port.to_string()]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.server = Some(command.spawn()?);
        let answer = wait_until(&format!("answer of {}", self.name), LIMIT, async || self.sql("select 1")).await;
        answer.map(drop).with_context(|| crate::program::tail(&self.log()))
    }

    /// Kills postmaster and children at once, as the loss of power does.
    ///
    /// # Errors
    /// The system refused.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        for pid in Scope::Family(server.id().cast_signed()).pids() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        server.wait()?;
        let _ = std::fs::remove_file(self.data().join("postmaster.pid"));
        Ok(())
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// The system refused.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGINT)?;
        server.wait()?;
        Ok(())
    }

    /// Runs a statement through its socket.
    ///
    /// # Errors
    /// It failed.
    pub fn sql(&self, statement: &str) -> Result<String> {
        database::output(&mut self.psql(statement))
    }

    /// `psql` with a statement, ready to run.
    pub fn psql(&self, statement: &str) -> Command {
        let mut command = Command::new("psql");
        command.args(["-X", "-Atq", "-v", "ON_ERROR_STOP=1", "-U", "root", "-d", "postgres", "-p"]);
        command.arg(self.port.to_string()).arg("-h").arg(self.ground.path("")).args(["-c", statement]);
        command
    }

    /// Its log so far.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn data(&self) -> PathBuf {
        self.ground.path(&self.name)
    }

    fn log(&self) -> PathBuf {
        self.ground.path(&format!("{}.log", self.name))
    }

    fn program(&self, name: &str) -> Result<Command> {
        let directory = database::postgres_directory().context("no PostgreSQL on this machine")?;
        self.ground.command(&directory.join(name))
    }

    fn append(&self, file: &str, text: &str) -> Result<()> {
        use std::io::Write;
        let path: &Path = &self.data().join(file);
        ensure!(path.is_file(), "{} is missing", path.display());
        Ok(std::fs::File::options().append(true).open(path)?.write_all(text.as_bytes())?)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
