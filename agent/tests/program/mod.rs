//! The real `windlass-agent` with directories of its own.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    ffi::OsString,
    fs::{File, Permissions, set_permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use windlass_kit::failpoint;

use crate::plane::{BOUND, Plane};

/// An agent's configuration and directories. Whatever happens in a test, the databases made there end with it.
pub(crate) struct Home {
    directory: TempDir,
    pub(crate) config: PathBuf,
}

/// A child that does not outlive the test.
pub(crate) struct Agent(pub(crate) Child);

/// The program under test; `WINDLASS_TEST_AGENT` names another build of it, for example an optimised one.
pub(crate) fn agent_program() -> OsString {
    std::env::var_os("WINDLASS_TEST_AGENT").unwrap_or_else(|| env!("CARGO_BIN_EXE_windlass-agent").into())
}

impl Home {
    pub(crate) fn new(plane: &Plane, more: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("wl-").tempdir_in("/tmp").expect("directory");
        set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("mode");
        let config = directory.path().join("agent.toml");
        // Database servers refuse to run as root.
        let run_as = if rustix::process::geteuid().is_root() { "run_as = \"windlass-db\"\n" } else { "" };
        let text = format!(
            "state_dir = {:?}\nrun_dir = {:?}\nendpoints = [{:?}]\nhost_name = \"host-1\"\nwarm_pool = \"off\"\n\
             process_host = \"direct\"\n{run_as}{more}",
            directory.path().join("state"),
            directory.path().join("run"),
            plane.endpoint,
        );
        std::fs::write(&config, text).expect("written");
        Self { directory, config }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(agent_program());
        command.arg("--config").arg(&self.config).args(arguments).env_remove(failpoint::ENV);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().expect("runs")
    }

    pub(crate) fn start(&self, token: &str) -> Agent {
        self.start_with(token, "")
    }

    pub(crate) fn start_with(&self, token: &str, failpoints: &str) -> Agent {
        let log = File::options().create(true).append(true).open(self.log()).expect("log");
        let mut command = self.command(&[]);
        command.env("WINDLASS_JOIN_TOKEN", token).env(failpoint::ENV, failpoints).stderr(log);
        Agent(command.spawn().expect("starts"))
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("agent.log")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }
}

impl Agent {
    /// Sends SIGTERM; gives how long it took to end and how it ended.
    pub(crate) fn terminate(&mut self) -> (Duration, bool) {
        let begun = Instant::now();
        let pid = Pid::from_raw(self.0.id().try_into().expect("pid")).expect("pid");
        kill_process(pid, Signal::TERM).expect("signals");
        loop {
            if let Some(status) = self.0.try_wait().expect("waits") {
                return (begun.elapsed(), status.success());
            }
            assert!(begun.elapsed() < BOUND, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Home {
    /// Processes that work below the directory.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let entries = std::fs::read_dir("/proc").expect("proc").flatten();
        let working_here = |entry: &std::fs::DirEntry| {
            std::fs::read_link(entry.path().join("cwd")).is_ok_and(|at| at.starts_with(self.directory.path()))
        };
        entries.filter(working_here).filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.log()).unwrap_or_default());
        }
        for _ in 0..100 {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            for pid in left.into_iter().filter_map(Pid::from_raw) {
                // It may be gone already.
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Agent {
    /// Waits until it is dead.
    pub(crate) async fn died(&mut self) {
        let begun = Instant::now();
        while self.0.try_wait().expect("waits").is_none() {
            assert!(begun.elapsed() < BOUND, "it does not die");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
