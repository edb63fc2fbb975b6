//! The warm pool: one initialised data directory per engine version, taken by the next create.
//!
//! Owns: `<state>/warm`. Why: the engine's own initialisation is most of the time of a create. Each directory is made
//! by it anew, so no two servers share an identity. While it is made, the server runs once on a socket: the
//! administrator and its database are made, and the catalogue of parameters is read.
//! Invariants: a directory in the pool is complete (it gets its name by a rename); it is taken by a rename, so by one
//! create only; refilling waits while orders are carried out and runs at idle priority. A crash leaves a `.making-*`
//! directory, which the next start of the agent removes with the processes in it.

use std::{path::Path, time::Duration};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use windlass_core::{Error, ErrorKind, Reason};

use super::{Members, WarmPool, layout};
use crate::{
    engines::{EngineDriver, Installation, Kinship, Network, Server, object::Object},
    host::{
        Limits, files,
        helper::{Background, Priority, cancelled},
        proc::{self, Which},
    },
};

const MAKING: &str = ".making-";
/// How long the first start and the stop of a fresh server may take.
const RUN_LIMIT: Duration = Duration::from_secs(120);
/// How often the pool is looked at without cause.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Every so many such looks, engines are looked for: packages are installed rarely.
const LOOKS_TO_DISCOVER: u32 = 5;

/// Who waits for whom.
pub(super) struct Warm {
    taken: Notify,
    orders: watch::Sender<usize>,
}

/// An order is being carried out.
pub(super) struct Busy<'a>(&'a Warm);

impl Warm {
    pub(super) fn new() -> Self {
        Self { taken: Notify::new(), orders: watch::Sender::new(0) }
    }

    /// Holds refilling back until it is dropped.
    pub(super) fn busy(&self) -> Busy<'_> {
        self.orders.send_modify(|count| *count += 1);
        Busy(self)
    }

    async fn quiet(&self) {
        // The sender is `self`: it cannot be gone.
        let _ = self.orders.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.orders.send_modify(|count| *count -= 1);
    }
}

impl Members {
    /// Gives the server a fresh data directory: from the pool, or made now.
    ///
    /// # Errors
    /// `INIT_FAILED`, `DISK_FULL`, `OPERATION_CANCELLED`.
    pub(super) async fn take_warm(
        &self,
        driver: &dyn EngineDriver,
        server: &Server,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let pooled = self.pooled(&server.installation);
        if pooled.exists() && files::move_durably(&pooled, &server.site.data).is_ok() {
            self.warm.taken.notify_one();
            return Ok(());
        }
        self.make(driver, &server.installation, Priority::Normal, &server.site.data, cancel).await
    }

    /// Keeps the pool full until shutdown.
    pub(super) async fn keep_warm(&self, shutdown: &CancellationToken) {
        let mut looks = 0;
        while !shutdown.is_cancelled() {
            for known in self.installed.all() {
                self.warm.quiet().await;
                let (installation, pooled) = (&known.installation, self.pooled(&known.installation));
                let wanted = self.config.warm_pool == WarmPool::On && !pooled.exists();
                let Some(driver) =
                    self.registry.get(installation.engine).filter(|_| wanted || known.catalogue.is_none())
                else {
                    continue;
                };
                if let Err(error) = self.refill(&**driver, installation, &pooled, shutdown).await {
                    tracing::warn!(engine = %installation.engine, version = installation.version, error = error.chain(), "cannot prepare a data directory");
                }
            }
            tokio::select! {
                () = self.warm.taken.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {
                    looks += 1;
                    if looks % LOOKS_TO_DISCOVER == 0 {
                        self.discover().await;
                    }
                }
                () = shutdown.cancelled() => {}
            }
        }
    }

    async fn refill(
        &self,
        driver: &dyn EngineDriver,
        installation: &Installation,
        pooled: &Path,
        shutdown: &CancellationToken,
    ) -> Result<(), Error> {
        if let Some(directory) = pooled.parent() {
            files::make_directory(directory, 0o755)?;
        }
        if self.config.warm_pool == WarmPool::On {
            return self.make(driver, installation, Priority::Idle, pooled, shutdown).await;
        }
        // Only the catalogue is wanted.
        self.make(driver, installation, Priority::Idle, pooled, shutdown).await?;
        files::remove_tree(pooled)
    }

