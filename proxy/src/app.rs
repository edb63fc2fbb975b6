//! Wires the proxy: state directory, sockets, identity, routes, certificate, link, clients; and its end.
//!
//! Order of start: what may be taken (the directory, the ports) first; clients last, when there is everything to serve
//! them. The control plane is needed for the first start only. Order of the end: no new clients, then those at rest, then
//! the rest, then the link, so that clients are brought to the right place until the last one is gone.

use std::sync::{Arc, Mutex};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::timeout,
};
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use windlass_core::Error;
use windlass_kit::{
    files::{self, Access},
    lock::StateLock,
    shutdown::{Shutdown, TaskKind},
};

use crate::{
    Shared,
    accept::{Accept, Listeners},
    config::Config,
    drain::{Drain, Stage},
    evidence::Evidence,
    handover::{self, Estate},
    hold::Hold,
    limits::Limits,
    link::{self, Enrolment, Hello, Link, ProxyIdentity, TokenSource},
    metrics::Metrics,
    metrics_http,
    pauses::Pauses,
    routes::{Route, RouteLog, RouteTable, State},
    tls::{Backends, CertificateFiles, ServerTls, StoredCertificate},
};

/// How long the tasks may take to end when no client is left.
const LAST: std::time::Duration = std::time::Duration::from_secs(3);
/// Cancellations on their way to the process before; more are dropped.
const CANCELS: usize = 100;

/// Runs the proxy until it has come to its end.
///
/// # Errors
/// If it cannot start, or if a part that it cannot do without died.
pub async fn run(config: Config, token: TokenSource, shutdown: Shutdown) -> Result<(), Error> {
    let mut signals = Signals::install()?;
    raise_descriptors();
    files::create_directory(&config.state_dir, Access::Private)?;
    let (inherited, predecessor) = handover::take(&config.state_dir).await?.unzip();
    let lock = StateLock::take(&config.state_dir).await?;
    let listeners = Arc::new(Listeners::open(&config, inherited.unwrap_or_default())?);
    let (metrics, drain) = (Arc::new(Metrics::new()), Arc::new(Drain::new()));
    let serve = metrics_http::serve(listeners.clone(), metrics.clone(), drain.clone());
    spawn_until_end(&shutdown, "metrics", async move {
        serve.await;
        Ok(())
    });
    let hello = hello(&config, &listeners)?;
    let start = start(config, token, &hello, metrics, drain.clone(), &shutdown);
    let started = tokio::select! {
        started = start => started,
        () = signals.next() => return stop(&shutdown).await,
        () = shutdown.begun() => return stop(&shutdown).await,
    };
    let Started { shared, identity, log, certificate, files } = started?;

    let sessions = TaskTracker::new();
    let accept = Accept::new(shared.clone(), sessions.clone())?;
    let (former, cancels) = mpsc::channel(CANCELS);
    if predecessor.is_some() {
        shared.postgres.sessions().hand_on(former);
    }
    let estate =
        Estate { shared: shared.clone(), listeners: listeners.clone(), log: log.clone(), lock: Mutex::new(Some(lock)) };
    spawn_until_end(&shutdown, "hand-over", async move { handover::serve(Arc::new(estate)).await });
    spawn_until_end(&shutdown, "accept", async move {
        accept.run(listeners).await;
        Ok(())
    });
    if let Some(files) = files {
        let (following, stop) = (shared.clone(), shutdown.token().clone());
        shutdown.spawn("certificate files", TaskKind::Vital, async move {
            files.follow(&following.tls, &stop).await;
            Ok(())
        });
    }
    let pauses = Arc::new(Pauses::default());
    for instance in shared.routes.all() {
        if matches!(instance.route().state, State::Paused(_)) {
            pauses.follow(instance);
        }
    }
    let link = Link { shared: shared.clone(), identity, log, pauses, certificate, hello };
    let stop_link = shutdown.token().clone();
    shutdown.spawn("link", TaskKind::Vital, async move {
        link.keep_connected(&stop_link).await;
        Ok(())
    });
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = ?shared.config.listen, "serving");
    if let Some(predecessor) = predecessor {
        spawn_until_end(&shutdown, "the process before", async move {
            if let Err(error) = predecessor.succeed(cancels).await {
                tracing::info!(error = error.chain(), "nobody to take over from any more");
            }
            Ok(())
        });
    }
    end(&shared, &sessions, &mut signals, &shutdown).await;
    stop(&shutdown).await
}

/// As many descriptors as the system lets this process have: each client is one, and each connection to a database.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays at {:?}", limit.current);
    }
}

