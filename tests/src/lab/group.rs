//! Control groups of hosts: the kernel freezes or kills all that a host runs at once, also what is being born.
//!
//! Version 2, wherever it is mounted; it needs no controller. Where there is none a lab does with signals to each process of
//! a host. Invariant: a group is named as its host's namespace, and is removed with it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long the kernel may take to freeze or to end what is in a group.
const LIMIT: Duration = Duration::from_secs(10);

/// The group of one host.
#[derive(Debug, Clone)]
pub(super) struct Group(PathBuf);

/// Whether what is in a group goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Frozen,
    Thawed,
}

impl Group {
    /// The group of this name, whether it is there or not; None if this machine has no control groups.
    pub(super) fn of(name: &str) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = mounts.find(|fields| fields.get(2) == Some(&"cgroup2"))?;
        Some(Self(Path::new(mount[1]).join(name)))
    }

    pub(super) fn make(&self) -> Result<()> {
        std::fs::create_dir_all(&self.0).with_context(|| format!("cannot make the control group {}", self.0.display()))
    }

    /// The file that takes the ids of processes that are to be in it.
    pub(super) fn entrance(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    pub(super) fn contains(&self, pid: i32) -> bool {
        std::fs::read_to_string(self.entrance()).is_ok_and(|text| text.lines().any(|line| line.parse() == Ok(pid)))
    }

    /// Freezes or thaws it, and waits until it is.
    pub(super) fn set(&self, state: State) {
        let wanted = u8::from(state == State::Frozen);
        if std::fs::write(self.0.join("cgroup.freeze"), wanted.to_string()).is_ok() {
            self.wait_for(&format!("frozen {wanted}"));
        }
    }

    /// Kills all that is in it.
    pub(super) fn kill(&self) {
        // Without it, or in an old kernel, the signals to each process have to do.
        let _ = std::fs::write(self.0.join("cgroup.kill"), "1");
    }

    pub(super) fn remove(&self) {
        self.kill();
        self.wait_for("populated 0");
        let _ = std::fs::remove_dir(&self.0);
    }

    /// Bounded: a process that waits for a hung disk is neither frozen nor killed before the disk goes on.
    fn wait_for(&self, event: &str) {
        let begin = Instant::now();
        let told = || std::fs::read_to_string(self.0.join("cgroup.events"));
        while told().is_ok_and(|text| !text.lines().any(|line| line == event)) && begin.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
