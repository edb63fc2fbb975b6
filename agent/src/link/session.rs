//! The link, and one conversation on one connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, metadata::MetadataMap, transport::Channel};
use windlass_core::Error;
use windlass_kit::failpoint::Failpoints;
use windlass_proto::agent::v1::{self as pb, agent_service_client::AgentServiceClient};

use super::{
    HostDescription, HostIdentity, LinkCertificates, LinkStatus,
    cadence::Cadence,
    happenings::Happenings,
    heartbeat,
    hello::{self, Engines},
    poll, renew, replication,
    replication::ReplicationLink,
    report,
};
use crate::commands::{CommandTarget, Executor, Outbox};

pub(super) type Client = AgentServiceClient<Channel>;

/// How long running commands may still take after the agent was asked to stop.
const LAST_COMMANDS: Duration = Duration::from_millis(2500);
/// How long their results may take to be reported, together with the former.
const LAST_WORDS: Duration = Duration::from_millis(3500);

/// Gives the load of the host.
pub trait LoadSource: Send + Sync + 'static {
    /// The load now.
    fn sample(&self) -> pb::HostFacts;
}

/// What a link is made of.
pub struct LinkParts {
    /// New for each start of the agent.
    pub session_id: String,
    /// What is said in hello.
    pub host: HostDescription,
    /// Gives the load.
    pub load: Arc<dyn LoadSource>,
    /// Whose facts are told.
    pub target: Arc<dyn CommandTarget>,
    /// Takes commands.
    pub executor: Executor,
    /// Holds results.
    pub outbox: Outbox,
    /// Facts and orders of replicated members.
    pub replication: Arc<ReplicationLink>,
    /// Gets the connection for member certificates.
    pub certificates: LinkCertificates,
    /// Places where tests make things fail.
    pub failpoints: Failpoints,
    /// Goes with each call; empty but for simulated agents, which may have no certificate.
    pub metadata: MetadataMap,
}

/// The agent's side of all its connections, one after the other.
pub struct Link {
    parts: LinkParts,
    happenings: Happenings,
    heartbeats: AtomicU64,
    status: watch::Sender<LinkStatus>,
}

/// How a conversation ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The agent is to stop.
    Stopped,
    /// The node is going away.
    Drained,
    /// There is a new certificate to connect with.
    Renewed,
    /// It broke, or was refused.
    Lost(Error),
}

/// What is left of a conversation.
pub(super) struct Conversed {
    pub(super) ended: Ended,
    /// The pace set last; None if there was no answer to hello.
    pub(super) cadence: Option<Cadence>,
    pub(super) lasted: Duration,
}

/// One connection in use.
pub(super) struct Conversation<'a> {
    pub(super) link: &'a Link,
    pub(super) client: Client,
    cadence: watch::Sender<Cadence>,
    renewed: CancellationToken,
}

impl Link {
    /// A link without a connection.
    pub fn new(parts: LinkParts) -> Self {
        Self {
            parts,
            happenings: Happenings::default(),
            heartbeats: AtomicU64::new(0),
            status: watch::Sender::new(LinkStatus::Connecting { problem: String::new() }),
        }
    }

