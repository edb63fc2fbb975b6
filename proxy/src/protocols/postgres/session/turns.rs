//! What a session does between moving bytes: beginning and ending work on a server, losing one, and its own end.

use std::{future::poll_fn, time::Duration};

use tokio::{io::AsyncWriteExt as _, time::timeout};
use windlass_core::Error;
use windlass_wire_pg::{Splitter, SqlState, backend::TransactionStatus};

use super::{Session, Stop, Turn};
use crate::{
    drain::Stage,
    protocols::postgres::{cancel, refusal::Refusal},
};

/// How long a client that is sent away may take to read why.
const FAREWELL: Duration = Duration::from_secs(2);

impl Session {
    /// Serves the client until it leaves or is sent away.
    ///
    /// # Errors
    /// Why it was sent away.
    pub(in crate::protocols::postgres) async fn run(mut self: Box<Self>) -> Result<(), Error> {
        if self.shared.drain.stage() >= Stage::Ending {
            self.ending = true;
        }
        let stop = loop {
            let turn = match poll_fn(|context| self.poll_drive(context)).await {
                Ok(turn) => turn,
                Err(stop) => break stop,
            };
            let done = match turn {
                Turn::NeedServer => match self.begin_at_once() {
                    Some(done) => done,
                    None => Box::pin(self.begin()).await,
                },
                Turn::AtRest => self.end(),
                Turn::Lost(error) => {
                    self.report(&error);
                    self.lost(&error)
                }
                Turn::Moved => self.lost(&Error::unavailable("another server has become the primary")),
            };
            if let Err(stop) = done {
                break stop;
            }
        };
        self.leave(stop).await
    }

    /// The server is at rest: it goes back, unless the session keeps it.
    pub(super) fn end(&mut self) -> Result<(), Stop> {
        self.active = false;
        self.running = None;
        let counters = &self.who.instance.metrics;
        counters.transactions.inc();
        counters.bytes_in.inc_by(std::mem::take(&mut self.bytes.0));
        counters.bytes_out.inc_by(std::mem::take(&mut self.bytes.1));
        if self.ending {
            return Err(Self::ended_by_proxy());
        }
        if self.last_words.is_some() {
            // It ends by itself; the client was answered.
            self.drop_server();
            if let Some(pin) = self.pinned {
                return Err(Self::moved(pin.what()));
            }
        } else if !self.is_sticky() {
            self.give_back();
        }
        Ok(())
    }

    /// Puts a server at rest back on its shelf, with the settings that it has now.
    fn give_back(&mut self) {
        let (Some(server), Some(shelf)) = (self.server.take(), &self.shelf) else { return };
        self.unnamed_is_here = false;
        let (pool, number) = (shelf.pool.clone(), shelf.number);
        if server.spoiled || !server.outbox.is_empty() {
            tokio::spawn(server.close());
        } else if server.is_being_cancelled() {
            // Until the cancellation has arrived it could meet the next client's statement.
            tokio::spawn(async move {
                server.cancelled().await;
                pool.put(number, server);
            });
        } else {
            pool.put(number, server);
        }
    }

    pub(super) fn drop_server(&mut self) {
        self.server = None;
        self.unnamed_is_here = false;
        self.last_words = None;
    }

    /// A connection that broke without a word tells of the server.
    fn report(&self, error: &Error) {
        if let (Some(server), None) = (&self.server, &self.last_words) {
            self.shared.evidence.failed(self.who.instance.id(), server.member, &error.message);
        }
    }

    /// The server at hand is gone, or must not be used.
    fn lost(&mut self, error: &Error) -> Result<(), Stop> {
        let words = self.last_words.take();
        if !self.active {
            self.drop_server();
            return match self.pinned {
                None => Ok(()),
                Some(pin) => Err(Self::moved(pin.what())),
            };
        }
        if !self.unsent.is_empty() && self.pinned.is_none() {
            // Nothing of it has left: it can be sent elsewhere.
            let void = self.exchange.abandon();
            self.drop_server();
            self.undo(void);
            self.active = false;
            self.running = None;
            let mut again = std::mem::take(&mut self.unsent);
            again.append(&mut self.inbox);
            self.inbox = again;
            self.splitter = Splitter::default();
            return Ok(());
        }
        // What the server says of its end is true of what it did before, but not of a commit under way.
        if let Some(words) = words.filter(|_| !self.exchange.may_be_committing()) {
            return Err(words.into());
        }
        let key = self.who.instance.route().key();
        let open = self.exchange.status() != TransactionStatus::Idle;
        let refusal = if self.exchange.is_waiting() && (!open || self.exchange.may_be_committing()) {
            Refusal::new(
                SqlState::RESOLUTION_UNKNOWN,
                &format!(
                    "the connection to the primary of {key} was lost; whether the statement took effect is unknown"
                ),
                "Connect again and look before you repeat it.",
            )
        } else {
            Refusal::new(
                SqlState::CONNECTION_FAILURE,
                &format!("the connection to the primary of {key} was lost; the transaction was not committed"),
                "Connect again and repeat the transaction.",
            )
        };
        tracing::debug!(error = error.message, instance = key, "a server connection was lost in use");
        Err(refusal.into())
    }

