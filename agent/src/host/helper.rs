//! Short-lived programs that the agent runs and waits for: initdb, version queries, configuration checks.
//!
//! Invariant: a helper that is given up (time-out, cancel, dropped future) is killed with everything it started: it has
//! a process group of its own. A crash of the agent leaves it to finish; whoever owns its directory cleans up by
//! [`super::proc::kill_under`].

use std::{ffi::OsString, fs::OpenOptions, path::Path, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;
use windlass_core::{Error, ErrorKind, Reason};

use super::{
    account::{Account, find_program},
    files, proc,
    unit::{Process, UnitSpec},
};

/// More of a program's output is not kept, in bytes.
const OUTPUT_MAX: usize = 16 << 20;

/// How much of the machine a helper may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// As the agent.
    Normal,
    /// Only what nobody else wants (nice 19, idle I/O).
    Idle,
}

/// A program to run and wait for.
pub struct Helper<'a> {
    /// Its path.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where it works. Its leftovers are found by it.
    pub directory: &'a Path,
    /// As whom it runs.
    pub account: &'a Account,
    /// How much of the machine it may take.
    pub priority: Priority,
    /// Longest run.
    pub limit: Duration,
}

/// How a helper ended.
#[derive(Debug)]
pub struct Finished {
    /// Whether it exited with 0.
    pub success: bool,
    /// What it wrote on standard output.
    pub output: String,
    /// What it wrote on standard error.
    pub errors: String,
}

impl Finished {
    /// The last lines of both outputs, for an error message.
    pub fn last_lines(&self) -> String {
        let text = format!("{}\n{}", self.output, self.errors);
        files::last_lines(&text, 6)
    }
}

impl Helper<'_> {
    /// Runs the program to its end.
    ///
    /// # Errors
    /// `INTERNAL` if it cannot be started, `DEADLINE_EXCEEDED`, `OPERATION_CANCELLED`.
    pub async fn run(self, cancel: &CancellationToken) -> Result<Finished, Error> {
        self.watched(cancel, |_| ()).await
    }

    /// As [`Helper::run`]; `hear` is given what the program writes on standard error as it comes.
    ///
    /// # Errors
    /// As [`Helper::run`].
    pub async fn watched(self, cancel: &CancellationToken, hear: impl FnMut(&str)) -> Result<Finished, Error> {
        let mut command = command(self.program, self.priority);
        command.args(&self.arguments).current_dir(self.directory).stdin(Stdio::null());
        clean_environment(&mut command);
        self.account.applied_to(&mut command);
        let mut command = tokio::process::Command::from(command);
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| files::failed("run", self.program, error))?;
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let name = self.program.display();
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let finish = async {
            let (output, errors) = tokio::try_join!(collect(output, |_| ()), collect(errors, hear))?;
            Ok::<_, std::io::Error>((child.wait().await?, output, errors))
        };
        let (status, output, errors) = tokio::select! {
            finished = finish => finished.map_err(|error| files::failed("run", self.program, error))?,
            () = tokio::time::sleep(self.limit) => {
                let message = format!("{name} did not end within {} s and was killed", self.limit.as_secs());
                return Err(Error::new(ErrorKind::DeadlineExceeded, Reason::DeadlineExceeded, message));
            }
            () = cancel.cancelled() => return Err(cancelled()),
        };
        group.0 = None;
        Ok(Finished { success: status.success(), output, errors })
    }
}

/// Reads a stream to its end; of a long one its last part.
async fn collect(stream: Option<impl AsyncRead + Unpin>, mut hear: impl FnMut(&str)) -> std::io::Result<String> {
    let Some(mut stream) = stream else { return Ok(String::new()) };
    let (mut kept, mut part) = (Vec::new(), vec![0; 8192]);
    loop {
        let read = stream.read(&mut part).await?;
        if read == 0 {
            return Ok(String::from_utf8_lossy(&kept).into_owned());
        }
        hear(&String::from_utf8_lossy(&part[..read]));
        kept.extend_from_slice(&part[..read]);
        if kept.len() > OUTPUT_MAX {
            kept.drain(..kept.len() - OUTPUT_MAX / 2);
        }
    }
}

/// A server that runs for a moment, while a directory is prepared: a child of the agent, killed when dropped.
pub struct Background {
    child: tokio::process::Child,
    group: Group,
}

