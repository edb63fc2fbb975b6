//! Getting a server for the client's next transaction: from the pool or by a new connection, waiting for the route when
//! it is paused or nobody leads, and with the client's settings.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;
use windlass_core::Error;
use windlass_wire_pg::{Report, SqlState};

use super::{Session, Shelf, Stop};
use crate::{
    pool::{Place, Taken},
    protocols::postgres::{
        refusal::Refusal,
        server::{self, Credentials, Done, Refused, Server, Target},
    },
    routes::{Access, Backend, Route, Running, State},
};

/// How getting a server went.
enum Got {
    Server(Box<Server>),
    /// Not now; another try may succeed.
    NotNow(Refusal),
}

/// Whether writes go to the same place, in the same term.
fn same_leader(one: &Route, other: &Route) -> bool {
    let member = |route: &Route| route.primary.as_ref().map(|primary| primary.member);
    one.epoch == other.epoch && member(one) == member(other)
}

impl Session {
    /// Begins work on a server without waiting, if one is at hand or free. `None`: it has to be waited for.
    pub(super) fn begin_at_once(&mut self) -> Option<Result<(), Stop>> {
        let server = match self.server.take() {
            Some(server) => server,
            None => {
                let route = self.who.instance.route();
                let member = self.wants(&route)?.member;
                let shelf = self.shelf.as_ref().filter(|shelf| shelf.member == member)?;
                match shelf.pool.take(shelf.number) {
                    Taken::Free(server) => server,
                    // Dropped, they give the room or the place in the queue to the next; `begin` asks again.
                    Taken::Room(_) | Taken::Wait(_) => return None,
                }
            }
        };
        self.server = Some(server);
        if !self.is_ready() {
            return None;
        }
        let running = self.admit().ok()?;
        // The route may have changed just before.
        self.server_is_current().then(|| self.activate(running))
    }

    /// The server at hand is the right one and has the client's settings.
    fn is_ready(&self) -> bool {
        self.server_is_current() && self.server().is_some_and(|server| Arc::ptr_eq(&server.settings, &self.settings))
    }

    /// Whether the server at hand is the one that the route names, or one that readers may use.
    pub(super) fn server_is_current(&self) -> bool {
        let Some(server) = self.server() else { return false };
        let route = self.who.instance.route();
        let is_primary = route.primary.as_ref().is_some_and(|primary| primary.member == server.member);
        match self.who.access {
            Access::ReadWrite => is_primary && server.epoch >= route.epoch,
            Access::ReadOnly => is_primary || route.replicas.iter().any(|replica| replica.member == server.member),
        }
    }