    pub(super) fn moved(what: &str) -> Stop {
        let message = format!("the server connection of this session ended, and with it {what}");
        Refusal::new(SqlState::ADMIN_SHUTDOWN, &message, "Connect again and set it up anew.").into()
    }

    pub(super) fn ended_by_proxy() -> Stop {
        Refusal::new(SqlState::ADMIN_SHUTDOWN, "the proxy ends; connect again", "").into()
    }

    /// Sends a cancellation to the server, if it would meet a statement of this client that is not a commit: a commit
    /// that is cancelled while it waits for replicas is in doubt.
    pub(super) fn cancel(&mut self) {
        let Some(server) = &self.server else { return };
        if !self.active || !self.exchange.is_waiting() || self.exchange.is_committing() {
            return;
        }
        // One at a time; the client can ask again.
        let Ok(under_way) = server.cancelling.clone().try_lock_owned() else { return };
        let route = self.who.instance.route();
        let backend = route.primary.iter().chain(&route.replicas).find(|backend| backend.member == server.member);
        let Some(backend) = backend.cloned() else { return };
        let order = cancel::Order {
            shared: self.shared.clone(),
            instance: self.who.instance.clone(),
            route,
            backend,
            key: server.key,
            under_way,
        };
        tokio::spawn(order.carry_out());
    }

    /// The end of the session: the client is told why, and the server goes back if it can be cleaned.
    pub(in crate::protocols::postgres) async fn leave(mut self: Box<Self>, stop: Stop) -> Result<(), Error> {
        let counters = &self.who.instance.metrics;
        counters.bytes_in.inc_by(self.bytes.0);
        counters.bytes_out.inc_by(self.bytes.1);
        let (refusal, outcome) = match stop {
            Stop::Left => (None, Ok(())),
            Stop::Refused(refusal) => {
                let why = refusal.message().to_owned();
                (Some(refusal), Err(Error::unavailable(why)))
            }
            Stop::UnknownOutcome => {
                let message =
                    "the commit stopped waiting for its replicas; it is on the primary, but may be lost if that fails";
                let hint = "Connect again and look before you repeat it.";
                let refusal = Refusal::new(SqlState::RESOLUTION_UNKNOWN, message, hint);
                (Some(refusal), Err(Error::unavailable(message)))
            }
            Stop::Confused(error) => {
                tracing::error!(%error, "the conversation with a database server went wrong");
                (Some(Refusal::new(SqlState::INTERNAL, &error.message, "")), Err(error))
            }
        };
        if let Some(server) = self.server.take() {
            let at_rest = !self.active && self.exchange.is_at_rest() && server.outbox.is_empty();
            match &self.shelf {
                Some(shelf) if at_rest && !server.spoiled => {
                    let (pool, number) = (shelf.pool.clone(), shelf.number);
                    tokio::spawn(async move {
                        let mut server = server;
                        server.cancelled().await;
                        if server.discard_all().await.is_ok() {
                            pool.put(number, server);
                        }
                    });
                }
                _ if at_rest => drop(tokio::spawn(server.close())),
                // In the middle of something: only closing ends it.
                _ => drop(server),
            }
        }
        self.running = None;
        if let Some(refusal) = refusal {
            self.outbox.push(refusal.bytes());
        }
        let farewell = async {
            poll_fn(|context| self.outbox.poll_flush(&mut self.stream, context)).await?;
            self.stream.shutdown().await
        };
        // A client that does not read it does not need it.
        let _ = timeout(FAREWELL, farewell).await;
        outcome
    }
}
