//! What is done with a member's data: compared with the leader's, copied, rewound, put aside.
//!
//! Invariants: data without a role does not come to be (the role is on disk first); data that may be half rewound has a
//! marker beside it until it is whole; nothing is deleted, only put aside. A newer order cuts a copy or a rewind short.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use windlass_core::Error;

use super::{
    effects::marker,
    machine::{Comparison, Machine},
    order::{Goal, Order},
    quarantine,
    rejoin::{Own, rejoin},
    seat::Seat,
    sight::{Busy, Sight},
    state::{Record, Role},
};
use crate::{
    engines::{
        Server,
        postgres::replication::{
            Divergence, Live, Lsn, Position, Upstream, clone, look_at_leader, read_history, rewind,
        },
    },
    host::files,
};

/// After the first copy that came to nothing: a new leader may not know its followers yet. Each further one doubles it.
const AFTER_COPY: Duration = Duration::from_millis(50);
/// A copy is not begun again and again: each attempt fills the leader's network and this host's disk.
const LONGEST_AFTER_COPY: Duration = Duration::from_secs(60);
/// A leader that cannot be copied yet is only asked.
const LONGEST_AFTER_REFUSAL: Duration = Duration::from_secs(1);

fn doubled(pause: Option<Duration>, longest: Duration) -> Duration {
    pause.map_or(AFTER_COPY, |pause| pause.saturating_mul(2)).min(longest)
}

impl Machine {
    pub(super) async fn compare(
        &mut self,
        server: &Server,
        record: &Record,
        order: Option<&Order>,
    ) -> Result<(), Error> {
        let Some((order, follow)) = order.and_then(|order| match &order.goal {
            Goal::Follow(follow) => Some((order, follow)),
            Goal::Lead(_) | Goal::Seal | Goal::Drain | Goal::Rest => None,
        }) else {
            return Ok(());
        };
        let Sight::Live(live) = self.sight.clone() else { return Ok(()) };
        let own = Own {
            position: position(server, record, &live)?,
            barrier: live.barrier,
            promoting: record.promoting,
            rewound: record.rewound_for == order.epoch,
        };
        let from = Some((own.position.timeline, own.position.end));
        let leader = look_at_leader(server, &follow.leader, live.barrier, from).await?;
        let outcome = rejoin(order.epoch, follow, &own, &leader);
        tracing::debug!(member = %record.member, ?own, ?leader, ?outcome, "compared with the leader");
        self.comparison = Some(Comparison { rev: order.rev, at: Instant::now(), outcome });
        Ok(())
    }

    pub(super) async fn copy(
        &mut self,
        server: &Server,
        upstream: &Upstream,
        order: Option<&Order>,
    ) -> Result<(), Error> {
        let Some((order, leader)) = order.and_then(|order| match &order.goal {
            Goal::Follow(follow) => Some((order, &follow.leader)),
            Goal::Lead(_) | Goal::Seal | Goal::Drain | Goal::Rest => None,
        }) else {
            return Ok(());
        };
        self.busy = Some(Busy::Copying);
        self.tell();
        let seen = look_at_leader(server, leader, None, None).await;
        let leads = seen.and_then(|seen| {
            let not_yet = || format!("{}:{} does not lead epoch {} yet", leader.address, leader.port, order.epoch);
            let leads = !seen.recovering && seen.epoch == Some(order.epoch);
            if leads { Ok(()) } else { Err(Error::unavailable(not_yet())) }
        });
        if let Err(error) = leads {
            self.copy_again = Some(doubled(self.copy_again, LONGEST_AFTER_REFUSAL));
            return Err(error);
        }
        // Before there is data: data without a role would not be trusted.
        let epoch = order.epoch;
        self.seat
            .update(|record| {
                (record.role, record.promoting, record.opened) = (Role::Demoted(epoch), None, None);
                (record.distrust, record.stopped_at) = (String::new(), None);
            })
            .await?;
        let scratch = self.seat.replica.root.join("data.new");
        let (cancel, progress) = (self.leave.child_token(), self.progress.clone());
        let copied = {
            let copying = clone(server, upstream, &scratch, &progress, &cancel);
            let telling = watch_progress(self);
            tokio::select! {
                copied = copying => copied,
                () = telling => Err(Error::unavailable("a newer order came")),
                () = newer_order(self.seat.clone(), order.rev) => Err(Error::unavailable("a newer order came")),
            }
        };
        self.busy = None;
        self.progress.send_replace(-1);
        self.copy_again = copied.is_err().then(|| doubled(self.copy_again, LONGEST_AFTER_COPY));
        copied?;
        self.failpoints.hit("ha.after_copy").await
    }

