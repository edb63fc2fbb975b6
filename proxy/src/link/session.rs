//! Staying connected, and one conversation on one connection.
//!
//! Invariants: no limit to the attempts; after a good conversation the first attempt comes within the spread that the
//! control plane set; a refusal is asked again only now and then.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use windlass_core::Error;
use windlass_kit::{
    backoff::Backoff,
    call::{ANSWER, call, is_refusal},
    random, tls,
};
use windlass_proto::proxy::v1::{self as pb, proxy_service_client::ProxyServiceClient};

use super::{Enrolment, ProxyIdentity, certificate, report, watch};
use crate::{Shared, pauses::Pauses, routes::RouteLog};

pub(super) type Client = ProxyServiceClient<Channel>;

/// Largest answer taken: some ten thousands of routes.
const MESSAGE_MAX: usize = 64 << 20;
/// A conversation that lasted this long was a good one.
const GOOD: Duration = Duration::from_secs(1);
/// Waits after failed attempts.
const PACE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Waits after a refusal, at least and at most.
const REFUSED: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(30));

/// The proxy's side of all its connections, one after the other.
#[derive(Debug)]
pub struct Link {
    /// Parts of the proxy.
    pub shared: Arc<Shared>,
    /// Who it is.
    pub identity: Arc<ProxyIdentity>,
    /// Where routes are stored.
    pub log: RouteLog,
    /// Pauses that took effect.
    pub pauses: Arc<Pauses>,
    /// Keeps the certificate that clients see, if it comes from the control plane.
    pub certificate: Option<crate::tls::StoredCertificate>,
    /// What it says of itself.
    pub hello: Hello,
}

/// What a proxy says of itself.
#[derive(Debug, Clone)]
pub struct Hello {
    /// New for each start of the proxy.
    pub session_id: String,
    /// Where clients reach it.
    pub address: String,
    /// Port.
    pub port: u16,
    /// What instances' names end with.
    pub domain: String,
}

/// What one conversation knows.
pub(super) struct Talk<'a> {
    pub(super) link: &'a Link,
    pub(super) client: Client,
    pub(super) hold: Duration,
}

/// The identity of this proxy: the existing one, or a new one as soon as the control plane gives one. `None` if asked to
/// stop before.
pub async fn identity(
    enrolment: &Enrolment,
    endpoints: &[String],
    stop: &CancellationToken,
) -> Option<Arc<ProxyIdentity>> {
    let mut backoff = Backoff::new(PACE.0, PACE.1);
    for endpoint in endpoints.iter().cycle() {
        let error = match ProxyIdentity::load(&enrolment.identity_path) {
            Ok(Some(identity)) => return Some(identity),
            Ok(None) => match stop.run_until_cancelled(enrolment.attempt(endpoint)).await? {
                Ok(identity) => return Some(identity),
                Err(error) => error,
            },
            Err(error) => error,
        };
        let pause = if error.retryable() { backoff.next(random::unit()) } else { after_refusal() };
        tracing::error!(endpoint, error = error.chain(), again_in = ?pause, "no identity");
        stop.run_until_cancelled(sleep(pause)).await?;
    }
    None
}

impl Hello {
    /// Connects and says it.
    ///
    /// # Errors
    /// Those of the connection; what the control plane says.
    pub(super) async fn say(
        &self,
        endpoint: &str,
        identity: &ProxyIdentity,
    ) -> Result<(Client, pb::HelloResponse), Error> {
        let channel = tls::connect(endpoint, &identity.trust()?, Some(identity.store())).await?;
        let mut client = Client::new(channel).max_decoding_message_size(MESSAGE_MAX);
        let hello = pb::HelloRequest {
            proxy_version: env!("CARGO_PKG_VERSION").to_owned(),
            session_id: self.session_id.clone(),
            address: self.address.clone(),
            port: self.port.into(),
            domain: self.domain.clone(),
        };
        let answer = call(ANSWER, client.hello(hello)).await?;
        Ok((client, answer))
    }
}

impl Link {
    /// Connects and talks, again and again, until asked to stop.
    pub async fn keep_connected(&self, stop: &CancellationToken) {
        let endpoints = &self.shared.config.endpoints;
        let start = random::below(u32::try_from(endpoints.len()).unwrap_or(u32::MAX).max(1)) as usize;
        let mut backoff = Backoff::new(PACE.0, PACE.1);
        for endpoint in endpoints.iter().cycle().skip(start) {
            let begun = Instant::now();
            let ended = stop.run_until_cancelled(Box::pin(self.converse(endpoint))).await;
            self.shared.metrics.connected.set(0);
            let Some(ended) = ended else { return };
            let pause = match ended {
                Ok(Ended::Renewed) => continue,
                Err((error, _)) if is_refusal(&error) => {
                    tracing::error!(endpoint, error = error.chain(), "refused; clients are served all the same");
                    after_refusal()
                }
                Err((error, spread)) => {
                    tracing::warn!(endpoint, error = error.chain(), "not connected to the control plane");
                    if begun.elapsed() >= GOOD {
                        backoff.reset();
                        spread.mul_f64(random::unit())
                    } else {
                        backoff.next(random::unit())
                    }
                }
            };
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// One connection, until it breaks or there is a new certificate to connect with.
    async fn converse(&self, endpoint: &str) -> Result<Ended, (Error, Duration)> {
        let at_once = |error| (error, Duration::ZERO);
        let (client, answer) = self.hello.say(endpoint, &self.identity).await.map_err(at_once)?;
        tracing::info!(endpoint, "connected to the control plane");
        self.shared.metrics.connected.set(1);
        let given = |given: Option<pbjson_types::Duration>, usual: u64, most: u64| {
            let given = given.and_then(|given| Duration::try_from(given).ok());
            given.unwrap_or(Duration::from_secs(usual)).min(Duration::from_secs(most))
        };
        let spread = given(answer.reconnect_spread, 1, 60);
        let talk = Talk { link: self, client, hold: given(answer.poll_hold, 30, 600) };
        let ended = tokio::select! {
            Err(error) = watch::run(&talk) => Err(error),
            Err(error) = report::run(&talk) => Err(error),
            Err(error) = certificate::keep_server(&talk) => Err(error),
            renewed = certificate::renew_own(&talk) => renewed.map(|()| Ended::Renewed),
        };
        ended.map_err(|error| (error, spread))
    }
}

/// How a conversation ended without an error.
enum Ended {
    /// There is a new certificate to connect with.
    Renewed,
}

fn after_refusal() -> Duration {
    REFUSED.0 + (REFUSED.1 - REFUSED.0).mul_f64(random::unit())
}