impl Background {
    /// Starts the unit's program.
    ///
    /// # Errors
    /// `INTERNAL`, `DISK_FULL`.
    pub fn start(unit: &UnitSpec, priority: Priority) -> Result<Self, Error> {
        let log = OpenOptions::new().create(true).append(true).open(&unit.log);
        let log = log.map_err(|error| files::failed("open", &unit.log, error))?;
        let errors = log.try_clone().map_err(|error| files::failed("open", &unit.log, error))?;
        let mut command = command(&unit.program, priority);
        command.args(&unit.arguments).current_dir(&unit.directory).stdin(Stdio::null()).stdout(log).stderr(errors);
        clean_environment(&mut command);
        unit.account.applied_to(&mut command);
        let mut command = tokio::process::Command::from(command);
        let child = command.process_group(0).spawn().map_err(|error| files::failed("run", &unit.program, error))?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        Ok(Self { child, group })
    }

    /// Its id and start. `nice` and `ionice` become the program, so the id is the program's.
    pub fn process(&self) -> Option<Process> {
        let pid = self.child.id()?.cast_signed();
        Some(Process { pid, started: proc::started_at(proc::stat(pid)?.start_ticks) })
    }

    /// Waits until it has ended and says how.
    pub async fn ended(&mut self) -> String {
        let status = self.child.wait().await;
        self.group.0 = None;
        status.map_or_else(|error| error.to_string(), |status| status.to_string())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.group.0 {
            // It may have ended already: then there is nothing to tell it.
            let _ = kill_process(pid, signal);
        }
    }
}

fn command(program: &Path, priority: Priority) -> std::process::Command {
    if priority == Priority::Idle
        && let (Ok(nice), Ok(ionice)) = (find_program("nice"), find_program("ionice"))
    {
        let mut command = std::process::Command::new(nice);
        command.args(["-n", "19"]).arg(ionice).args(["-c", "3"]).arg(program);
        return command;
    }
    std::process::Command::new(program)
}

/// The order was cancelled.
pub fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, Reason::OperationCancelled, "the command was cancelled")
}

/// Nothing of the agent's environment reaches a child but the search path: no PG*, MYSQL* or tokens.
pub fn clean_environment(command: &mut std::process::Command) {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    command.env_clear().env("PATH", path).env("LANG", "C.UTF-8").env("LC_ALL", "C.UTF-8");
}

/// Kills the process group when dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may be gone already: that is what was wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{account::Accounts, proc};
    use super::*;

    fn account() -> Account {
        let pid = nix::unistd::Uid::effective();
        nix::unistd::User::from_uid(pid).expect("lookup").map(Account::from).expect("own user")
    }

    async fn shell(
        script: &str,
        directory: &Path,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<Finished, Error> {
        let account = account();
        let (program, arguments) = (Path::new("/bin/sh"), vec!["-c".into(), script.into()]);
        Helper { program, arguments, directory, account: &account, priority: Priority::Idle, limit }.run(cancel).await
    }

    #[tokio::test]
    async fn output_and_status_come_back() {
        let dir = tempfile::tempdir().expect("dir");
        let script = "echo out; echo err >&2; test -z \"$HOME\" || exit 9; exit 3";
        let finished =
            shell(script, dir.path(), Duration::from_secs(10), &CancellationToken::new()).await.expect("run");
        assert!(!finished.success);
        assert_eq!(finished.last_lines(), "out | err");
        assert!(Accounts::resolve(Some("no-such-user")).is_err());
    }

    #[tokio::test]
    async fn what_takes_too_long_or_is_cancelled_dies_with_its_children() {
        let dir = tempfile::tempdir().expect("dir");
        let here = dir.path().canonicalize().expect("path");
        let script = "sleep 600 & sleep 600";
        let late = shell(script, &here, Duration::from_millis(50), &CancellationToken::new()).await.expect_err("late");
        assert_eq!(late.reason, Reason::DeadlineExceeded);
        let cancel = CancellationToken::new();
        cancel.cancel();
        let stopped = shell(script, &here, Duration::from_secs(60), &cancel).await.expect_err("cancelled");
        assert_eq!(stopped.reason, Reason::OperationCancelled);
        for _ in 0..500 {
            if proc::working_under(&here, proc::Which::All).is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("processes are left: {:?}", proc::working_under(&here, proc::Which::All));
    }
}
