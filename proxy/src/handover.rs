//! Restart without an outage: the process that starts gets the listening sockets of the one that runs.
//!
//! The new process asks by a unix socket in the state directory, `next` for each socket, then says `ready` once it serves.
//! Until then the old one serves as before; from then on it accepts nobody and drains. Both have the same queue of
//! waiting connections all the while, so no client is refused. Cancellations reach the new process only, so it hands on
//! those whose key it does not know, by the same socket, for as long as the old one lives.
//!
//! Invariants: the state directory belongs to one process: the old one lets go of it before it gives the first socket
//! away, and takes it back if the new one dies before it was ready. Only the owner of the directory can connect.

use std::{
    io::{self, BufRead as _, BufReader, IoSlice, IoSliceMut, Write as _},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
    sync::mpsc,
    task::spawn_blocking,
};
use windlass_core::Error;
use windlass_kit::lock::StateLock;
use windlass_wire_pg::startup::CancelKey;

use crate::{Shared, accept::Listeners, drain::Stage, routes::RouteLog};

/// How long the new process may take until it serves.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long one answer of the old process may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Longest label of a socket.
const LABEL: usize = 256;

/// A socket of the process before, with what it is for.
#[derive(Debug)]
pub struct Inherited {
    /// As [`Listeners`] labels it.
    pub label: String,
    /// The socket.
    pub socket: TcpListener,
}

/// The process before, which waits for us.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

/// What a process gives away.
#[derive(Debug)]
pub(crate) struct Estate {
    pub(crate) shared: Arc<Shared>,
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) log: RouteLog,
    /// None while the state directory belongs to the successor.
    pub(crate) lock: Mutex<Option<StateLock>>,
}

/// Takes the sockets of the process that runs on the state directory; nothing if none runs.
///
/// # Errors
/// `UNAVAILABLE` if it stops in the middle.
pub async fn take(state_dir: &Path) -> Result<Option<(Vec<Inherited>, Predecessor)>, Error> {
    let path = path(state_dir);
    let taken = spawn_blocking(move || {
        let Ok(stream) = UnixStream::connect(&path) else { return Ok(None) };
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let mut sockets = Vec::new();
        while let Some(inherited) = next(&stream)? {
            sockets.push(inherited);
        }
        Ok(Some((sockets, Predecessor(stream))))
    });
    taken.await.map_err(io::Error::other).flatten().map_err(|error| {
        Error::unavailable("the running proxy did not hand its sockets over; stop it, or start again")
            .with_source(error)
    })
}

