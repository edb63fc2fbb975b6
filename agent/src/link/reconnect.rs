//! Staying connected: which address, when again, for ever.
//!
//! Invariants: the agent never gives up and never exits because the control plane is away; a fleet that lost its node
//! comes back spread over time; a host that is refused asks again only now and then.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use windlass_kit::{backoff::Backoff, random};

use super::{
    Dialer, Enrolment, HostIdentity, Link, LinkStatus,
    call::is_refusal,
    enrol,
    session::{Conversed, Ended},
};

/// A conversation that lasted this long was a good one: what ended it is news.
const GOOD: Duration = Duration::from_secs(1);

/// Longest wait of a host with replicated members: there, silence is evidence.
const REPLICATED: Duration = Duration::from_secs(1);

/// How long to wait between attempts. The spread of the first reconnect is set by the control plane.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Shortest wait after a failed attempt.
    pub base: Duration,
    /// Longest wait after failed attempts.
    pub cap: Duration,
    /// Shortest and longest wait after a refusal.
    pub refused: (Duration, Duration),
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(250),
            cap: Duration::from_secs(15),
            refused: (Duration::from_secs(30), Duration::from_secs(60)),
        }
    }
}

impl Pace {
    fn backoff(&self) -> Backoff {
        Backoff::new(self.base, self.cap)
    }

    fn after_refusal(&self) -> Duration {
        let (least, most) = self.refused;
        least + most.saturating_sub(least).mul_f64(random::unit())
    }
}

/// The addresses of the control plane in a random order, so that a fleet spreads over its nodes.
struct Addresses<'a> {
    order: Vec<&'a str>,
    current: usize,
}

impl<'a> Addresses<'a> {
    fn new(endpoints: &'a [String]) -> Self {
        let mut order: Vec<_> = endpoints.iter().map(String::as_str).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, random::below(last as u32 + 1) as usize);
        }
        Self { order, current: 0 }
    }

    fn current(&self) -> &'a str {
        self.order.get(self.current).copied().unwrap_or_default()
    }

    fn next(&mut self) {
        self.current = (self.current + 1) % self.order.len().max(1);
    }
}

/// The identity of this host: the existing one, or a new one as soon as the control plane gives one. `None` if asked to
/// stop before. An identity that cannot be used is left alone and looked at again now and then: a person has to repair it,
/// and the databases need the agent meanwhile.
pub async fn identity(
    link: &Link,
    enrolment: &Enrolment,
    endpoints: &[String],
    pace: &Pace,
    stop: &CancellationToken,
) -> Option<Arc<HostIdentity>> {
    let (mut addresses, mut backoff) = (Addresses::new(endpoints), pace.backoff());
    link.set_status(LinkStatus::Enrolling { problem: String::new() });
    loop {
        let error = match enrolment.existing() {
            Ok(Some(identity)) => return Some(identity),
            Ok(None) => match stop.run_until_cancelled(enrolment.attempt(addresses.current())).await? {
                Ok(identity) => return Some(identity),
                Err(error) => error,
            },
            Err(error) => error,
        };
        let pause = if enrol::is_hopeless(&error) { pace.after_refusal() } else { backoff.next(random::unit()) };
        tracing::error!(endpoint = addresses.current(), error = error.chain(), again_in = ?pause, "no identity");
        link.set_status(LinkStatus::Enrolling { problem: error.message });
        addresses.next();
        stop.run_until_cancelled(sleep(pause)).await?;
    }
}

/// Connects and talks, again and again, until asked to stop. With an identity its certificate is kept fresh.
pub async fn keep_connected(
    link: &Link,
    dialer: &dyn Dialer,
    endpoints: &[String],
    identity: Option<&HostIdentity>,
    pace: &Pace,
    stop: &CancellationToken,
) {
    tokio::select! {
        () = link.collect_happenings() => {}
        () = Box::pin(reconnect(link, dialer, endpoints, identity, pace, stop)) => {}
    }
}

async fn reconnect(
    link: &Link,
    dialer: &dyn Dialer,
    endpoints: &[String],
    identity: Option<&HostIdentity>,
    pace: &Pace,
    stop: &CancellationToken,
) {
    let (mut addresses, mut backoff) = (Addresses::new(endpoints), pace.backoff());
    link.set_status(LinkStatus::Connecting { problem: String::new() });
    while !stop.is_cancelled() {
        let endpoint = addresses.current();
        let conversed = match stop.run_until_cancelled(dialer.dial(endpoint)).await {
            None => return,
            Some(Ok(channel)) => link.converse(endpoint, channel, identity, stop).await,
            Some(Err(error)) => Conversed { ended: Ended::Lost(error), cadence: None, lasted: Duration::ZERO },
        };
        let was_good = conversed.cadence.is_some() && conversed.lasted >= GOOD;
        if was_good {
            backoff.reset();
        }
        let mut pause = if was_good { Duration::ZERO } else { backoff.next(random::unit()) };
        match conversed.ended {
            Ended::Stopped => return,
            Ended::Renewed => link.set_status(LinkStatus::Connecting { problem: String::new() }),
            Ended::Drained => {
                tracing::info!(endpoint, "the node is going away; connecting elsewhere");
                link.set_status(LinkStatus::Connecting { problem: format!("{endpoint} is going away") });
                addresses.next();
            }
            Ended::Lost(error) if is_refusal(&error) => {
                pause = pace.after_refusal();
                tracing::error!(endpoint, error = error.chain(), again_in = ?pause, "refused; databases go on");
                link.set_status(LinkStatus::Refused { problem: error.message });
                addresses.next();
            }
            Ended::Lost(error) => {
                if let Some(cadence) = conversed.cadence {
                    pause = pause.max(cadence.reconnect_spread.mul_f64(random::unit()));
                }
                if link.replication().has_members() {
                    pause = pause.min(REPLICATED.mul_f64(0.5 + 0.5 * random::unit()));
                }
                tracing::warn!(endpoint, error = error.chain(), again_in = ?pause, "not connected");
                link.set_status(LinkStatus::Connecting { problem: error.message });
                addresses.next();
            }
        }
        stop.run_until_cancelled(sleep(pause)).await;
    }
}
