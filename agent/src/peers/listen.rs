//! The port for other agents.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use windlass_core::Error;

/// Listens on the address, or on any free port if that one is taken: several agents may share a machine, and the control
/// plane is told which port it became.
///
/// # Errors
/// `UNAVAILABLE` if the address is not this machine's or there is no free port.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let listener = bind(SocketAddr::new(address.ip(), 0)).await?;
            tracing::warn!(%address, instead = ?listener.local_addr(), "the port for other agents is taken");
            Ok(listener)
        }
        Err(error) => Err(cannot(address, error)),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| cannot(address, error))
}

fn cannot(address: SocketAddr, error: std::io::Error) -> Error {
    Error::unavailable(format!("cannot listen on {address} for other agents: {error}; set peer_listen"))
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_replaced_by_a_free_one() {
        let first = listen("127.0.0.1:0".parse().expect("address")).await.expect("listens");
        let taken = first.local_addr().expect("address");
        let second = listen(taken).await.expect("listens elsewhere").local_addr().expect("address");
        assert_ne!(taken.port(), second.port());
        let error = listen("192.0.2.1:0".parse().expect("address")).await.expect_err("not ours");
        assert!(error.message.contains("peer_listen"), "{error}");
    }
}
