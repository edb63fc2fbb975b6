//! Processes of the demo: started with a log and a record, stopped by their recorded ids.
//!
//! Invariants: a signal goes only to a process whose id and start time are on record (ids are reused); a crash of
//! xtask leaves the records, and the next demo stops what they name.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const RECORDS: &str = "processes";
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A program of ours that runs.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program with its output in a log, in a process group of its own so that Ctrl-C reaches only xtask.
    ///
    /// # Errors
    /// It cannot be started or recorded.
    pub(crate) fn start(name: &str, mut command: Command, log: PathBuf, state: &Path) -> Result<Self> {
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let process = Self { name: name.to_owned(), child, log };
        let records = state.join(RECORDS);
        std::fs::create_dir_all(&records)?;
        let pid = process.child.id().cast_signed();
        let started = start_time(pid).with_context(|| format!("{name} ended at once"))?;
        std::fs::write(records.join(name), format!("{pid} {started}\n"))?;
        Ok(process)
    }

    /// Fails, with the end of its log, if it ended by itself.
    ///
    /// # Errors
    /// It ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}); {}:\n{}", self.name, self.log.display(), tail(&self.log)),
        }
    }

    /// Asks it to end and waits; kills it when it does not.
    ///
    /// # Errors
    /// The system refused.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        kill(pid, Signal::SIGTERM)?;
        let begin = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begin.elapsed() > STOP_LIMIT {
                eprintln!("{} does not stop; killing it", self.name);
                kill(pid, Signal::SIGKILL)?;
                self.child.wait()?;
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Stops whatever the records and the databases' own pid files below a state directory name.
///
/// # Errors
/// Something does not end.
pub(crate) fn stop_recorded(state: &Path) -> Result<()> {
    for record in std::fs::read_dir(state.join(RECORDS)).into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(record.path())?;
        if let Some((pid, started)) = text.trim().split_once(' ')
            && let (Ok(pid), Ok(started)) = (pid.parse(), started.parse())
            && start_time(pid) == Some(started)
        {
            end(pid, Signal::SIGTERM)?;
        }
    }
    stop_databases(state)
}

/// Stops the databases whose pid files lie below a directory.
///
/// # Errors
/// One does not end.
pub(crate) fn stop_databases(state: &Path) -> Result<()> {
    for file in pid_files(state) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let Some(pid) = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()) else { continue };
        // The id may have been reused since: a database of ours names its directory on its command line.
        let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command_line).contains(&*state.to_string_lossy()) {
            // PostgreSQL's fast shutdown; mariadbd treats it as a crash-safe end as well.
            end(pid, Signal::SIGTERM)?;
        }
    }
    Ok(())
}

/// `postmaster.pid` and `*.pid` files below a directory.
fn pid_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(path),
                Ok(kind) if kind.is_file() && path.extension().is_some_and(|extension| extension == "pid") => {
                    found.push(path);
                }
                _ => {}
            }
        }
    }
    found
}

/// Signals a process that is not our child, waits until it is gone, and kills it when it does not go.
fn end(pid: i32, signal: Signal) -> Result<()> {
    let started = start_time(pid);
    let gone = || start_time(pid).is_none() || start_time(pid) != started;
    for (signal, limit) in [(signal, STOP_LIMIT), (Signal::SIGKILL, Duration::from_secs(5))] {
        if gone() {
            return Ok(());
        }
        match kill(Pid::from_raw(pid), signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => bail!("cannot stop process {pid}: {error}"),
        }
        let begin = Instant::now();
        while !gone() && begin.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    if gone() { Ok(()) } else { bail!("process {pid} does not end") }
}

/// When a process started, in clock ticks since boot; None if there is none or it is a zombie.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields after it are fixed.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.first() == Some(&"Z") { None } else { fields.get(19)?.parse().ok() }
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_process_of_an_earlier_demo_is_stopped_and_a_reused_id_is_not() {
        let state = tempfile::tempdir().expect("temp");
        let mut sleep = Command::new("sleep");
        sleep.arg("60");
        let mut process =
            Process::start("sleeper", sleep, state.path().join("log"), state.path()).expect("sleep starts");
        let record = state.path().join(RECORDS).join("sleeper");
        let right = std::fs::read_to_string(&record).expect("recorded");

        std::fs::write(&record, format!("{} 1", process.child.id())).expect("write");
        stop_recorded(state.path()).expect("nothing to stop");
        process.check().expect("another start time: left alone");

        std::fs::write(&record, right).expect("write");
        stop_recorded(state.path()).expect("stopped");
        process.check().expect_err("it was stopped");
    }
}
