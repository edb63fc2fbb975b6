//! FRZ: every process of a host stands still, as in a pause of the hypervisor; the kernel still answers TCP.
//!
//! By the host's control group, of which its processes notice nothing, and by signals to those that are not in it.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::Node;
use crate::lab::group::{Group, State};
use crate::processes;

/// How long the kernel may take to stop a process.
const LIMIT: Duration = Duration::from_secs(10);

/// What stands still.
#[derive(Debug)]
pub struct Freeze {
    group: Option<Group>,
    pids: Vec<i32>,
}

impl Freeze {
    /// Stops a whole host.
    pub fn host(node: &Node) -> Self {
        let Some(group) = node.group() else {
            node.signal(Signal::SIGSTOP);
            return Self { group: None, pids: node.pids() };
        };
        group.set(State::Frozen);
        let pids: Vec<i32> = node.pids().into_iter().filter(|pid| !group.contains(*pid)).collect();
        for pid in &pids {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGSTOP);
        }
        Self { group: Some(group), pids }
    }

    /// Stops some processes.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn processes(pids: &[i32]) -> Result<Self> {
        let frozen = Self { group: None, pids: pids.to_vec() };
        pids.iter().try_for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGSTOP))?;
        // Until then its threads go on, and may do what they are to be kept from.
        let begin = Instant::now();
        while !pids.iter().all(|pid| stands_still(*pid)) && begin.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(frozen)
    }
}

/// Whether every thread of a process is stopped or dead: the parent that would reap it may be stopped too.
fn stands_still(pid: i32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let states = threads.filter_map(|thread| processes::fields(&thread.path().join("stat")));
    states.map(|fields| fields.first().cloned()).all(|state| matches!(state.as_deref(), Some("T" | "Z" | "X")))
}

impl Drop for Freeze {
    fn drop(&mut self) {
        for pid in &self.pids {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGCONT);
        }
        if let Some(group) = &self.group {
            group.set(State::Thawed);
        }
    }
}
