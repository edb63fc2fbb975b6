//! One client's session: it has a server connection while it needs one, and passes bytes.
//!
//! The session is one task. `drive` moves bytes until something else has to be done: a server is needed, or the one at
//! hand came to rest or broke. `turns` does that. What is read from sockets lies on the stack; only what cannot be
//! passed on at once is kept, so an idle client costs its socket, its TLS state and this struct.
//!
//! Invariants: while `active`, the session has a server, and the pause of a route waits for it; a client sees either the
//! answer of the server or an honest error, never a success that is in doubt; a connection goes back to its pool only
//! at rest and with known settings.

mod acquire;
mod downstream;
mod drive;
mod exchange;
mod greet;
mod results;
mod statements;
mod turns;
mod upstream;

use std::{collections::HashMap, io, sync::Arc};

use windlass_core::Error;
use windlass_wire_pg::{Splitter, scram::Keys};

use self::exchange::Exchange;
use super::{
    refusal::Refusal,
    server::{Outbox, Server, Statement},
    sessions::Seat,
    sql::{Effects, Pin, Settings},
    stream::Stream,
};
use crate::{
    Shared,
    limits::ClientPlace,
    pool::Pool,
    routes::{Access, Instance, Pooling, Running},
};

/// Who the client is, and what it wants.
#[derive(Debug)]
pub(super) struct Who {
    pub(super) instance: Arc<Instance>,
    pub(super) access: Access,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) keys: Keys,
    pub(super) pooling: Pooling,
}

/// A session. Boxed by its maker: it lives long and is moved often.
#[derive(Debug)]
pub(super) struct Session {
    shared: Arc<Shared>,
    who: Who,
    seat: Seat,
    stream: Stream,
    splitter: Splitter,
    /// What the client sent and nobody took yet.
    inbox: Vec<u8>,
    outbox: Outbox,
    server: Option<Box<Server>>,
    shelf: Option<Shelf>,
    /// The server works for the client.
    active: bool,
    /// Told to the pause of the route while `active` on the primary.
    running: Option<Running>,
    exchange: Exchange,
    /// What the client wants its settings to be.
    settings: Arc<Settings>,
    /// Those of them that it named at its start.
    defaults: Arc<Settings>,
    statements: HashMap<Box<[u8]>, Arc<Statement>>,
    unnamed: Option<Box<Unnamed>>,
    /// The server at hand has it.
    unnamed_is_here: bool,
    pinned: Option<Pin>,
    /// What the client sent since the server was asked for, until the first byte of it has left.
    unsent: Vec<u8>,
    /// The error by which the server ended the connection.
    last_words: Option<Refusal>,
    /// The process ends: so does the session, at rest.
    ending: bool,
    /// Bytes from and to the client since the counters were told.
    bytes: (u64, u64),
    _place: ClientPlace,
}

/// Where the session's server connections stand when they are free.
#[derive(Debug)]
struct Shelf {
    pool: Pool<Box<Server>>,
    member: windlass_core::id::MemberId,
    number: usize,
}

/// The client's unnamed statement.
#[derive(Debug, Default)]
struct Unnamed {
    /// The Parse message; empty if it is too long to be kept, or kept longer.
    message: Vec<u8>,
    effects: Effects,
}

/// What has to be done before bytes can be moved again.
#[derive(Debug)]
enum Turn {
    /// The client wants something for which there is no server.
    NeedServer,
    /// The server is at rest.
    AtRest,
    /// The connection to the server broke.
    Lost(Error),
    /// Another server has taken the place of the one at hand.
    Moved,
}

/// Why a session ends.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client left.
    Left,
    /// The client is told why.
    Refused(Refusal),
    /// A commit stopped waiting for its replicas.
    UnknownOutcome,
    /// The server does not keep to the protocol, or we do not.
    Confused(Error),
}

impl Stop {
    fn confused(error: Error) -> Self {
        Self::Confused(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Session {
    /// A session of a client that is in, with what it was told already.
    pub(super) fn new(
        shared: Arc<Shared>,
        who: Who,
        seat: Seat,
        place: ClientPlace,
        stream: Stream,
        settings: Arc<Settings>,
    ) -> Box<Self> {
        Box::new(Self {
            shared,
            who,
            seat,
            stream,
            splitter: Splitter::default(),
            inbox: Vec::new(),
            outbox: Outbox::default(),
            server: None,
            shelf: None,
            active: false,
            running: None,
            exchange: Exchange::default(),
            defaults: settings.clone(),
            settings,
            statements: HashMap::new(),
            unnamed: None,
            unnamed_is_here: false,
            pinned: None,
            unsent: Vec::new(),
            last_words: None,
            ending: false,
            bytes: (0, 0),
            _place: place,
        })
    }

    fn server(&self) -> Option<&Server> {
        self.server.as_deref()
    }

    /// Where bytes for the server go. Only called with a server; bytes for none are forgotten.
    fn server_buffer(&mut self) -> &mut Vec<u8> {
        match &mut self.server {
            Some(server) => server.outbox.buffer(),
            None => self.outbox.buffer(),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        if let Some(server) = &mut self.server {
            server.outbox.push(bytes);
        }
    }

    /// Everything is answered, and the server waits for no rest of a message: a COPY can fail within one.
    fn is_at_rest(&self) -> bool {
        self.exchange.is_at_rest() && self.splitter.at_boundary()
    }

    /// Whether the session keeps its server connection between transactions.
    fn is_sticky(&self) -> bool {
        self.who.pooling == Pooling::Session || self.pinned.is_some()
    }
}

fn io_error(what: &str, error: io::Error) -> Error {
    Error::unavailable(format!("{what}: {error}")).with_source(error)
}