fn next(stream: &UnixStream) -> io::Result<Option<Inherited>> {
    (&mut &*stream).write_all(b"next\n")?;
    let mut label = [0_u8; LABEL];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut label)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let socket: Option<OwnedFd> = control.drain().find_map(|message| {
        if let RecvAncillaryMessage::ScmRights(mut sockets) = message { sockets.next() } else { None }
    });
    let label = label.get(..received.bytes).and_then(|label| std::str::from_utf8(label).ok()).map(str::trim_end);
    match (label, socket) {
        (Some("end"), None) => Ok(None),
        (Some(label), Some(socket)) => Ok(Some(Inherited { label: label.to_owned(), socket: socket.into() })),
        (_, _) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl Predecessor {
    /// We serve: the process before may go. Hands cancellations on to it until it is gone.
    ///
    /// # Errors
    /// `UNAVAILABLE` if it was gone already, which does no harm.
    pub async fn succeed(self, mut cancels: mpsc::Receiver<CancelKey>) -> Result<(), Error> {
        let tell = move || {
            (&self.0).write_all(b"ready\n")?;
            self.0.set_nonblocking(true)?;
            Ok(self.0)
        };
        let told = spawn_blocking(tell).await.map_err(io::Error::other).flatten();
        let stream = told.and_then(tokio::net::UnixStream::from_std);
        let stream = stream.map_err(|error| Error::unavailable("the proxy before is gone").with_source(error))?;
        let (mut its, mut ours) = stream.into_split();
        let gone = async {
            // It says nothing more.
            let _ = its.read_u8().await;
        };
        let hand_on = async {
            while let Some(key) = cancels.recv().await {
                if ours.write_all(format!("{} {}\n", key.pid, key.secret).as_bytes()).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = gone => {}
            () = hand_on => {}
        }
        Ok(())
    }
}

/// Waits for a successor and gives it everything. Returns, and lets go of the sockets, when it serves or when this process
/// leaves for another reason.
///
/// # Errors
/// `INTERNAL` if the socket cannot be made.
pub(crate) async fn serve(estate: Arc<Estate>) -> Result<(), Error> {
    let path = path(&estate.shared.config.state_dir);
    windlass_kit::files::remove(&path)?;
    let listener = UnixListener::bind(&path)
        .map_err(|error| Error::internal(format!("cannot listen on {}", path.display())).with_source(error))?;
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = estate.shared.drain.reached(Stage::Leaving) => return Ok(()),
        };
        let Ok((stream, _)) = stream else { continue };
        let Ok(stream) = stream.into_std() else { continue };
        let giving = estate.clone();
        let give = move || {
            let more = giving.give(&stream)?;
            stream.set_nonblocking(true)?;
            Ok((more, stream))
        };
        let given = spawn_blocking(give).await.map_err(io::Error::other).flatten();
        match given {
            Ok((more, stream)) => {
                tracing::info!("a new process serves; this one takes no more clients");
                estate.shared.drain.advance(Stage::Leaving);
                if let Err(error) = estate.cancel_by_order(more, stream).await {
                    tracing::warn!(%error, "the new process hands no more cancellations on");
                }
                return Ok(());
            }
            Err(error) => {
                estate.take_back();
                tracing::warn!(%error, "a new process did not come up; going on");
            }
        }
    }
}

impl Estate {
    /// Answers one successor until it is ready. Gives what it said after that.
    fn give(&self, stream: &UnixStream) -> io::Result<Vec<u8>> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let mut sockets = self.listeners.sockets().into_iter();
        let mut words = BufReader::new(stream);
        loop {
            let mut word = String::new();
            words.read_line(&mut word)?;
            match word.as_str() {
                "next\n" => {
                    self.let_go();
                    send(stream, sockets.next())?;
                }
                "ready\n" => return Ok(words.buffer().to_vec()),
                "" => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    /// Cancels what the successor's clients ask to cancel here, until it is gone.
    async fn cancel_by_order(&self, more: Vec<u8>, stream: UnixStream) -> io::Result<()> {
        let stream = tokio::net::UnixStream::from_std(stream)?;
        let mut lines = tokio::io::BufReader::new(more.as_slice().chain(stream)).lines();
        while let Some(line) = lines.next_line().await? {
            let key = line
                .split_once(' ')
                .and_then(|(pid, secret)| Some(CancelKey { pid: pid.parse().ok()?, secret: secret.parse().ok()? }));
            self.shared.postgres.sessions().cancel(key.ok_or(io::ErrorKind::InvalidData)?);
        }
        Ok(())
    }

    fn let_go(&self) {
        self.log.give_away();
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn take_back(&self) {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_none() {
            match StateLock::try_take(&self.shared.config.state_dir) {
                Ok(Some(again)) => {
                    *lock = Some(again);
                    if let Err(error) = self.log.take_back() {
                        tracing::error!(error = error.chain(), "routes are not stored");
                    }
                }
                Ok(None) => {
                    tracing::warn!("the state directory belongs to another process; routes are not stored here")
                }
                Err(error) => tracing::error!(error = error.chain(), "the state directory cannot be locked"),
            }
        }
    }
}

fn send(stream: &UnixStream, socket: Option<(String, BorrowedFd<'_>)>) -> io::Result<()> {
    let Some((label, socket)) = socket else { return (&mut &*stream).write_all(b"end\n") };
    let sockets = [socket];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let sent = sendmsg(stream, &[IoSlice::new(label.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    if sent == label.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("handover.sock")
}
