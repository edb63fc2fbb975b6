//! The end of the login: what the client is told of its session.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use windlass_wire_pg::backend::{self, TransactionStatus};

use super::{Session, Stop};
use crate::protocols::postgres::greeting::{Greeting, Guest, Known};

/// How long a new look may take when an old greeting would do.
const LOOK: Duration = Duration::from_millis(250);

impl Session {
    /// Tells the client the parameters, its key, and that it may begin.
    ///
    /// # Errors
    /// If no server accepts it: what a server says to a wrong database or setting is passed on.
    pub(in crate::protocols::postgres) async fn greet(&mut self) -> Result<(), Stop> {
        let route = self.who.instance.route();
        let asked = (route.epoch, self.wants(&route).map(|backend| backend.member));
        let known = self.shared.postgres.greetings().find(self.guest(), &self.settings, asked);
        let greeting = match known {
            Known::Fresh(greeting) => greeting,
            Known::Old(greeting) => match timeout(LOOK, Box::pin(self.look())).await {
                Ok(seen) => seen?,
                Err(_) => {
                    // How far it came is not known.
                    self.drop_server();
                    greeting
                }
            },
            Known::No => Box::pin(self.look()).await?,
        };
        self.settings = greeting.settings.clone();
        self.defaults = greeting.settings.clone();
        self.outbox.push(&greeting.parameters);
        backend::write_backend_key(self.outbox.buffer(), self.seat.key);
        backend::write_ready(self.outbox.buffer(), TransactionStatus::Idle);
        Ok(())
    }

    /// Asks a server what it reports under the client's settings.
    async fn look(&mut self) -> Result<Arc<Greeting>, Stop> {
        self.begin().await?;
        let reported = self.server().map(|server| server.parameters.clone()).unwrap_or_default();
        let asked = (self.who.instance.route().epoch, self.server().map(|server| server.member));
        // What was reported meanwhile is a part of it.
        *self.outbox.buffer() = Vec::new();
        let greeting = self.shared.postgres.greetings().keep(self.guest(), &self.settings, asked, &reported);
        if let Some(server) = &mut self.server {
            server.settings = greeting.settings.clone();
        }
        self.end()?;
        Ok(greeting)
    }

    fn guest(&self) -> Guest<'_> {
        Guest { instance: self.who.instance.id(), user: &self.who.user, database: &self.who.database }
    }
}