    pub(super) async fn rewind(
        &mut self,
        server: &Server,
        record: &Record,
        upstream: &Upstream,
        fork: Lsn,
        order: Option<&Order>,
    ) -> Result<(), Error> {
        let (rev, epoch) = order.map_or((0, 0), |order| (order.rev, order.epoch));
        self.busy = Some(Busy::Rewinding);
        self.tell();
        let aside = quarantine::add(&self.seat.replica.root)?;
        let marker = marker(&self.seat.replica.root);
        files::write_durably(&marker, b"a rewind is under way\n")?;
        self.failpoints.hit("ha.after_marker").await?;
        let segment = self.last_segment();
        let (cancel, divergence) =
            (self.leave.child_token(), Divergence { timeline: record.timeline, fork, segment, aside: &aside });
        let rewound = tokio::select! {
            rewound = rewind(server, upstream, divergence, &cancel) => rewound,
            () = newer_order(self.seat.clone(), rev) => Err(Error::unavailable("a newer order came")),
        };
        self.busy = None;
        self.comparison = None;
        let rewound = match rewound {
            Ok(rewound) => rewound,
            // The marker stays: the directory is copied anew.
            Err(error) => return Err(error),
        };
        self.failpoints.hit("ha.after_rewind").await?;
        if !rewound.lost_writes.is_empty() {
            let message = format!("{}: {}", server.title, rewound.lost_writes);
            self.members.replica_happened("member.rewound", record.member, message);
        }
        self.seat
            .update(|record| {
                record.rewound_for = epoch;
                record.lost_writes = rewound.lost_writes.clone();
                // Rewound from a leader that writes, it is whole only with WAL that is still to be streamed: started as a
                // standby of nobody it would wait for ever.
                (record.role, record.promoting, record.stopped_at) = (Role::Follower(epoch), None, None);
            })
            .await?;
        windlass_kit::files::remove(&marker)
    }

    fn last_segment(&self) -> u64 {
        const USUAL: u64 = 16 << 20;
        self.segment.max(if self.segment == 0 { USUAL } else { 0 })
    }

    /// Puts the data where nothing starts it.
    pub(super) async fn set_aside(&mut self, server: &Server, why: &str, ordered: Option<u64>) -> Result<(), Error> {
        tracing::warn!(member = %self.seat.member(), why, "the member's data is put aside");
        self.kill(server).await?;
        if server.site.data.exists() {
            let aside = quarantine::add(&self.seat.replica.root)?;
            files::move_durably(&server.site.data, &aside.join("data"))?;
        }
        self.failpoints.hit("ha.after_set_aside").await?;
        windlass_kit::files::remove(&marker(&self.seat.replica.root))?;
        // What the server ended of was in the data that is gone.
        (self.comparison, self.down) = (None, None);
        self.seat
            .update(|record| {
                record.copied_anew = ordered.unwrap_or(record.copied_anew);
                (record.distrust, record.stopped_at, record.promoting) = (String::new(), None, None);
                record.role = Role::Demoted(record.max_epoch);
            })
            .await
    }
}

/// Where a standby stands.
fn position(server: &Server, record: &Record, live: &Live) -> Result<Position, Error> {
    Ok(Position {
        system: live.system.clone(),
        timeline: record.timeline,
        history: read_history(&server.site.data, record.timeline)?,
        // The end of the last whole record: of a leader that died within one, a part may have arrived.
        end: live.replayed.unwrap_or_default(),
    })
}

/// Returns when another order was taken.
async fn newer_order(seat: Arc<Seat>, rev: u64) {
    while seat.record().applied_rev == rev {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Tells the progress now and then. Never returns.
async fn watch_progress(machine: &Machine) {
    let mut progress = machine.progress.subscribe();
    while progress.changed().await.is_ok() {
        machine.tell();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    std::future::pending().await
}
