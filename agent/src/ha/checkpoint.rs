//! A checkpoint that the control plane asks for before it hands a leader over, written beside everything else: the one of
//! the stop, for which clients are held, then has little left to do, nor has the follower that comes of it. Lost with the
//! agent; asked for again with the order.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{
    order::{Goal, Order},
    seat::Seat,
};
use crate::engines::{Server, postgres::replication::Reader};

/// The newest checkpoint that was asked for, and the newest that was written.
#[derive(Default)]
pub(super) struct CheckpointTask {
    begun: u64,
    written: Arc<AtomicU64>,
}

impl CheckpointTask {
    /// Begins one if the order asks for it and none was begun for it. A failure counts as written: it only makes the stop
    /// longer.
    pub(super) fn follow(&mut self, server: &Server, order: Option<&Order>, seat: &Arc<Seat>) {
        let Some(Goal::Lead(lead)) = order.map(|order| &order.goal) else { return };
        let rev = lead.checkpoint_rev;
        if rev <= self.begun {
            return;
        }
        self.begun = rev;
        let (server, seat, written) = (server.clone(), seat.clone(), self.written.clone());
        tokio::spawn(async move {
            let outcome = async { Reader::connect(&server).await?.prepare_stop().await }.await;
            if let Err(error) = outcome {
                tracing::warn!(member = %seat.member(), error = error.chain(), "no checkpoint was written");
            }
            written.fetch_max(rev, Ordering::Relaxed);
            seat.wake.notify_one();
        });
    }

    /// rev of the newest that was written.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}