/// Runs something that may end before the process does.
fn spawn_until_end(
    shutdown: &Shutdown,
    name: &'static str,
    task: impl Future<Output = Result<(), Error>> + Send + 'static,
) {
    let stop = shutdown.token().clone();
    shutdown.spawn(name, TaskKind::Optional, async move { stop.run_until_cancelled(task).await.unwrap_or(Ok(())) });
}

/// Waits for the reason to end, and lets clients go.
async fn end(shared: &Shared, sessions: &TaskTracker, signals: &mut Signals, shutdown: &Shutdown) {
    let (drain, config) = (&shared.drain, &shared.config.drain);
    let patience = tokio::select! {
        () = signals.next() => config.patience,
        () = drain.reached(Stage::Leaving) => config.handover_patience,
        () = shutdown.begun() => return,
    };
    drain.advance(Stage::Leaving);
    shared.metrics.draining.set(1);
    sessions.close();
    tracing::info!(clients = shared.limits.clients(), patience = ?patience, "leaving; no more clients are taken");
    let patient = timeout(patience.unsigned_abs(), sessions.wait());
    tokio::select! {
        _ = patient => {}
        () = signals.next() => {}
    }
    drain.advance(Stage::Ending);
    let graceful = timeout(config.grace.unsigned_abs(), sessions.wait());
    tokio::select! {
        ended = graceful => if ended.is_err() {
            tracing::warn!(clients = shared.limits.clients(), "closing clients in the middle of their transactions");
        },
        () = signals.next() => tracing::warn!("closing everything at once"),
    }
}

async fn stop(shutdown: &Shutdown) -> Result<(), Error> {
    shutdown.begin();
    shutdown.finish(LAST).await
}

/// What a proxy has before it takes clients.
struct Started {
    shared: Arc<Shared>,
    identity: Arc<ProxyIdentity>,
    log: RouteLog,
    certificate: Option<StoredCertificate>,
    files: Option<CertificateFiles>,
}

async fn start(
    config: Config,
    token: TokenSource,
    hello: &Hello,
    metrics: Arc<Metrics>,
    drain: Arc<Drain>,
    shutdown: &Shutdown,
) -> Result<Started, Error> {
    let enrolment =
        Enrolment { identity_path: config.state_dir.join("identity.json"), token, proxy_name: config.name()? };
    let stopped = || Error::unavailable("stopped before it had started");
    let identity = link::identity(&enrolment, &config.endpoints, shutdown.token()).await.ok_or_else(stopped)?;

    let (log, known) = RouteLog::open(&config.state_dir.join("routes.log"))?;
    let routes = RouteTable::new(metrics.clone());
    let ca_pem = identity.ca_pem();
    for route in &known {
        match Route::read(route, &ca_pem) {
            Ok(route) => drop(routes.put(route)),
            Err(error) => tracing::warn!(error = error.chain(), "a stored route makes no sense; skipped"),
        }
    }

    let (certificate, files, first) = match (&config.tls.cert_file, &config.tls.key_file) {
        (Some(certificate), Some(key)) => {
            let files = CertificateFiles { certificate: certificate.clone(), key: key.clone() };
            let first = files.read()?;
            (None, Some(files), first)
        }
        (_, _) => {
            let path = config.state_dir.join("server.json");
            let (stored, first) = StoredCertificate::load(&path, &hello.domain, &hello.address)?;
            let first = match first {
                Some(first) => first,
                None => link::first_certificate(hello, &identity, &stored, &config.endpoints, shutdown.token())
                    .await
                    .ok_or_else(stopped)?,
            };
            (Some(stored), None, first)
        }
    };
    let evidence = Arc::new(Evidence::default());
    let shared = Shared {
        tls: ServerTls::new(first, metrics.clone())?,
        backends: Backends::new(identity.store(), evidence.clone()),
        hold: Hold::new(config.budget()?, metrics.clone()),
        limits: Limits::new(config.most()),
        routes,
        evidence,
        metrics,
        drain,
        postgres: crate::protocols::postgres::Postgres::new(),
        config,
    };
    Ok(Started { shared: Arc::new(shared), identity, log, certificate, files })
}

fn hello(config: &Config, listeners: &Listeners) -> Result<Hello, Error> {
    let listen = listeners.main().ok_or_else(|| Error::internal("a proxy listens on at least one address"))?;
    Ok(Hello {
        session_id: Uuid::now_v7().to_string(),
        address: config.address.clone().unwrap_or_else(|| listen.ip().to_string()),
        port: listen.port(),
        domain: config.domain.clone(),
    })
}

/// SIGTERM and SIGINT, any number of them.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> Result<Self, Error> {
        let install =
            |kind| signal(kind).map_err(|error| Error::internal("cannot install a signal handler").with_source(error));
        Ok(Self { terminate: install(SignalKind::terminate())?, interrupt: install(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
