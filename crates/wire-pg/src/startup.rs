//! The first packet of a connection: a start, a request for encryption, or a cancellation.
//!
//! These packets have no tag. They come from anybody, before any check of who it is, hence the low limit.

use windlass_core::{Error, Result};

use crate::frame::write_sized;
use crate::read::Read;

/// The longest first packet in bytes, length included: PostgreSQL's own limit.
pub const MAX_STARTUP: usize = 10_000;
/// Major version 3, minor 0.
pub const VERSION_3_0: u32 = 0x0003_0000;

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSSENC: u32 = 80_877_104;

/// Names a session to those who want to cancel its statement.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CancelKey {
    /// Process id of the server, or what stands for it.
    pub pid: u32,
    /// What only the client knows.
    pub secret: u32,
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelKey").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// A first packet.
#[derive(Debug, PartialEq, Eq)]
pub enum First {
    /// The client asks whether TLS is offered.
    Ssl,
    /// The client asks whether GSSAPI encryption is offered.
    GssEnc,
    /// Cancel what runs in the session with this key.
    Cancel(CancelKey),
    /// Begin a session.
    Start(Startup),
}

/// The request to begin a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// Minor version of protocol 3 that the client would like.
    pub minor: u16,
    /// Options of the protocol (`_pq_.…`) the client would like.
    pub protocol_options: Vec<String>,
    /// All other parameters in the order given, `user` among them.
    pub parameters: Vec<(String, String)>,
}

impl Startup {
    /// The last value given for a parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// How many bytes the first packet has, from its first four; `None` if they are not all there.
///
/// # Errors
/// If the length is impossible or above [`MAX_STARTUP`].
pub fn packet_len(bytes: &[u8]) -> Result<Option<usize>> {
    let &[a, b, c, d, ..] = bytes else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if (8..=MAX_STARTUP).contains(&length) {
        Ok(Some(length))
    } else {
        Err(Error::invalid("startup packet", format!("its length is {length}; 8 to {MAX_STARTUP} bytes are allowed")))
    }
}

/// Reads a whole first packet, length included.
///
/// # Errors
/// If it is none, or of a major version other than 3.
pub fn parse(packet: &[u8]) -> Result<First> {
    let mut read = Read::new("startup packet", packet);
    let length = read.u32()?;
    if usize::try_from(length) != Ok(packet.len()) {
        return Err(read.malformed("its length is not the length it names"));
    }
    match read.u32()? {
        SSL => read.end().map(|()| First::Ssl),
        GSSENC => read.end().map(|()| First::GssEnc),
        CANCEL => {
            let key = CancelKey { pid: read.u32()?, secret: read.u32()? };
            read.end().map(|()| First::Cancel(key))
        }
        version if version >> 16 == 3 => start(read, version),
        version => Err(Error::invalid(
            "startup packet",
            format!("protocol {}.{} is not spoken here; use version 3", version >> 16, version & 0xffff),
        )),
    }
}

fn start(mut read: Read<'_>, version: u32) -> Result<First> {
    let mut startup = Startup {
        minor: u16::try_from(version & 0xffff).expect("masked to 16 bits"),
        protocol_options: Vec::new(),
        parameters: Vec::new(),
    };
    loop {
        let name = read.text()?;
        if name.is_empty() {
            break;
        }
        let value = read.text()?;
        if name.starts_with("_pq_.") {
            startup.protocol_options.push(name.to_owned());
        } else {
            startup.parameters.push((name.to_owned(), value.to_owned()));
        }
    }
    read.end()?;
    Ok(First::Start(startup))
}

/// Appends the request to begin a session, as protocol 3.0.
pub fn write_startup<'a>(out: &mut Vec<u8>, parameters: impl IntoIterator<Item = (&'a str, &'a str)>) {
    write_sized(out, |out| {
        out.extend_from_slice(&VERSION_3_0.to_be_bytes());
        for (name, value) in parameters {
            crate::frame::write_cstr(out, name.as_bytes());
            crate::frame::write_cstr(out, value.as_bytes());
        }
        out.push(0);
    });
}

/// Appends the question whether TLS is offered.
pub fn write_ssl_request(out: &mut Vec<u8>) {
    write_sized(out, |out| out.extend_from_slice(&SSL.to_be_bytes()));
}

/// Appends a cancellation.
pub fn write_cancel(out: &mut Vec<u8>, key: CancelKey) {
    write_sized(out, |out| {
        for word in [CANCEL, key.pid, key.secret] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_first_packet_reads_back() {
        let mut out = Vec::new();
        write_ssl_request(&mut out);
        assert_eq!(parse(&out), Ok(First::Ssl));
        out.clear();
        let key = CancelKey { pid: 7, secret: 0xdead_beef };
        write_cancel(&mut out, key);
        assert_eq!(packet_len(&out), Ok(Some(16)));
        assert_eq!(parse(&out), Ok(First::Cancel(key)));
        assert!(!format!("{key:?}").contains("3735928559"), "a secret is not shown");
        out.clear();
        write_startup(&mut out, [("user", "ada"), ("database", "loom"), ("user", "eve")]);
        let Ok(First::Start(startup)) = parse(&out) else { panic!("a start") };
        assert_eq!(
            (startup.minor, startup.parameter("user")),
            (0, Some("eve")),
            "the last one counts, as in PostgreSQL"
        );
        assert_eq!(startup.parameter("options"), None);
    }

    #[test]
    fn newer_minors_and_protocol_options_are_told_apart() {
        let mut out = Vec::new();
        write_sized(&mut out, |out| {
            out.extend_from_slice(&0x0003_0002_u32.to_be_bytes());
            out.extend_from_slice(b"_pq_.novelty\0on\0user\0ada\0\0");
        });
        let Ok(First::Start(startup)) = parse(&out) else { panic!("a start") };
        assert_eq!((startup.minor, startup.protocol_options), (2, vec!["_pq_.novelty".to_owned()]));
    }

    #[test]
    fn lengths_are_bounded_and_other_versions_refused() {
        assert!(packet_len(&10_001_u32.to_be_bytes()).is_err());
        assert!(packet_len(&7_u32.to_be_bytes()).is_err());
        assert!(packet_len(b"GET / HTTP/1.1").is_err(), "no wait for a gigabyte that never comes");
        assert_eq!(packet_len(&[0, 0]), Ok(None));
        assert!(parse(&[0, 0, 0, 8, 0, 2, 0, 0]).unwrap_err().message.contains("2.0"));
        assert!(parse(&[0, 0, 0, 9, 0, 3, 0, 0, 0, 0]).is_err(), "bytes behind the end");
    }
}
