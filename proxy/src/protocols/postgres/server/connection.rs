//! One connection to a server.
//!
//! Invariant: while it is on a shelf, nothing is under way on it: the server waits for the next statement outside a
//! transaction, and our buffers are empty.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    sync::Mutex,
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use windlass_core::{Error, id::MemberId};
use windlass_wire_pg::{
    Piece, Splitter,
    backend::{self, tag},
    frontend,
    startup::CancelKey,
};

use super::{
    Outbox, Prepared, Statement,
    reading::{self, Reading},
};
use crate::{
    pool::{Place, Pooled},
    protocols::postgres::sql::Settings,
};

/// Longest message of a server that is read as a whole, in bytes.
pub(crate) const LONGEST_ANSWER: usize = 64 * 1024;
/// How long a statement of our own may take.
const OWN_STATEMENT: Duration = Duration::from_secs(5);

/// A connection.
#[derive(Debug)]
pub(crate) struct Server {
    pub(super) stream: TlsStream<TcpStream>,
    /// Until it is closed.
    place: Option<Place>,
    round: u64,
    pub(crate) member: MemberId,
    /// The term that its server proved when it was made.
    pub(crate) epoch: u64,
    pub(crate) key: CancelKey,
    /// What differs from the user's defaults.
    pub(crate) settings: Arc<Settings>,
    pub(crate) prepared: Prepared,
    /// What it has prepared is not what we think: nobody else gets it.
    pub(crate) spoiled: bool,
    /// Reported parameters.
    pub(crate) parameters: Vec<(String, Vec<u8>)>,
    /// Those of them that a text's meaning depends on.
    reported: Arc<[u8]>,
    pub(crate) splitter: Splitter,
    /// The start of a message whose end has not come yet.
    pub(crate) inbox: Vec<u8>,
    pub(crate) outbox: Outbox,
    /// Held while a cancellation is on its way to it: until it arrived, nobody else may have the connection.
    pub(crate) cancelling: Arc<Mutex<()>>,
}

/// How a statement of our own ended.
#[derive(Debug)]
pub(crate) enum Done {
    /// Well; the first column of the first row, if there was one.
    Well(Option<Vec<u8>>),
    /// The server's ErrorResponse, without its header.
    Failed(Vec<u8>),
}

impl Server {
    pub(super) fn new(stream: TlsStream<TcpStream>, place: Place, member: MemberId) -> Self {
        Self {
            stream,
            round: place.round(),
            place: Some(place),
            member,
            epoch: 0,
            key: CancelKey { pid: 0, secret: 0 },
            settings: Arc::default(),
            prepared: Prepared::default(),
            spoiled: false,
            parameters: Vec::new(),
            reported: Arc::default(),
            splitter: Splitter::default(),
            inbox: Vec::new(),
            outbox: Outbox::default(),
            cancelling: Arc::default(),
        }
    }

    /// Reads what has come, without waiting.
    pub(crate) fn poll_read(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }

