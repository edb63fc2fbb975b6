//! What `/proc` says of processes.
//!
//! A process is named by pid and start time: a pid alone is reused. The boot id says whether either still means
//! anything. A member's processes are known by their working directory, which both engines set to the data directory
//! and never leave; that also finds children whose parent is gone.

use std::{
    collections::HashMap,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::io::{Interest, unix::AsyncFd};
use windlass_core::Error;

use super::files;

/// Start times in `/proc` count hundredths of a second on every architecture (USER_HZ, proc(5)).
const TICKS_PER_SECOND: u64 = 100;

/// The fields of `/proc/<pid>/stat` that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// One letter: R, S, D, Z, X, ...
    pub state: char,
    /// Pid of the parent.
    pub parent: i32,
    /// Start time in hundredths of a second since boot (field 22).
    pub start_ticks: u64,
}

impl Stat {
    /// Whether it is a process and not only its unread exit status.
    pub fn alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

/// Id of this boot of the machine.
///
/// # Errors
/// `INTERNAL` when `/proc` is not there.
pub fn boot_id() -> Result<String, Error> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(|error| files::failed("read", path, error))
}

/// What the kernel says of a process; None if there is none.
pub fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in the second field may hold spaces and brackets; fields are counted from the last bracket.
fn parse_stat(text: &str) -> Option<Stat> {
    let rest = text.get(text.rfind(')')? + 1..)?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

/// When a process started, by the wall clock.
pub fn started_at(start_ticks: u64) -> Timestamp {
    let boot = fs::read_to_string("/proc/stat")
        .ok()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<i64>().ok()))
        .unwrap_or_default();
    let milliseconds = boot * 1000 + i64::try_from(start_ticks * 1000 / TICKS_PER_SECOND).unwrap_or(i64::MAX / 2);
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Takes hold of a process, so that a signal cannot reach a later one with the same pid. None if it is gone.
pub fn hold(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// Waits until the process has ended.
///
/// # Errors
/// What the operating system said.
pub async fn wait_end(pidfd: OwnedFd) -> io::Result<()> {
    #[expect(deprecated, reason = "unsound only for types that do not own their descriptor; its successor is unsafe")]
    let watched = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
    let _ready = watched.readable().await?;
    Ok(())
}

/// Waits until nothing of an ended process is left, not even its unread exit status, at most 5 s. Why: a starting server
/// takes a predecessor of which that is left for one that runs, and some init processes are slow to read it.
pub async fn wait_reaped(pid: i32, start_ticks: u64) {
    for _ in 0..1000 {
        if stat(pid).is_none_or(|stat| stat.start_ticks != start_ticks) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The words of a process's command line.
pub fn command_line(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes
        .split(|b| *b == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// Living processes by working directory, in one pass over `/proc`.
pub fn by_directory() -> HashMap<PathBuf, Vec<i32>> {
    let mut found: HashMap<PathBuf, Vec<i32>> = HashMap::new();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if let Ok(directory) = fs::read_link(format!("/proc/{pid}/cwd"))
            && stat(pid).is_some_and(|stat| stat.alive())
        {
            found.entry(directory).or_default().push(pid);
        }
    }
    found
}

/// Which processes of a directory are meant.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// All: the directory is the agent's own.
    All,
    /// Those that run this program, so that a person's shell in the directory is left alone.
    Running(&'a Path),
}

/// Living processes that work in the directory or below.
pub fn working_under(directory: &Path, which: Which<'_>) -> Vec<i32> {
    let below = by_directory().into_iter().filter(|(path, _)| path.starts_with(directory));
    below
        .flat_map(|(_, pids)| pids)
        .filter(|pid| match which {
            Which::All => true,
            Which::Running(program) => runs(*pid, program),
        })
        .collect()
}

/// Compares file names only: a package upgrade replaces the file below a running process.
fn runs(pid: i32, program: &Path) -> bool {
    let executable = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let name = executable.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let program = fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    program.file_name().is_some_and(|wanted| wanted.to_string_lossy() == name.trim_end_matches(" (deleted)"))
}

/// Kills every such process, and waits until none is left, at most a second.
pub async fn kill_under(directory: &Path, which: Which<'_>) {
    for _ in 0..200 {
        let pids = working_under(directory, which);
        if pids.is_empty() {
            return;
        }
        for pid in pids.into_iter().filter_map(Pid::from_raw) {
            // It may have ended meanwhile: that is what was wanted.
            let _ = kill_process(pid, Signal::KILL);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Memory that processes hold together, in bytes: what each has for itself, and the largest shared segment once.
pub fn memory(pids: &[i32]) -> u64 {
    let (mut own, mut shared) = (0, 0);
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kilobytes = |key: &str| -> u64 {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.trim().strip_suffix("kB")?.trim().parse().ok())
                .unwrap_or(0)
        };
        own += kilobytes("RssAnon:") * 1024;
        shared = shared.max(kilobytes("RssShmem:") * 1024);
    }
    own + shared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let text = "42 (a ) b) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2 3";
        assert_eq!(parse_stat(text), Some(Stat { state: 'S', parent: 7, start_ticks: 987_654 }));
        assert_eq!(parse_stat("rubbish"), None);
    }

    #[test]
    fn this_process_is_found_by_its_directory_and_started_in_the_past() {
        let pid = i32::try_from(std::process::id()).expect("pid");
        let here = std::env::current_dir().expect("cwd");
        assert!(working_under(&here, Which::All).contains(&pid));
        assert!(!working_under(&here, Which::Running(Path::new("/bin/sh"))).contains(&pid));
        let stat = stat(pid).expect("stat");
        assert!(stat.alive() && started_at(stat.start_ticks) <= Timestamp::now());
        assert!(memory(&[pid]) > 0);
    }
}
