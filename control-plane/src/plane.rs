//! A whole control plane in one value: started from a configuration, stopped in order.
//!
//! Order of start: state directory, metadata, keys, background work, and the listener last, so that whoever reaches the
//! port finds everything. Order of stop: the listener and the background work together, then the pool, then the
//! embedded database. A crash at any point leaves a state from which the next start goes on; the embedded database
//! keeps running and is adopted.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tonic::service::Routes;
use tracing::info;
use windlass_core::{Error, Reason};
use windlass_db::Db;
use windlass_kit::{
    failpoint::Failpoints,
    random,
    shutdown::{Shutdown, TaskKind},
    tls,
};
use windlass_proto::agent::v1::{
    agent_service_server::AgentServiceServer, enrolment_service_server::EnrolmentServiceServer,
};

use crate::{
    api::{Api, agent::AgentApi, auth::Authenticator, gate::GateLayer, limit::Limiter, server::MESSAGE_MAX},
    app::Context,
    config::Config,
    gc::Collector,
    health::{Health, HealthConfig},
    installation,
    lease::{Keeper, LeaseConfig},
    metadata::{self, Embedded},
    pki,
    queue::{HostWaker, Queue, QueueConfig},
    reconcile::Reconciler,
    sagas::{self, Advance, Executor, OperationWatch, Tuning},
    secrets::Sealer,
    state_dir::{StateDir, kek},
};

/// How long tasks may take to end.
const GRACE: Duration = Duration::from_secs(20);

/// A running control plane.
#[derive(Debug)]
pub struct Plane {
    /// Address of the listener, with the port that was given if the configuration said 0.
    pub address: SocketAddr,
    /// The CA's certificate, for clients.
    pub ca_file: PathBuf,
    /// Shared parts, for tests.
    pub context: Arc<Context>,
    shutdown: Shutdown,
    embedded: Option<Embedded>,
    _state: StateDir,
}

impl Plane {
    /// Starts it; ready when this returns.
    ///
    /// # Errors
    /// `STATE_FORBIDS` when another one has the state directory; `UNAVAILABLE` when the port is taken or the metadata
    /// cannot be opened; others of the parts.
    pub async fn start(config: Config, failpoints: Failpoints) -> Result<Self, Error> {
        Self::start_with(config, failpoints, Shutdown::new()).await
    }

    /// As [`Plane::start`], with a shutdown that the caller can begin, also while it waits for the metadata.
    ///
    /// # Errors
    /// As [`Plane::start`].
    pub async fn start_with(config: Config, failpoints: Failpoints, shutdown: Shutdown) -> Result<Self, Error> {
        config.check()?;
        let state = StateDir::lock(&config.state_dir)?;
        let opened = metadata::open(&config, shutdown.token()).await?;
        match Self::assemble(config, failpoints, shutdown.clone(), state, &opened).await {
            Ok(plane) => Ok(plane),
            Err(error) => {
                shutdown.begin();
                let _ = shutdown.finish(GRACE).await;
                opened.db.close().await;
                Err(error)
            }
        }
    }

    async fn assemble(
        config: Config,
        failpoints: Failpoints,
        shutdown: Shutdown,
        state: StateDir,
        opened: &metadata::Metadata,
    ) -> Result<Self, Error> {
        let db = opened.db.clone();
        let sealer = Sealer::open_file(&kek(&config.state_dir))?;
        let authority = Arc::new(installation::authority(&db, &sealer, &config.certificates).await?);
        let ca_file = state.write_ca(authority.ca_pem())?;
        let listener = listen(config.listen).await?;
        let address =
            listener.local_addr().map_err(|e| Error::internal("the listener has no address").with_source(e))?;

        let (hosts, wakeups) = HostWaker::new();
        let context = Arc::new(Context {
            db: db.clone(),
            sealer,
            authority: authority.clone(),
            registry: Arc::new(sagas::registry()),
            sagas: sagas::Waker::new(),
            hosts: hosts.clone(),
            health: Health::new(db.clone(), health_config(&config)),
            watch: OperationWatch::new(),
            config,
        });
        let keeper = Keeper::new(db.clone(), LeaseConfig::orchestrator(state.node_id()?));
        let ownership = keeper.ownership();
        shutdown.spawn("lease", TaskKind::Vital, keeper.run(shutdown.token().clone()));

        let queue_config = QueueConfig {
            hold: context.config.cadence.poll_hold.unsigned_abs(),
            keep: context.config.retention.commands,
            ..QueueConfig::default()
        };
        let (queue, engine) = Queue::new(db.clone(), queue_config, hosts.clone(), wakeups, context.sagas.clone());
        let (running, token, owner) = (queue.clone(), shutdown.token().clone(), ownership.clone());
        shutdown.spawn("queue", TaskKind::Vital, Box::pin(async move { running.run(engine, owner, token).await }));

        let health = context.health.clone().run(ownership.clone(), shutdown.token().clone());
        shutdown.spawn("host-health", TaskKind::Vital, health);

        let advance =
            Advance { db, registry: context.registry.clone(), hosts, watch: context.watch.clone(), failpoints };
        let executor = Executor::new(advance, ownership.clone(), context.sagas.clone(), Tuning::default());
        shutdown.spawn("executor", TaskKind::Vital, executor.run(shutdown.token().clone()));

        let reconciler =
            Reconciler { db: context.db.clone(), hosts: context.hosts.clone(), sagas: context.sagas.clone() };
        shutdown.spawn("reconciler", TaskKind::Vital, reconciler.run(ownership, shutdown.token().clone()));

        let collector = Collector::new(context.db.clone(), context.config.retention.clone());
        shutdown.spawn("collector", TaskKind::Vital, collector.run(shutdown.token().clone()));

        if let Some(server) = opened.embedded.clone() {
            let token = shutdown.token().clone();
            shutdown.spawn("metadata", TaskKind::Vital, async move {
                token.run_until_cancelled(server.keep_running()).await;
                Ok(())
            });
        }
        let agents = AgentApi::new(context.clone(), queue, shutdown.token().clone());
        serve(&context, agents, listener, address, &shutdown)?;
        info!(%address, ca = %ca_file.display(), "the control plane is ready");
        Ok(Self { address, ca_file, context, shutdown, embedded: opened.embedded.clone(), _state: state })
    }

