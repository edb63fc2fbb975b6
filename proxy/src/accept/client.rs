//! A connection as it is handed to a protocol.

use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::routes::Entrance;

/// A connection of a client of which nothing is known yet.
#[derive(Debug)]
pub struct Client {
    /// The connection; nothing of the client's protocol was read.
    pub stream: TcpStream,
    /// The client's address: what a trusted load balancer says, else the connection's.
    pub peer: SocketAddr,
    /// By which port it came.
    pub entrance: Entrance,
    /// To be told when the client is known.
    pub startup: Startup,
}

/// The time that a client has to say who it is. A session that is dropped before [`Startup::known`] gives its place back.
#[derive(Debug)]
pub struct Startup(CancellationToken);

impl Startup {
    pub(super) fn new(known: CancellationToken) -> Self {
        Self(known)
    }

    /// The client has proven who it is: from now on it may be slow.
    pub fn known(self) {
        self.0.cancel();
    }
}
