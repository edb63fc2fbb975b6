//! A whole control plane in one value: started from a configuration, stopped in order.
//!
//! Order of start: state directory, metadata, keys, the port, background work, and serving last, so that whoever is
//! answered finds everything. Order of stop: serving and the background work together, then the pool, then the embedded
//! database. A crash at any point leaves a state from which the next start goes on; the embedded database keeps running
//! and is adopted.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tracing::info;
use windlass_core::Error;
use windlass_db::Db;
use windlass_kit::{failpoint::Failpoints, shutdown::Shutdown};

use crate::{
    app::Context,
    background::{self, health_config},
    config::Config,
    ha::Ha,
    health::Health,
    installation, listener,
    metadata::{self, Embedded, Metadata},
    queue::HostWaker,
    routes::Routes,
    sagas::{self, OperationWatch},
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
    // The last to be dropped: until then nobody else may use the directory.
    _state: StateDir,
}

/// What [`assemble`] makes.
struct Parts {
    address: SocketAddr,
    ca_file: PathBuf,
    context: Arc<Context>,
}

impl Plane {
    /// Starts it; ready when this returns.
    ///
    /// # Errors
    /// `STATE_FORBIDS` when another one has the state directory; `UNAVAILABLE` when the port is taken or the metadata
    /// cannot be opened; others of the parts. Nothing is left running then.
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
        match assemble(config, failpoints, &shutdown, &state, &opened).await {
            Ok(Parts { address, ca_file, context }) => {
                info!(%address, ca = %ca_file.display(), "the control plane is ready");
                Ok(Self { address, ca_file, context, shutdown, embedded: opened.embedded, _state: state })
            }
            Err(error) => {
                shutdown.begin();
                // The first error is the one to tell.
                let _ = stop(&shutdown, &opened.db, opened.embedded.as_ref()).await;
                Err(error)
            }
        }
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
        stop(&self.shutdown, &self.context.db, self.embedded.as_ref()).await
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

async fn assemble(
    config: Config,
    failpoints: Failpoints,
    shutdown: &Shutdown,
    state: &StateDir,
    opened: &Metadata,
) -> Result<Parts, Error> {
    let db = opened.db.clone();
    let sealer = Sealer::open_file(&kek(&config.state_dir))?;
    let authority = Arc::new(installation::authority(&db, &sealer, &config.certificates).await?);
    let ca_file = state.write_ca(authority.ca_pem())?;
    let (port, address) = listener::bind(config.listen).await?;
    let (hosts, wakeups) = HostWaker::new();
    let (routes, wakes) = Routes::new();
    let sagas = sagas::Waker::new();
    let context = Arc::new(Context {
        ha: Ha::new(db.vital(), background::ha_config(&config), sagas.clone(), routes.clone()),
        health: Health::new(db.clone(), health_config(&config)),
        db,
        sealer,
        authority,
        registry: Arc::new(crate::sagas::registry()),
        sagas,
        hosts,
        routes,
        watch: OperationWatch::new(),
        config,
    });
    if let Some(server) = opened.embedded.clone() {
        background::watch_metadata(server, shutdown);
    }
    background::keep_routes(&context, wakes, shutdown);
    let queue = background::spawn(&context, state.node_id()?, wakeups, failpoints, shutdown);
    listener::serve(&context, queue, port, address, shutdown)?;
    Ok(Parts { address, ca_file, context })
}

/// Waits for the end of shutdown's tasks, then closes what they used.
async fn stop(shutdown: &Shutdown, db: &Db, embedded: Option<&Embedded>) -> Result<(), Error> {
    let ended = shutdown.finish(GRACE).await;
    db.close().await;
    if let Some(server) = embedded {
        server.stop().await?;
    }
    ended
}
