//! One of our programs as a process: start, stop, kill, start again, with a log that lasts.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::wait_until;

const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A program that can be started again and again with the same arguments.
#[derive(Debug)]
pub struct Program {
    name: String,
    binary: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Program {
    /// Describes a program; nothing runs yet.
    pub fn new(name: &str, binary: PathBuf, arguments: Vec<String>, log: PathBuf) -> Self {
        Self { name: name.to_owned(), binary, arguments, log, child: None }
    }

    /// Starts it with these variables beside the inherited ones.
    ///
    /// # Errors
    /// It runs already or cannot be started.
    pub fn start(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        if self.running() {
            bail!("{} runs already", self.name);
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.binary)
            .args(&self.arguments)
            .env("RUST_BACKTRACE", "1")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Whether it runs.
    pub fn running(&mut self) -> bool {
        matches!(self.child.as_mut().map(Child::try_wait), Some(Ok(None)))
    }

    /// Its process id, if it was started.
    pub fn pid(&self) -> Option<i32> {
        self.child.as_ref().map(|child| child.id().cast_signed())
    }

    /// Fails, with the end of its log, if it does not run.
    ///
    /// # Errors
    /// It ended.
    pub fn check(&mut self) -> Result<()> {
        if self.running() {
            return Ok(());
        }
        bail!("{} does not run; the end of {}:\n{}", self.name, self.log.display(), tail(&self.log))
    }

    /// Waits for it to end by itself, as at a failpoint.
    ///
    /// # Errors
    /// It still runs after the limit.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        wait_until(&format!("end of {name}"), limit, async || {
            let child = self.child.as_mut().context("it was never started")?;
            child.try_wait()?.context("it runs")
        })
        .await
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stop(&mut self) -> Result<()> {
        if self.running() {
            self.signal(Signal::SIGTERM)?;
            self.ended(STOP_LIMIT).await?;
        }
        self.child = None;
        Ok(())
    }

    /// Kills it without warning (SIGKILL).
    ///
    /// # Errors
    /// The system refused.
    pub fn kill(&mut self) -> Result<()> {
        if self.running() {
            self.signal(Signal::SIGKILL)?;
        }
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It does not run, or the system refused.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().with_context(|| format!("{} was never started", self.name))?;
        Ok(kill(Pid::from_raw(pid), signal)?)
    }

    /// What it wrote since its first start.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Where the programs are: beside the test's own binary, as cargo builds them.
///
/// # Errors
/// They are not built.
pub fn directory() -> Result<PathBuf> {
    let directory = match std::env::var_os("WINDLASS_BIN_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => {
            let own = std::env::current_exe()?;
            let near = own.ancestors().skip(1).find(|ancestor| ancestor.join("windlass-agent").is_file());
            near.map(Path::to_path_buf).unwrap_or_default()
        }
    };
    if !directory.join("windlass-control-plane").is_file() {
        bail!("the programs are not built; run `cargo build --workspace --bins` first");
    }
    Ok(directory)
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
