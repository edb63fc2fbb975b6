//! The signal "this host may have something to fetch", from whoever queued it to the dispatcher.

use tokio::sync::mpsc;
use windlass_core::id::HostId;

/// Sends wake-ups. Clones send to the same dispatcher.
#[derive(Debug, Clone)]
pub struct HostWaker(mpsc::UnboundedSender<HostId>);

/// Receives wake-ups; belongs to the dispatcher.
#[derive(Debug)]
pub struct Wakeups(mpsc::UnboundedReceiver<HostId>);

impl HostWaker {
    /// The two ends.
    pub fn new() -> (Self, Wakeups) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), Wakeups(receiver))
    }

    /// These hosts may have something to fetch. Call it after the commit; a signal that is lost costs one safety poll.
    pub fn wake(&self, hosts: &[HostId]) {
        for host in hosts {
            // Fails only when the dispatcher is gone, and then nobody is to be woken.
            let _ = self.0.send(*host);
        }
    }
}

impl Wakeups {
    /// Everything that has come, at least one; None when all senders are gone.
    pub(crate) async fn gather(&mut self) -> Option<Vec<HostId>> {
        let mut hosts = Vec::new();
        let n = self.0.recv_many(&mut hosts, 4096).await;
        hosts.sort_unstable();
        hosts.dedup();
        (n > 0).then_some(hosts)
    }
}
