//! A connection as it is handed to a protocol.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::Startup;
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
    /// To be told when the client is known. A session that ends before gives its place back.
    pub startup: Startup,
}