    pub(super) fn wants<'r>(&self, route: &'r Route) -> Option<&'r Backend> {
        match self.who.access {
            Access::ReadWrite => route.primary.as_ref(),
            Access::ReadOnly => route.reader(),
        }
    }

    /// Tells a pause of the route that work begins. Readers on a replica do not concern it.
    fn admit(&self) -> Result<Option<Running>, Arc<Route>> {
        let route = self.who.instance.route();
        let on_primary = self
            .server()
            .is_none_or(|server| route.primary.as_ref().is_some_and(|primary| primary.member == server.member));
        if self.who.access == Access::ReadWrite || on_primary {
            return self.who.instance.begin().map(Some);
        }
        match route.state {
            State::Open | State::Paused(_) => Ok(None),
            State::Closed(_) => Err(route),
        }
    }

    /// Work begins: what the client has sent goes to the server.
    fn activate(&mut self, running: Option<Running>) -> Result<(), Stop> {
        self.running = running;
        self.active = true;
        let mut unsent = std::mem::take(&mut self.inbox);
        let turn = self.take_client(&unsent)?;
        debug_assert!(turn.is_none(), "an active session needs no server");
        unsent.truncate(unsent.len() - self.inbox.len());
        self.unsent = unsent;
        Ok(())
    }

    /// Begins work on a server, for which it waits as long as the instance's budget allows.
    pub(super) async fn begin(&mut self) -> Result<(), Stop> {
        let instance = self.who.instance.clone();
        let began = Instant::now();
        let limit = instance
            .route()
            .settings
            .hold
            .unwrap_or_else(|| Duration::try_from(self.shared.config.hold.time).unwrap_or_default());
        loop {
            let route = instance.route();
            if self.server.is_some() && !self.server_is_current() {
                self.abandon_server()?;
            }
            let mut watch = instance.watch();
            let tried = tokio::select! {
                biased;
                tried = self.try_begin(&route, limit.saturating_sub(began.elapsed())) => tried?,
                // Where it waits nothing comes any more. What it has done to a connection is not known.
                _ = watch.wait_for(|now| !same_leader(now, &route)) => {
                    self.abandon_server()?;
                    continue;
                }
            };
            let Some(refusal) = tried else {
                instance.scout.reached();
                return Ok(());
            };
            if !self.is_sticky() {
                self.return_unused();
            }
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                instance.metrics.refused.inc();
                return Err(refusal.into());
            }
            self.wait_for_route(&route, left, refusal).await?;
        }
    }

    /// One try; gives why it did not succeed if another may.
    async fn try_begin(&mut self, route: &Arc<Route>, left: Duration) -> Result<Option<Refusal>, Stop> {
        let key = route.key();
        match &route.state {
            State::Closed(reason) => {
                self.who.instance.metrics.refused.inc();
                let message = format!("instance {key} is not open: {reason}");
                return Err(Refusal::new(SqlState::CANNOT_CONNECT_NOW, &message, "").into());
            }
            State::Paused(reason) if self.who.access == Access::ReadWrite => {
                let message = format!("instance {key} is paused: {reason}");
                return Ok(Some(Refusal::new(SqlState::CANNOT_CONNECT_NOW, &message, "Try again in a moment.")));
            }
            State::Paused(_) | State::Open => {}
        }
        let Some(backend) = self.wants(route) else {
            let what = match self.who.access {
                Access::ReadWrite => format!("instance {key} has no primary now"),
                Access::ReadOnly => format!("instance {key} has no replica that can be read now"),
            };
            return Ok(Some(Refusal::new(SqlState::CANNOT_CONNECT_NOW, &what, "Try again in a moment.")));
        };
        if self.server.is_none() {
            match self.get_server(route, backend, left).await? {
                Got::Server(server) => {
                    self.server = Some(server);
                    self.unnamed_is_here = false;
                }
                Got::NotNow(refusal) => return Ok(Some(refusal)),
            }
        }
        // Only now, for a pause must not wait for those who wait for a connection.
        let Ok(running) = self.admit() else {
            let message = format!("instance {key} is paused");
            return Ok(Some(Refusal::new(SqlState::CANNOT_CONNECT_NOW, &message, "Try again in a moment.")));
        };
        if !self.server_is_current() {
            self.server = None;
            return Ok(Some(Refusal::new(SqlState::CANNOT_CONNECT_NOW, "another server becomes the primary", "")));
        }
        if let Some(refusal) = self.bring_settings().await? {
            return Ok(Some(refusal));
        }
        self.activate(running)?;
        Ok(None)
    }

    /// Lets go of a connection that must not be used; a session that cannot do without it ends.
    fn abandon_server(&mut self) -> Result<(), Stop> {
        if self.server.take().is_none() {
            return Ok(());
        }
        self.unnamed_is_here = false;
        self.pinned.map_or(Ok(()), |pin| Err(Self::moved(pin.what())))
    }

    fn return_unused(&mut self) {
        if let (Some(server), Some(shelf)) = (self.server.take(), &self.shelf) {
            shelf.pool.put(shelf.number, server);
        }
    }

    async fn wait_for_route(&self, tried: &Arc<Route>, left: Duration, refusal: Refusal) -> Result<(), Stop> {
        let instance = &self.who.instance;
        let open = matches!(tried.state, State::Open) && self.wants(tried).is_some();
        let ready = |route: &Route| self.wants(route).is_some() && (!open || route.version() != tried.version());
        let held = tokio::select! {
            held = timeout(left, self.shared.hold.until(instance, self.inbox.len(), ready)) => held,
            // Another try.
            () = instance.scout.pause(), if open => return Ok(()),
            // Those who are still there need its place.
            () = self.stream.hung_up() => return Err(Stop::Left),
        };
        match held {
            // The end of the budget, or another try.
            Err(_) | Ok(Ok(_)) => Ok(()),
            Ok(Err(crate::hold::Unheld::TooLong(_))) => Err(refusal.into()),
            Ok(Err(why)) => Err(Refusal::from((instance.route().key().as_str(), why)).into()),
        }
    }

    /// A connection for this client: a free one, a new one, or one that it waits for.
    async fn get_server(&mut self, route: &Arc<Route>, backend: &Backend, left: Duration) -> Result<Got, Stop> {
        let began = Instant::now();
        if self.shelf.as_ref().is_none_or(|shelf| shelf.member != backend.member) {
            let most = self.shared.limits.backends(&self.who.instance);
            let pool = self.shared.postgres.pools().of((self.who.instance.id(), backend.member), most);
            let number = pool.shelf(&self.who.user, &self.who.database);
            self.shelf = Some(Shelf { pool, member: backend.member, number });
        }
        let Some(shelf) = &self.shelf else { return Err(Stop::Confused(Error::internal("a shelf was just made"))) };
        loop {
            let taken = match shelf.pool.take(shelf.number) {
                Taken::Wait(waiting) => {
                    let waited = tokio::select! {
                        waited = timeout(left.saturating_sub(began.elapsed()), waiting) => waited,
                        () = self.stream.hung_up() => return Err(Stop::Left),
                    };
                    self.who.instance.metrics.waits.observe(began.elapsed().as_secs_f64());
                    match waited {
                        Ok(Some(taken)) => taken,
                        Ok(None) => return Ok(Got::NotNow(Refusal::from(Error::unavailable("the pool was closed")))),
                        Err(_) => return Err(self.all_in_use(route, shelf.pool.count().0, left)),
                    }
                }
                taken @ (Taken::Free(_) | Taken::Room(_)) => taken,
            };
            match taken {
                Taken::Free(server) if self.who.access == Access::ReadOnly || server.epoch >= route.epoch => {
                    return Ok(Got::Server(server));
                }
                // Of an earlier term: it is closed, and the next one looked at.
                Taken::Free(_) | Taken::Wait(_) => {}
                Taken::Room(place) => return self.connect(route, backend, place).await,
            }
        }
    }

    fn all_in_use(&self, route: &Route, open: u32, waited: Duration) -> Stop {
        self.who.instance.metrics.refused.inc();
        let message = format!(
            "no connection to instance {} became free within {} s; all {open} are in use",
            route.key(),
            waited.as_secs(),
        );
        let hint = "Use fewer clients or shorter transactions, or raise max_backends.";
        Refusal::new(SqlState::TOO_MANY_CONNECTIONS, &message, hint).into()
    }

    async fn connect(&self, route: &Arc<Route>, backend: &Backend, place: Place) -> Result<Got, Stop> {
        let target = Target {
            instance: &self.who.instance,
            route,
            backend,
            user: &self.who.user,
            database: &self.who.database,
            credentials: Credentials::Keys(&self.who.keys),
        };
        let refused = match Box::pin(server::connect(&self.shared, target, place)).await {
            Ok(server) => return Ok(Got::Server(server)),
            Err(refused) => refused,
        };
        match refused {
            Refused::Unreachable(error) => {
                tracing::debug!(%error, instance = route.key(), "no connection to a database server");
                Ok(Got::NotNow(Refusal::new(SqlState::CANNOT_CONNECT, &error.message, "Try again in a moment.")))
            }
            Refused::ByServer(body) => {
                let refusal = Refusal::of_server(&body);
                // Starting, stopping, gate shut, full: that passes. A wrong name or password does not.
                let code = Report::parse(&body).map(|report| report.code.to_owned()).unwrap_or_default();
                match code.as_str() {
                    "57P03" | "57P01" | "57P02" | "53300" | "28000" => Ok(Got::NotNow(refusal)),
                    "28P01" => {
                        // The password was changed since this client came in.
                        self.shared.postgres.verifiers().forget(self.who.instance.id(), &self.who.user);
                        Err(refusal.into())
                    }
                    _ => Err(refusal.into()),
                }
            }
        }
    }

    /// Brings the server at hand to the client's settings.
    async fn bring_settings(&mut self) -> Result<Option<Refusal>, Stop> {
        let Some(server) = &mut self.server else { return Ok(None) };
        if Arc::ptr_eq(&server.settings, &self.settings) {
            return Ok(None);
        }
        if let Some(sql) = server.settings.way_to(&self.settings) {
            let known = server.parameters.clone();
            match server.run(&sql).await {
                Ok(Done::Well(_)) => {}
                Ok(Done::Failed(body)) => {
                    self.server = None;
                    return Err(Refusal::of_server(&body).into());
                }
                Err(error) => {
                    self.server = None;
                    return Ok(Some(error.into()));
                }
            }
            // The client may have seen other values, for example before its own RESET.
            for (name, value) in &server.parameters {
                if !known.iter().any(|(old, former)| old == name && former == value) {
                    windlass_wire_pg::backend::write_parameter_status(self.outbox.buffer(), name, value);
                }
            }
        }
        server.settings = self.settings.clone();
        Ok(None)
    }
}