    /// Makes a complete data directory at `target`, or nothing.
    async fn make(
        &self,
        driver: &dyn EngineDriver,
        installation: &Installation,
        priority: Priority,
        target: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let id = Uuid::new_v4().simple().to_string();
        let root = self.layout.warm().join(format!("{MAKING}{id}"));
        let server = Server {
            installation: installation.clone(),
            site: layout::site(&root, self.layout.warm_sockets(&id)),
            network: Network::SocketOnly,
            kinship: Kinship::Single,
            accounts: self.accounts.clone(),
            unit: format!("windlass-warm-{id}"),
            title: format!("a new {} {}", installation.engine.descriptor().title, installation.version),
            limits: Limits { cpu_millis: 0, memory_bytes: 0 },
        };
        let made = self.fill(driver, &server, &root, priority, cancel).await;
        let moved = made.and_then(|()| files::move_durably(&server.site.data, target));
        if moved.is_err() {
            proc::kill_under(&root, Which::All).await;
        }
        files::remove_tree(&root)?;
        files::remove_tree(&server.site.socket_dir)?;
        moved
    }

    async fn fill(
        &self,
        driver: &dyn EngineDriver,
        server: &Server,
        root: &Path,
        priority: Priority,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        files::make_directory(root, 0o755)?;
        layout::make_site(&server.site, &self.accounts)?;
        files::make_directory(&server.site.data, 0o700)?;
        self.accounts.give(&server.site.data)?;
        driver.initialise(server, priority, cancel).await?;
        let rendered = driver.render(server, &Default::default())?;
        self.write_owned(server, &rendered)?;
        let unit = driver.unit(server);
        let mut running = Background::start(&unit, priority)?;
        let failed = |how: String| {
            let message = format!(
                "{} did not run: {how}; its log ends with: {}",
                server.title,
                files::tail(&server.site.log, 0, 5)
            );
            Error::new(ErrorKind::Internal, Reason::InitFailed, message)
        };
        let process = running.process().ok_or_else(|| failed("it vanished".to_owned()))?;
        let prepared = tokio::select! {
            prepared = self.prepare(driver, server, process) => prepared,
            how = running.ended() => Err(failed(how)),
            () = tokio::time::sleep(RUN_LIMIT) => Err(failed("it took too long".to_owned())),
            () = cancel.cancelled() => Err(cancelled()),
        };
        prepared?;
        running.signal(unit.stop_signal);
        let how =
            tokio::time::timeout(RUN_LIMIT, running.ended()).await.map_err(|_| failed("it did not stop".to_owned()))?;
        if how == "exit status: 0" { Ok(()) } else { Err(failed(how)) }
    }

    async fn prepare(
        &self,
        driver: &dyn EngineDriver,
        server: &Server,
        process: crate::host::Process,
    ) -> Result<(), Error> {
        let mut session = driver.ready(server, process).await;
        session.apply(&Object::bare_administrator(server.installation.engine)?).await?;
        let wanted =
            |known: &super::installed::Known| known.installation == server.installation && known.catalogue.is_none();
        if self.installed.all().iter().any(wanted) {
            let catalogue = session.catalogue().await?;
            self.keep_catalogue(&server.installation, catalogue)?;
        }
        Ok(())
    }

    /// Removes what a crash left in the making.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub(super) async fn clean_warm(&self) -> Result<(), Error> {
        for name in files::names_in(&self.layout.warm())? {
            if let Some(id) = name.strip_prefix(MAKING) {
                let root = self.layout.warm().join(&name);
                proc::kill_under(&root, Which::All).await;
                files::remove_tree(&root)?;
                files::remove_tree(&self.layout.warm_sockets(id))?;
            }
        }
        Ok(())
    }

    fn pooled(&self, installation: &Installation) -> std::path::PathBuf {
        self.layout.warm().join(format!("{}-{}", installation.engine, installation.version)).join("data")
    }
}
