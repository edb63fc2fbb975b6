//! The PROXY protocol, version 2: a load balancer before the proxy says who the client is.
//!
//! Reads exactly the header and no byte of what follows. Invariants: only from trusted networks, and there it is
//! required, so that nobody else can pretend; at most [`LONGEST`] bytes are read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use windlass_core::Error;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Room for addresses and the extensions that load balancers send.
const LONGEST: usize = 4096;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// The load balancer itself, for example its health check.
    Local,
    /// A client's address.
    Client(SocketAddr),
}

/// Reads a header.
///
/// # Errors
/// `INVALID_FIELD` on `proxy_protocol` if there is none or it makes no sense; `UNAVAILABLE` if the connection ends.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Header, Error> {
    let ended = |error| Error::unavailable("the connection ended within the PROXY header").with_source(error);
    let mut fixed = [0_u8; 16];
    stream.read_exact(&mut fixed).await.map_err(ended)?;
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if &fixed[..12] != SIGNATURE {
        return Err(wrong("there is none; let the load balancer send PROXY protocol version 2"));
    }
    if length > LONGEST {
        return Err(wrong(&format!("has {length} bytes; the limit is {LONGEST}")));
    }
    let mut rest = vec![0_u8; length];
    stream.read_exact(&mut rest).await.map_err(ended)?;
    parse(fixed[12], fixed[13], &rest)
}

fn parse(version_command: u8, family: u8, rest: &[u8]) -> Result<Header, Error> {
    match version_command {
        0x20 => return Ok(Header::Local),
        0x21 => {}
        other => return Err(wrong(&format!("has version and command {other:#04x}, which is unknown"))),
    }
    let port = |at: usize| rest.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let short = || wrong("is shorter than its addresses");
    match family {
        0x11 => {
            let address: [u8; 4] = rest.get(..4).and_then(|bytes| bytes.try_into().ok()).ok_or_else(short)?;
            let port = port(8).ok_or_else(short)?;
            Ok(Header::Client((IpAddr::from(Ipv4Addr::from(address)), port).into()))
        }
        0x21 => {
            let address: [u8; 16] = rest.get(..16).and_then(|bytes| bytes.try_into().ok()).ok_or_else(short)?;
            let port = port(32).ok_or_else(short)?;
            Ok(Header::Client((IpAddr::from(Ipv6Addr::from(address)), port).into()))
        }
        // Unspecified, datagrams or unix sockets: the connection's own address is all there is.
        _ => Ok(Header::Local),
    }
}

fn wrong(what: &str) -> Error {
    Error::invalid("proxy_protocol", format!("the PROXY header {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
    }

    async fn taken(bytes: &[u8]) -> (Result<Header, Error>, usize) {
        let mut stream = bytes;
        let read = read(&mut stream).await;
        (read, stream.len())
    }

    #[tokio::test]
    async fn addresses_are_read_and_nothing_behind_them() {
        let four = [10, 1, 2, 3, 10, 0, 0, 1, 0x30, 0x39, 0x15, 0x38, 0x04, 0, 1, 0xff];
        let mut bytes = header(0x21, 0x11, &four);
        bytes.extend_from_slice(b"then");
        let (read, left) = taken(&bytes).await;
        assert_eq!((read.expect("read"), left), (Header::Client("10.1.2.3:12345".parse().expect("address")), 4));
        let mut six = [0_u8; 36];
        six[15] = 1;
        six[33] = 80;
        let (read, _) = taken(&header(0x21, 0x21, &six)).await;
        assert_eq!(read.expect("read"), Header::Client("[::1]:80".parse().expect("address")));
        assert_eq!(taken(&header(0x20, 0, &[])).await.0.expect("read"), Header::Local);
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let long = [SIGNATURE.as_slice(), &[0x21, 0x11, 0xff, 0xff]].concat();
        for bytes in
            [b"GET / HTTP/1.1\r\n\r\n".to_vec(), header(0x31, 0x11, &[0; 12]), header(0x21, 0x11, &[0; 3]), long]
        {
            let error = taken(&bytes).await.0.expect_err("refused");
            assert_eq!(error.violations[0].field, "proxy_protocol");
        }
        taken(b"\r\n\r\n").await.0.expect_err("ended");
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(command in any::<u8>(), family in any::<u8>(), rest in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(command, family, &rest);
        }
    }
}
