//! Listening sockets, bound here or inherited from the process before, and the loop that takes clients from them.
//!
//! Invariants: taking a connection never waits for a client; a listener is closed when this process leaves, while the
//! process that inherited it goes on with the same queue.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use rustix::net::sockopt;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;
use windlass_core::Error;

use super::{
    Client, Startup,
    header::{self, Header},
    starting::{Patience, Starting},
};
use crate::{
    Shared,
    config::{Config, Network},
    drain::Stage,
    handover::Inherited,
    protocols::postgres,
    routes::Entrance,
};

/// Pause when the process is out of descriptors.
const OUT: Duration = Duration::from_millis(20);
/// Connections that wait to be taken.
const BACKLOG: i32 = 4096;
/// Label of the socket for metrics; no instance can have it, because their names have a dot.
const METRICS: &str = "metrics";

/// One socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    entrance: Entrance,
}

/// All sockets of a process.
#[derive(Debug)]
pub struct Listeners {
    clients: Vec<Listener>,
    metrics: Option<TcpListener>,
}

impl Listeners {
    /// The sockets that the configuration asks for: inherited ones where there are, else bound now. Inherited ones that
    /// nobody asks for are closed.
    ///
    /// # Errors
    /// `UNAVAILABLE` naming the address that cannot be bound.
    pub fn open(config: &Config, inherited: Vec<Inherited>) -> Result<Self, Error> {
        let mut inherited: BTreeMap<String, StdListener> =
            inherited.into_iter().map(|inherited| (inherited.label, inherited.socket)).collect();
        let mut wanted = vec![(config.listen, Entrance::Main)];
        for (port, key) in config.ports()? {
            wanted.push((SocketAddr::new(config.listen.ip(), port), Entrance::Fixed(key.into())));
        }
        let mut open = |label: &str, address| {
            open(address, inherited.remove(label)).map_err(|error| {
                Error::unavailable(format!(
                    "cannot listen on {address}: {error}; stop what uses it or set another address"
                ))
                .with_source(error)
            })
        };
        let metrics = config.metrics_listen.map(|address| open(METRICS, address)).transpose()?;
        let client = |(address, entrance): (SocketAddr, Entrance)| {
            let socket = open(label(&entrance), address)?;
            Ok(Listener { address: socket.local_addr().unwrap_or(address), socket, entrance })
        };
        Ok(Self { clients: wanted.into_iter().map(client).collect::<Result<_, Error>>()?, metrics })
    }

    /// The address of the main one, with the port that the kernel chose for port 0.
    pub fn main(&self) -> Option<SocketAddr> {
        self.clients.iter().find(|listener| listener.entrance == Entrance::Main).map(|listener| listener.address)
    }

    /// Where Prometheus asks.
    pub(crate) fn metrics(&self) -> Option<&TcpListener> {
        self.metrics.as_ref()
    }

    /// The sockets themselves, each with its label, to be handed over.
    pub(crate) fn sockets(&self) -> Vec<(String, BorrowedFd<'_>)> {
        let clients =
            self.clients.iter().map(|listener| (label(&listener.entrance).to_owned(), listener.socket.as_fd()));
        clients.chain(self.metrics.iter().map(|socket| (METRICS.to_owned(), socket.as_fd()))).collect()
    }
}

/// The inherited socket if it is the right one, else a new one. Port 0 is whatever port the process before has.
fn open(address: SocketAddr, inherited: Option<StdListener>) -> std::io::Result<TcpListener> {
    let fits = |socket: &StdListener| {
        let own = socket.local_addr().ok();
        own.is_some_and(|own| own.ip() == address.ip() && (address.port() == 0 || own.port() == address.port()))
    };
    let socket = match inherited.filter(fits) {
        Some(socket) => socket,
        None => bind(address)?,
    };
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

/// What a socket is for, in one word.
fn label(entrance: &Entrance) -> &str {
    match entrance {
        Entrance::Main => "main",
        Entrance::Fixed(key) => key,
    }
}

fn bind(address: SocketAddr) -> std::io::Result<StdListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Takes clients. One for all sockets of the process.
#[derive(Debug)]
pub(crate) struct Accept {
    shared: Arc<Shared>,
    starting: Arc<Starting>,
    trusted: Vec<Network>,
    patience: Duration,
    sessions: TaskTracker,
}

impl Accept {
    /// # Errors
    /// `INVALID_FIELD` on `proxy_protocol.trusted`.
    pub(crate) fn new(shared: Arc<Shared>, sessions: TaskTracker) -> Result<Arc<Self>, Error> {
        let limits = &shared.config.limits;
        Ok(Arc::new(Self {
            starting: Starting::new(limits.starting as usize, shared.metrics.clone()),
            trusted: shared.config.trusted()?,
            patience: limits.startup_timeout.unsigned_abs(),
            shared,
            sessions,
        }))
    }

    /// Takes clients from all sockets until this process leaves, and then lets go of the sockets.
    pub(crate) async fn run(self: Arc<Self>, listeners: Arc<Listeners>) {
        let loops = listeners.clients.iter().map(|listener| self.clone().take(listener));
        tokio::select! {
            _ = join_all(loops) => {}
            () = self.shared.drain.reached(Stage::Leaving) => {}
        }
    }

    async fn take(self: Arc<Self>, listener: &Listener) {
        loop {
            match listener.socket.accept().await {
                Ok((stream, peer)) => self.welcome(stream, peer, &listener.entrance),
                // Out of descriptors, or a peer that was gone before we looked. Neither ends the proxy; the wait keeps
                // the first from spinning.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(OUT).await;
                }
            }
        }
    }

    fn welcome(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, entrance: &Entrance) {
        self.shared.metrics.accepted.inc();
        let (startup, patience) = self.starting.enter();
        let (accept, entrance) = (self.clone(), entrance.clone());
        self.sessions.spawn(async move { accept.session(stream, peer, entrance, startup, patience).await });
    }

    async fn session(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
        entrance: Entrance,
        startup: Startup,
        patience: Patience,
    ) {
        let serve = async {
            tune(&stream)?;
            let peer = self.true_peer(&mut stream, peer).await?;
            Box::pin(postgres::serve(Client { stream, peer, entrance, startup }, &self.shared)).await
        };
        let reason = tokio::select! {
            ended = serve => match ended {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(%peer, error = error.chain(), "session ended");
                    return;
                }
            },
            reason = patience.over(self.patience) => reason,
        };
        self.shared.metrics.refused(reason);
        tracing::debug!(%peer, reason, "closed a connection whose client did not say who it is");
    }

    async fn true_peer(&self, stream: &mut TcpStream, peer: SocketAddr) -> Result<SocketAddr, Error> {
        if !self.trusted.iter().any(|network| network.contains(peer.ip())) {
            return Ok(peer);
        }
        let header = timeout(self.patience, header::read(stream)).await;
        let header = header.unwrap_or_else(|_| Err(Error::unavailable("no PROXY header came")));
        match header {
            Ok(Header::Client(client)) => Ok(client),
            Ok(Header::Local) => Ok(peer),
            Err(error) => {
                self.shared.metrics.refused("proxy_header");
                Err(error)
            }
        }
    }
}

/// Small messages leave at once, and a client that is gone without a word is noticed.
fn tune(stream: &TcpStream) -> Result<(), Error> {
    let tuned = stream.set_nodelay(true).and_then(|()| {
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))?;
        sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
        Ok(sockopt::set_tcp_keepcnt(stream, 3)?)
    });
    tuned.map_err(|error| Error::unavailable("the client was gone at once").with_source(error))
}
