//! Databases as processes and as their users see them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::processes;

/// A process that serves a database below some directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Id of the process.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
    /// Its command line, with spaces.
    pub command_line: String,
}

/// Processes, zombies excepted, whose command line names a path.
pub fn processes_below(path: &Path) -> Vec<Server> {
    let needle = path.to_string_lossy().into_owned();
    let own = std::process::id().cast_signed();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let servers = pids.filter(|pid| *pid != own).filter_map(|pid| {
        let raw = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command_line = String::from_utf8_lossy(&raw).replace('\0', " ").trim().to_owned();
        let started = start_time(pid)?;
        command_line.contains(&needle).then_some(Server { pid, started, command_line })
    });
    servers.collect()
}

/// When a process started, in clock ticks since boot; None if there is none or it is a zombie.
pub fn start_time(pid: i32) -> Option<u64> {
    let fields = processes::stat(pid)?;
    if fields.first()? == "Z" { None } else { fields.get(19)?.parse().ok() }
}

/// Ends every process whose command line names this directory, which must be a test's own, and waits for it.
pub fn end_below(directory: &Path) {
    let own = directory.starts_with(std::env::temp_dir()) && directory.components().count() > 2;
    assert!(own, "{} is not a test's directory", directory.display());
    let begin = Instant::now();
    loop {
        let alive = processes_below(directory);
        if alive.is_empty() || begin.elapsed() > Duration::from_secs(20) {
            return;
        }
        for server in alive.into_iter().filter(|server| ours(server.pid, directory)) {
            // SIGQUIT lets a postmaster end its children; whatever stays gets SIGKILL.
            let signal = if begin.elapsed() < Duration::from_secs(3) { Signal::SIGQUIT } else { Signal::SIGKILL };
            if start_time(server.pid) == Some(server.started) {
                let _ = kill(Pid::from_raw(server.pid), signal);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whether a process that names a test's directory was started by the test: a database works in its directory, or runs as
/// another user than the test. Somebody who reads the test's logs does neither.
fn ours(pid: i32, directory: &Path) -> bool {
    let at_home = std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
    let owner = std::fs::metadata(format!("/proc/{pid}")).map(|meta| meta.uid());
    at_home || owner.is_ok_and(|uid| uid != nix::unistd::geteuid().as_raw())
}

/// A native client ready to run one query without decoration.
pub fn query(client: &str, statement: &str) -> Vec<String> {
    let flags: &[&str] =
        if client == "psql" { &["-X", "-At", "-v", "ON_ERROR_STOP=1", "-c"] } else { &["-N", "-B", "-e"] };
    flags.iter().map(|flag| (*flag).to_owned()).chain([statement.to_owned()]).collect()
}

/// The server programs of the newest PostgreSQL in Debian's place, for baselines and fakes.
pub fn postgres_directory() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin)
}

/// The MariaDB server program where packages put it.
pub fn mariadb_server() -> Option<PathBuf> {
    ["/usr/sbin/mariadbd", "/usr/libexec/mariadbd"].iter().map(PathBuf::from).find(|path| path.is_file())
}

/// Runs a command that must succeed and gives its standard output without the last line break.
///
/// # Errors
/// It failed; the message has what it wrote.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(std::process::Stdio::null()).output()?;
    anyhow::ensure!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
