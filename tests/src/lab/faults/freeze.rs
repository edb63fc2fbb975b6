//! FRZ: every process of a host stands still, as in a pause of the hypervisor; the kernel still answers TCP.

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::Node;

/// What stands still.
#[derive(Debug)]
pub struct Freeze(Vec<i32>);

impl Freeze {
    /// Stops a whole host.
    pub fn host(node: &Node) -> Self {
        node.signal(Signal::SIGSTOP);
        Self(node.pids())
    }

    /// Stops some processes.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn processes(pids: &[i32]) -> Result<Self> {
        let frozen = Self(pids.to_vec());
        pids.iter().try_for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGSTOP))?;
        Ok(frozen)
    }
}

impl Drop for Freeze {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGCONT);
        }
    }
}