    /// Writes what waits.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbox.poll_flush(&mut self.stream, context)
    }

    /// The next message, kept whole.
    pub(super) async fn message(&mut self) -> Result<(u8, Vec<u8>), Error> {
        loop {
            let piece = self.splitter.next(&self.inbox, |header| header.len)?;
            if let Piece::Message(header, bytes) = piece {
                let (tag, body) = (header.tag, bytes[5..].to_vec());
                self.inbox.drain(..header.len);
                if tag == tag::PARAMETER_STATUS {
                    self.note_parameter(&body)?;
                }
                return Ok((tag, body));
            }
            if self.inbox.len() > LONGEST_ANSWER {
                return Err(Error::unavailable("the database server sent a longer message than expected"));
            }
            self.inbox.reserve(4096);
            if self.stream.read_buf(&mut self.inbox).await.map_err(broken)? == 0 {
                return Err(Error::unavailable("the database server closed the connection"));
            }
        }
    }

    /// Sends what is in the outbox.
    pub(super) async fn send(&mut self) -> Result<(), Error> {
        std::future::poll_fn(|context| self.poll_flush(context)).await.map_err(broken)
    }

    /// Keeps what a ParameterStatus says.
    pub(crate) fn note_parameter(&mut self, body: &[u8]) -> Result<(), Error> {
        let (name, value) = backend::parameter_status(body)?;
        match self.parameters.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value.to_vec(),
            None => self.parameters.push((name.to_owned(), value.to_vec())),
        }
        if reading::concerns(name) {
            self.reported = reading::reported(&self.parameters);
        }
        Ok(())
    }

    /// How it would read a text now, for a client with these settings.
    pub(crate) fn reading(&self, settings: &Settings) -> Reading {
        Reading::new(&self.reported, settings)
    }

    /// Whether literals of this statement would mean what they meant when it was read.
    pub(crate) fn reads_alike(&self, statement: &Statement) -> bool {
        statement.reading.as_ref().is_some_and(|reading| reading.is_under(&self.reported))
    }

    /// Runs statements of our own and waits for their end.
    ///
    /// # Errors
    /// If the connection broke or took longer than five seconds; it cannot be used then.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<Done, Error> {
        frontend::write_query(self.outbox.buffer(), sql);
        let answer = async {
            self.send().await?;
            let mut row = None;
            let mut failed = None;
            loop {
                match self.message().await? {
                    (tag::DATA_ROW, body) if row.is_none() => row = backend::first_column(&body)?.map(<[u8]>::to_vec),
                    (tag::ERROR, body) => failed = Some(body),
                    (tag::READY, _) => break,
                    _ => {}
                }
            }
            self.inbox = Vec::new();
            Ok(failed.map_or(Done::Well(row), Done::Failed))
        };
        match timeout(OWN_STATEMENT, answer).await {
            Ok(done) => done,
            Err(_) => Err(Error::unavailable("the database server did not answer a statement of the proxy in time")),
        }
    }

    /// Makes the session as new.
    ///
    /// # Errors
    /// If the server refuses or does not answer; the connection cannot be used then.
    pub(crate) async fn discard_all(&mut self) -> Result<(), Error> {
        match self.run("DISCARD ALL").await? {
            Done::Well(_) => {
                self.settings = Arc::default();
                self.prepared.clear();
                Ok(())
            }
            Done::Failed(_) => Err(Error::unavailable("the database server refused DISCARD ALL")),
        }
    }

    /// Whether a cancellation is on its way to it.
    pub(crate) fn is_being_cancelled(&self) -> bool {
        self.cancelling.try_lock().is_err()
    }

    /// Waits until none is.
    pub(crate) async fn cancelled(&self) {
        drop(self.cancelling.lock().await);
    }

    /// Takes what the server sent on its own while nobody used the connection; whether it is still usable.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut space = [std::mem::MaybeUninit::uninit(); 4096];
        loop {
            let mut buffer = ReadBuf::uninit(&mut space);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
            self.inbox.extend_from_slice(buffer.filled());
            let mut at = 0;
            loop {
                let piece = self.splitter.next(&self.inbox[at..], |header| header.len);
                let Ok(Piece::Message(header, bytes)) = piece else {
                    if matches!(piece, Ok(Piece::More)) && self.inbox.len() - at <= LONGEST_ANSWER {
                        break;
                    }
                    return Poll::Ready(());
                };
                let body = bytes[5..].to_vec();
                at += header.len;
                let harmless = match header.tag {
                    tag::PARAMETER_STATUS => self.note_parameter(&body).is_ok(),
                    tag::NOTICE => true,
                    _ => false,
                };
                if !harmless {
                    return Poll::Ready(());
                }
            }
            self.inbox.drain(..at);
            if self.inbox.is_empty() {
                self.inbox = Vec::new();
            }
        }
    }

    /// Closes it and gives its place to another.
    ///
    /// # Errors
    /// `UNAVAILABLE` if it was given up before.
    pub(super) fn give_up(mut self: Box<Self>) -> Result<Place, Error> {
        let place = self.place.take();
        tokio::spawn(self.close());
        place.ok_or_else(|| Error::unavailable("the connection to the database server was closed"))
    }

    /// Says good bye, for a connection at rest; the server frees the session at once instead of at the next error.
    pub(crate) async fn close(mut self: Box<Self>) {
        frontend::write_terminate(self.outbox.buffer());
        // It is gone in any case.
        let _ = timeout(Duration::from_secs(1), async {
            let _ = self.send().await;
            let _ = self.stream.shutdown().await;
        })
        .await;
    }
}

impl Pooled for Box<Server> {
    fn round(&self) -> u64 {
        self.round
    }

    fn dispose(mut self) {
        self.place = None;
        // The server frees the session at once, and does not find an error in its log.
        tokio::spawn(self.close());
    }

    fn is_usable(&mut self) -> bool {
        // Nobody waits for more: whoever takes the connection looks again.
        self.poll_idle(&mut Context::from_waker(Waker::noop())).is_pending()
    }
}

fn broken(error: io::Error) -> Error {
    Error::unavailable(format!("the connection to the database server broke: {error}")).with_source(error)
}
