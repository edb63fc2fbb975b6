//! A network that repeats itself, for tests: while the failpoint is set, orders come again, late and behind younger ones.
//!
//! Why here: what is between control plane and agent is encrypted, so no relay can do it. Owns nothing that matters; a
//! crash forgets it.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use windlass_kit::{clock::BootInstant, failpoint::Failpoints};
use windlass_proto::agent::v1::ReplicationOrders;

/// The failpoint.
const POINT: &str = "ha.orders_again";
/// How many answers are kept: at two reports a second, those of some eight seconds.
const KEPT: usize = 16;

/// Answers, and when their requests were sent.
type Answers = VecDeque<(ReplicationOrders, BootInstant)>;

pub(super) struct Echo {
    failpoints: Failpoints,
    former: Mutex<Answers>,
}

impl Echo {
    pub(super) fn new(failpoints: Failpoints) -> Self {
        Self { failpoints, former: Mutex::default() }
    }

    /// What comes again behind this answer: the oldest kept, the one before, and this one. Nothing without the failpoint.
    pub(super) async fn of(&self, orders: &ReplicationOrders, sent_at: BootInstant) -> Answers {
        if self.failpoints.hit(POINT).await.is_ok() {
            return Answers::new();
        }
        let mut former = self.former.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = (orders.clone(), sent_at);
        let again = former.front().into_iter().chain(former.back()).chain([&answer]).cloned().collect();
        former.push_back(answer);
        if former.len() > KEPT {
            former.pop_front();
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(owner_epoch: u64) -> ReplicationOrders {
        ReplicationOrders { owner_epoch, ..ReplicationOrders::default() }
    }

    #[tokio::test]
    async fn old_orders_come_again_only_while_the_point_is_set() {
        let silent = Echo::new(Failpoints::none());
        assert!(silent.of(&orders(1), BootInstant::now()).await.is_empty());
        let echo = Echo::new(Failpoints::parse("ha.orders_again=error").expect("parses"));
        for epoch in 0..=KEPT as u64 {
            echo.of(&orders(epoch), BootInstant::now()).await;
        }
        let again = echo.of(&orders(100), BootInstant::now()).await;
        let again: Vec<_> = again.iter().map(|(orders, _)| orders.owner_epoch).collect();
        assert_eq!(again, [1, KEPT as u64, 100]);
    }
}