    /// How the connection stands, from now on.
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.status.subscribe()
    }

    /// Talks on a fresh connection until it ends. With an identity its certificate is renewed when it is time.
    pub(super) async fn converse(
        &self,
        endpoint: &str,
        channel: Channel,
        identity: Option<&HostIdentity>,
        stop: &CancellationToken,
    ) -> Conversed {
        let begun = Instant::now();
        let mut client = Client::new(channel);
        let told = hello::engines(self);
        let cadence = match stop.run_until_cancelled(hello::hello(self, &mut client)).await {
            None => return Conversed { ended: Ended::Stopped, cadence: None, lasted: begun.elapsed() },
            Some(Err(error)) => {
                return Conversed { ended: Ended::Lost(error), cadence: None, lasted: begun.elapsed() };
            }
            Some(Ok(cadence)) => Cadence::from_wire(cadence),
        };
        tracing::info!(endpoint, "connected");
        self.parts.outbox.again();
        self.parts.certificates.connected(client.clone());
        self.parts.replication.connected(client.clone());
        self.set_status(LinkStatus::Connected { endpoint: endpoint.to_owned() });
        let talk = Conversation {
            link: self,
            client,
            cadence: watch::Sender::new(cadence),
            renewed: CancellationToken::new(),
        };
        let ended = talk.run(told, identity, stop).await;
        self.parts.certificates.disconnected();
        self.parts.replication.disconnected();
        Conversed { ended, cadence: Some(talk.cadence()), lasted: begun.elapsed() }
    }

    /// Collects what happens, connected or not. Never returns.
    pub(super) async fn collect_happenings(&self) {
        self.happenings.collect(self.parts.target.happenings()).await;
        std::future::pending().await
    }

    pub(super) fn set_status(&self, status: LinkStatus) {
        self.status.send_replace(status);
    }

    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.parts.metadata.clone();
        request
    }

    pub(super) fn next_heartbeat(&self) -> u64 {
        self.heartbeats.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn load(&self) -> pb::HostFacts {
        self.parts.load.sample()
    }

    pub(super) fn session_id(&self) -> &str {
        &self.parts.session_id
    }

    pub(super) fn host(&self) -> &HostDescription {
        &self.parts.host
    }

    pub(super) fn target(&self) -> &dyn CommandTarget {
        &*self.parts.target
    }

    pub(super) fn executor(&self) -> &Executor {
        &self.parts.executor
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.parts.outbox
    }

    pub(super) fn replication(&self) -> &ReplicationLink {
        &self.parts.replication
    }

    pub(super) fn failpoints(&self) -> &Failpoints {
        &self.parts.failpoints
    }

    pub(super) fn happenings(&self) -> &Happenings {
        &self.happenings
    }
}

impl Conversation<'_> {
    /// The pace set last.
    pub(super) fn cadence(&self) -> Cadence {
        *self.cadence.borrow()
    }

    /// Takes the pace from an answer.
    pub(super) fn obey(&self, cadence: Option<pb::Cadence>) {
        if let Some(cadence) = cadence {
            self.cadence.send_replace(Cadence::from_wire(cadence));
        }
    }

    /// Ends the conversation after the poll in hand, to connect with a new certificate.
    pub(super) fn leave_renewed(&self) {
        self.renewed.cancel();
    }

    /// Whether no further poll is to be made.
    pub(super) fn is_leaving(&self) -> bool {
        self.cadence().drain || self.renewed.is_cancelled()
    }

    async fn run(&self, told: Engines, identity: Option<&HostIdentity>, stop: &CancellationToken) -> Ended {
        let renew = async {
            match identity {
                Some(identity) => renew::run(self, identity).await,
                None => std::future::pending().await,
            }
        };
        // Boxed: together they are some kilobytes, and there may be a thousand of them in one test.
        let (poll, report) = (Box::pin(poll::run(self)), Box::pin(report::run(self)));
        let (heartbeat, renew) = (Box::pin(heartbeat::run(self, told)), Box::pin(renew));
        let (facts, orders) = (Box::pin(replication::report(self)), Box::pin(replication::watch(self)));
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                self.last_words().await;
                Ended::Stopped
            }
            polled = poll => match polled {
                Err(error) => Ended::Lost(error),
                Ok(()) if self.renewed.is_cancelled() => Ended::Renewed,
                Ok(()) => Ended::Drained,
            },
            Err(error) = report => Ended::Lost(error),
            Err(error) = heartbeat => Ended::Lost(error),
            Err(error) = renew => Ended::Lost(error),
            Err(error) = facts => Ended::Lost(error),
            Err(error) = orders => Ended::Lost(error),
        }
    }

    /// No further command; those that run may end and be reported, within bounds.
    async fn last_words(&self) {
        let (executor, outbox) = (self.link.executor(), self.link.outbox());
        let ended = async {
            executor.stop(LAST_COMMANDS).await;
            outbox.emptied().await;
        };
        let reported = async {
            tokio::select! {
                () = ended => {}
                Err(error) = report::run(self) => {
                    tracing::warn!(error = error.chain(), "last results were not reported; the next start does it");
                }
            }
        };
        if timeout(LAST_WORDS, reported).await.is_err() {
            tracing::warn!("last results were not reported in time; the next start does it");
        }
    }
}
