//! One simulated agent and its lives.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{metadata::MetadataMap, transport::Channel};
use uuid::Uuid;
use windlass_core::{
    Error,
    engine::Engine,
    id::HostId,
    size::{GIB, Resources},
};
use windlass_kit::{failpoint::Failpoints, shutdown::Shutdown};
use windlass_proto::agent::v1 as pb;

use super::{FakeTarget, SimCluster, SimReplication, replication::Lives};
use crate::{
    commands::{Executor, Outbox},
    journal::{Journal, MemoryStorage},
    link::{
        Dialer, HostDescription, HostIdentity, Link, LinkCertificates, LinkParts, LinkStatus, LoadSource,
        NoReplication, Pace, ReplicationLink, ReplicationTarget, TlsDialer, keep_connected,
    },
    members::InstalledEngine,
    peers::Peers,
};

/// How a simulated agent gets to the control plane.
#[derive(Clone)]
pub enum SimConnection {
    /// By a channel that others may use too. `metadata` goes with each call, for a server that has no certificate to
    /// tell its callers apart.
    Shared {
        /// The channel.
        channel: Channel,
        /// For example the host's id.
        metadata: MetadataMap,
    },
    /// As a real agent, by TLS with the identity of an enrolled host.
    Enrolled {
        /// `https://host:port`, at least one.
        endpoints: Vec<String>,
        /// See [`crate::link::Enrolment`].
        identity: Arc<HostIdentity>,
    },
}

/// What a simulated host looks like.
#[derive(Debug, Clone)]
pub struct SimPlan {
    /// What it says of itself.
    pub host: HostDescription,
    /// What it has installed.
    pub engines: Vec<InstalledEngine>,
    /// How fast it comes back.
    pub pace: Pace,
    /// Places where tests make things fail.
    pub failpoints: Failpoints,
    /// Whether it listens for other agents on loopback and probes them; only if it is enrolled.
    pub peers: SimPeers,
}

/// Whether a simulated agent talks to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimPeers {
    /// It does not.
    Off,
    /// As a real one.
    On,
}

impl Default for SimPlan {
    /// 64 cores, 256 GiB, 4 TiB; PostgreSQL 15 and MariaDB 10.11 without catalogues; back within milliseconds.
    fn default() -> Self {
        let engine = |engine, version: &str, full: &str| InstalledEngine {
            engine,
            version: version.to_owned(),
            full_version: full.to_owned(),
            catalogue: None,
        };
        Self {
            host: HostDescription {
                boot_id: Uuid::now_v7().to_string(),
                capacity: Resources { cpu_millis: 64_000, memory_bytes: 256 * GIB, disk_bytes: 4096 * GIB },
                address: "127.0.0.1".to_owned(),
                ports: (20_000, 29_999),
                peer_port: 0,
            },
            engines: vec![engine(Engine::Postgres, "15", "15.13"), engine(Engine::Mariadb, "10.11", "10.11.11")],
            pace: Pace {
                base: Duration::from_millis(10),
                cap: Duration::from_millis(500),
                refused: (Duration::from_millis(500), Duration::from_millis(1000)),
            },
            failpoints: Failpoints::none(),
            peers: SimPeers::Off,
        }
    }
}

/// A simulated agent. Its members and its journal outlive its kills.
pub struct SimAgent {
    plan: SimPlan,
    connection: SimConnection,
    target: Arc<FakeTarget>,
    replication: Arc<dyn ReplicationTarget>,
    databases: Option<Arc<SimReplication>>,
    disk: MemoryStorage,
    life: Option<Life>,
}

/// From a start to a stop or kill.
struct Life {
    stop: CancellationToken,
    executor: Executor,
    status: watch::Receiver<LinkStatus>,
    task: JoinHandle<()>,
}

impl SimAgent {
    /// An agent that does not run yet.
    pub fn new(connection: SimConnection, plan: SimPlan) -> Self {
        let target = FakeTarget::new(plan.engines.clone());
        let replication = Arc::new(NoReplication::default());
        Self { plan, connection, target, replication, databases: None, disk: MemoryStorage::default(), life: None }
    }

    /// Gives it replicated members, before it is started.
    #[must_use]
    pub fn replicating(mut self, replication: Arc<dyn ReplicationTarget>) -> Self {
        self.replication = replication;
        self
    }

    /// Gives it databases that replicate, before it is started: the members that it is told to replicate live in `cluster`.
    #[must_use]
    pub fn in_cluster(mut self, cluster: &SimCluster, host: HostId) -> Self {
        let databases = cluster.host(host);
        self.target.replicate(databases.clone());
        self.databases = Some(databases.clone());
        self.replicating(databases)
    }

