//! Carrying a cancellation to a server.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::OwnedMutexGuard,
    time::timeout,
};
use windlass_core::Error;
use windlass_wire_pg::startup::{self, CancelKey};

use crate::{
    Shared,
    routes::{Backend, Instance, Route},
};

/// How long it may take. Longer than a lost packet, shorter than anybody's patience.
const PATIENCE: Duration = Duration::from_secs(5);

/// A cancellation on its way.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) shared: Arc<Shared>,
    pub(super) instance: Arc<Instance>,
    pub(super) route: Arc<Route>,
    pub(super) backend: Backend,
    pub(super) key: CancelKey,
    /// Held while it is under way; the connection that it is for waits for that.
    pub(super) under_way: OwnedMutexGuard<()>,
}

impl Order {
    /// Sends it and waits until the server has taken it: it closes the connection after it has sent the signal.
    pub(super) async fn carry_out(self) {
        match timeout(PATIENCE, self.send()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a cancellation did not reach its server"),
            Err(_) => tracing::debug!("a cancellation did not reach its server in time"),
        }
        drop(self.under_way);
    }

    async fn send(&self) -> Result<(), Error> {
        let broken = |error| self.shared.backends.failed(&self.instance, &self.backend, error);
        let mut stream = self.shared.backends.dial(&self.instance, &self.backend).await?;
        let mut packet = Vec::new();
        startup::write_ssl_request(&mut packet);
        stream.write_all(&packet).await.map_err(broken)?;
        if stream.read_u8().await.map_err(broken)? != b'S' {
            return Err(Error::unavailable("the database server does not offer TLS"));
        }
        let mut stream = self.shared.backends.secure(&self.instance, &self.route, &self.backend, stream).await?;
        packet.clear();
        startup::write_cancel(&mut packet, self.key);
        stream.write_all(&packet).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        // How it ends does not matter, with or without a good bye of TLS.
        let _ = stream.read_u8().await;
        Ok(())
    }
}
