//! Limits by cgroup v2, for the direct host.
//!
//! Owns: one group per unit below one of ours. Why optional: an ordinary user, a container or a machine with the old
//! hierarchy cannot make groups; then databases run without limits of the kernel, and their own memory settings have
//! to do. Invariant: never touches a group it did not make, except to hand controllers down from the root.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::unistd::Uid;
use windlass_core::Error;

use super::{files, unit::Limits};

const ROOT: &str = "/sys/fs/cgroup";
const GROUP: &str = "windlass";
/// Length of the accounting period of `cpu.max`, in microseconds (the kernel's default).
const PERIOD_MICROS: u64 = 100_000;

/// The tree of cgroups below one of ours.
pub(super) struct Cgroups {
    group: PathBuf,
}

impl Cgroups {
    /// Our group, if this machine and user can have one.
    pub(super) fn detect() -> Option<Self> {
        if !Uid::effective().is_root() {
            return None;
        }
        let found = Self::below(Path::new(ROOT));
        if found.is_none() {
            tracing::info!("no cgroup v2 with cpu and memory here: databases run without limits of the kernel");
        }
        found
    }

    fn below(root: &Path) -> Option<Self> {
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).ok()?;
        if !["cpu", "memory"].iter().all(|wanted| controllers.split_whitespace().any(|has| has == *wanted)) {
            return None;
        }
        let group = root.join(GROUP);
        for directory in [root, &group] {
            fs::create_dir_all(directory).ok()?;
            fs::write(directory.join("cgroup.subtree_control"), "+cpu +memory").ok()?;
        }
        Some(Self { group })
    }

    /// Puts a process in the unit's group. What it forks later is in it too.
    pub(super) fn place(&self, unit: &str, pid: i32, limits: Limits) -> Result<(), Error> {
        let group = self.group.join(unit);
        files::make_directory(&group, 0o755)?;
        self.limit(unit, limits)?;
        write(&group.join("cgroup.procs"), pid)
    }

    pub(super) fn limit(&self, unit: &str, limits: Limits) -> Result<(), Error> {
        let group = self.group.join(unit);
        write(&group.join("memory.max"), limits.memory_bytes)?;
        let quota = limits.cpu_millis * PERIOD_MICROS / 1000;
        write(&group.join("cpu.max"), format!("{quota} {PERIOD_MICROS}"))
    }

    pub(super) fn memory(&self, unit: &str) -> Option<u64> {
        fs::read_to_string(self.group.join(unit).join("memory.current")).ok()?.trim().parse().ok()
    }

    /// Removes the unit's group. One that still has processes stays until the next time.
    pub(super) fn remove(&self, unit: &str) {
        let _ = fs::remove_dir(self.group.join(unit));
    }
}

fn write(path: &Path, value: impl ToString) -> Result<(), Error> {
    fs::write(path, value.to_string()).map_err(|error| files::failed("write", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_the_kernel_wants_them() {
        let root = tempfile::tempdir().expect("dir");
        fs::write(root.path().join("cgroup.controllers"), "cpuset cpu io memory pids\n").expect("controllers");
        let groups = Cgroups::below(root.path()).expect("usable");
        groups.place("u", 42, Limits { cpu_millis: 1500, memory_bytes: 1 << 30 }).expect("place");
        let read = |name: &str| fs::read_to_string(root.path().join("windlass/u").join(name)).expect(name);
        assert_eq!((read("cgroup.procs"), read("cpu.max")), ("42".into(), "150000 100000".into()));
        assert_eq!(read("memory.max"), "1073741824");
        assert_eq!(groups.memory("u"), None);
    }

    #[test]
    fn a_machine_without_the_controllers_has_no_limits() {
        let root = tempfile::tempdir().expect("dir");
        assert!(Cgroups::below(root.path()).is_none());
        fs::write(root.path().join("cgroup.controllers"), "pids\n").expect("controllers");
        assert!(Cgroups::below(root.path()).is_none());
    }
}