    /// Starts it, if it does not run. Needs a runtime.
    ///
    /// # Errors
    /// If its journal cannot be read or written.
    pub fn start(&mut self) -> Result<(), Error> {
        if self.life.is_some() {
            return Ok(());
        }
        let journal = Journal::open(self.disk.clone())?;
        let outbox = Outbox::default();
        let executor = Executor::start(self.target.clone(), journal, outbox.clone(), self.plan.failpoints.clone());
        let metadata = match &self.connection {
            SimConnection::Shared { metadata, .. } => metadata.clone(),
            SimConnection::Enrolled { .. } => MetadataMap::new(),
        };
        let session_id = Uuid::now_v7().to_string();
        let replication = ReplicationLink::new(session_id.clone(), self.replication.clone());
        let (peers, peer_port) = self.peers(&replication)?;
        let link = Link::new(LinkParts {
            replication,
            session_id,
            host: HostDescription { peer_port, ..self.plan.host.clone() },
            load: Arc::new(NoLoad),
            target: self.target.clone(),
            executor: executor.clone(),
            outbox,
            certificates: LinkCertificates::new(),
            failpoints: self.plan.failpoints.clone(),
            metadata,
        });
        let (stop, status) = (CancellationToken::new(), link.status());
        let task = tokio::spawn(live(link, self.connection.clone(), peers, self.plan.pace.clone(), stop.clone()));
        self.life = Some(Life { stop, executor, status, task });
        self.tell_databases(Lives::Yes);
        Ok(())
    }

    /// What it needs to talk to other agents, and its port for them.
    fn peers(&self, replication: &Arc<ReplicationLink>) -> Result<(Option<Peering>, u16), Error> {
        let (SimConnection::Enrolled { identity, .. }, SimPeers::On) = (&self.connection, self.plan.peers) else {
            return Ok((None, 0));
        };
        let listen = || {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
            listener.set_nonblocking(true)?;
            let port = listener.local_addr()?.port();
            Ok::<_, std::io::Error>((TcpListener::from_std(listener)?, port))
        };
        let (listener, port) =
            listen().map_err(|error| Error::internal("a simulated agent cannot listen").with_source(error))?;
        Ok((Some(Peering { peers: Peers::new(replication.clone(), identity.clone()), listener }), port))
    }

    /// Ends it in order: running commands may end and be reported.
    pub async fn stop(&mut self) {
        self.tell_databases(Lives::No);
        if let Some(life) = self.life.take() {
            life.stop.cancel();
            // A panic of the agent is the test's to see in its log; there is nothing to clean up after it.
            let _ = life.task.await;
            life.executor.stop(Duration::ZERO).await;
            life.executor.settle().await;
        }
    }

    /// Ends it as kill -9 does: nothing more is sent, nothing running is finished.
    pub async fn kill(&mut self) {
        self.tell_databases(Lives::No);
        if let Some(life) = self.life.take() {
            life.task.abort();
            let _ = life.task.await;
            life.executor.stop(Duration::ZERO).await;
        }
    }

    /// Without their agent databases go on as they are, but nobody obeys orders.
    fn tell_databases(&self, agent: Lives) {
        if let Some(databases) = &self.databases {
            databases.set_agent(agent);
        }
    }

    /// Kills it and starts it again.
    ///
    /// # Errors
    /// As [`SimAgent::start`].
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.kill().await;
        self.start()
    }

    /// Its members and what was done to them.
    pub fn target(&self) -> &Arc<FakeTarget> {
        &self.target
    }

    /// The disk under its journal.
    pub fn disk(&self) -> &MemoryStorage {
        &self.disk
    }

    /// How its connection stands; `None` while it does not run.
    pub fn status(&self) -> Option<LinkStatus> {
        self.life.as_ref().map(|life| life.status.borrow().clone())
    }

    /// Waits until it is connected. Waits for ever if it does not run.
    pub async fn connected(&self) {
        let Some(life) = &self.life else { return std::future::pending().await };
        let connected = |status: &LinkStatus| matches!(status, LinkStatus::Connected { .. });
        if life.status.clone().wait_for(connected).await.is_err() {
            std::future::pending().await
        }
    }
}

/// What talking to other agents takes.
struct Peering {
    peers: Arc<Peers>,
    listener: TcpListener,
}

async fn live(link: Link, connection: SimConnection, peering: Option<Peering>, pace: Pace, stop: CancellationToken) {
    match connection {
        SimConnection::Shared { channel, .. } => {
            let dialer = SharedChannel(channel);
            keep_connected(&link, &dialer, &["shared".to_owned()], None, &pace, &stop).await;
        }
        SimConnection::Enrolled { endpoints, identity } => {
            let dialer = TlsDialer(identity.clone());
            // Its token is cancelled when this task is dropped, so that a kill closes the listener too.
            let shutdown = Shutdown::new();
            let _closed = shutdown.token().clone().drop_guard();
            let others = async {
                if let Some(Peering { peers, listener }) = peering {
                    let _ = tokio::join!(peers.clone().answer(listener, &shutdown), peers.watch());
                }
                std::future::pending::<()>().await
            };
            tokio::select! {
                () = others => {}
                () = keep_connected(&link, &dialer, &endpoints, Some(&identity), &pace, &stop) => {}
            }
        }
    }
}

/// The same channel at each dial; it reconnects by itself.
struct SharedChannel(Channel);

#[async_trait]
impl Dialer for SharedChannel {
    async fn dial(&self, _endpoint: &str) -> Result<Channel, Error> {
        Ok(self.0.clone())
    }
}

/// A machine that does nothing.
struct NoLoad;

impl LoadSource for NoLoad {
    fn sample(&self) -> pb::HostFacts {
        pb::HostFacts::default()
    }
}