    /// The metadata.
    pub fn db(&self) -> &Db {
        &self.context.db
    }

    /// Waits until shutdown begins (by [`Plane::shutdown`], a signal or the death of a vital part), and stops in order.
    ///
    /// # Errors
    /// The death of a vital part, or what did not end in time.
    pub async fn run(self) -> Result<(), Error> {
        let ended = self.shutdown.finish(GRACE).await;
        self.context.db.close().await;
        if let Some(server) = &self.embedded {
            server.stop().await?;
        }
        ended
    }

    /// Stops in order.
    ///
    /// # Errors
    /// As [`Plane::run`].
    pub async fn shutdown(self) -> Result<(), Error> {
        self.shutdown.begin();
        self.run().await
    }
}

/// Puts every service behind TLS on the listener.
fn serve(
    context: &Arc<Context>,
    agents: AgentApi,
    listener: TcpListener,
    address: SocketAddr,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let identity =
        pki::keep_server_identity(context.authority.clone(), server_names(&context.config, address), shutdown)?;
    let incoming = tls::serve(listener, identity, &context.authority.authorities()?, tls::Limits::default(), shutdown)?;
    let authenticator = Arc::new(Authenticator::new(context.db.clone()));
    let gate = GateLayer::new(authenticator.clone(), Limiter::new(&context.config.limits));
    let (health, health_service) = tonic_health::server::health_reporter();
    let mut routes = Api::new(context.clone(), authenticator).routes()?;
    routes
        .add_service(health_service)
        .add_service(EnrolmentServiceServer::new(agents.clone()).max_decoding_message_size(MESSAGE_MAX))
        .add_service(AgentServiceServer::new(agents).max_decoding_message_size(MESSAGE_MAX));
    let routes: Routes = routes.routes();
    let begun = shutdown.clone();
    let draining = shutdown.clone();
    shutdown.spawn("health", TaskKind::Optional, async move {
        draining.begun().await;
        health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        Ok(())
    });
    let mut server = tls::server(random::unit()).layer(gate);
    shutdown.spawn("api", TaskKind::Vital, async move {
        server
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, async move { begun.begun().await })
            .await
            .map_err(|error| Error::internal("the API server failed").with_source(error))
    });
    Ok(())
}

fn health_config(config: &Config) -> HealthConfig {
    let offline_after = config.cadence.offline_after.unsigned_abs();
    let spread = config.cadence.reconnect_spread.unsigned_abs();
    HealthConfig { offline_after, start_grace: offline_after * 2 + spread, ..HealthConfig::default() }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::precondition(
            Reason::Unavailable,
            format!("cannot listen on {address}: {error}; stop what uses it or set listen to another address"),
        )
        .with_source(error)
    })
}

/// Names and addresses that the server certificate is good for.
fn server_names(config: &Config, address: SocketAddr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !address.ip().is_unspecified() {
        names.push(address.ip().to_string());
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let is_dns = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    names.extend(Some(host.trim().to_owned()).filter(|name| !name.is_empty() && is_dns(name)));
    names.extend(config.advertise.iter().cloned());
    names.sort();
    names.dedup();
    names
}
