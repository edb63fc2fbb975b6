//! Messages of servers: views of those that a pooler looks at, and writers of those that it sends itself.

use windlass_core::Result;

use crate::frame::{write, write_cstr};
use crate::read::Read;
use crate::startup::{CancelKey, VERSION_3_0};

/// Tags of servers' messages.
pub mod tag {
    /// A step of the authentication.
    pub const AUTHENTICATION: u8 = b'R';
    /// Key for cancellations.
    pub const BACKEND_KEY: u8 = b'K';
    /// Bind is done.
    pub const BIND_COMPLETE: u8 = b'2';
    /// Close is done.
    pub const CLOSE_COMPLETE: u8 = b'3';
    /// A statement is done.
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// A COPY to the server begins.
    pub const COPY_IN: u8 = b'G';
    /// A COPY from the server begins.
    pub const COPY_OUT: u8 = b'H';
    /// A stream in both directions begins.
    pub const COPY_BOTH: u8 = b'W';
    /// A row.
    pub const DATA_ROW: u8 = b'D';
    /// An empty statement is done.
    pub const EMPTY_QUERY: u8 = b'I';
    /// A statement failed.
    pub const ERROR: u8 = b'E';
    /// A minor version or options that the server does not speak.
    pub const NEGOTIATE: u8 = b'v';
    /// A statement has something to say.
    pub const NOTICE: u8 = b'N';
    /// Somebody notified.
    pub const NOTIFICATION: u8 = b'A';
    /// A reported parameter has a new value.
    pub const PARAMETER_STATUS: u8 = b'S';
    /// Parse is done.
    pub const PARSE_COMPLETE: u8 = b'1';
    /// The server waits for the next step.
    pub const READY: u8 = b'Z';
}

/// Where a session stands in transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// In none.
    Idle,
    /// In one.
    Open,
    /// In one that failed and can only be rolled back.
    Failed,
}

/// The body of `ReadyForQuery`.
///
/// # Errors
/// If it is none of the three known states.
pub fn ready(body: &[u8]) -> Result<TransactionStatus> {
    match body {
        b"I" => Ok(TransactionStatus::Idle),
        b"T" => Ok(TransactionStatus::Open),
        b"E" => Ok(TransactionStatus::Failed),
        _ => Err(Read::new("ReadyForQuery", body).malformed("unknown transaction status")),
    }
}

/// Appends `ReadyForQuery`.
pub fn write_ready(out: &mut Vec<u8>, status: TransactionStatus) {
    let letter = match status {
        TransactionStatus::Idle => b'I',
        TransactionStatus::Open => b'T',
        TransactionStatus::Failed => b'E',
    };
    write(out, tag::READY, |out| out.push(letter));
}

/// A step of the authentication, as the server asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// The client is in.
    Ok,
    /// Mechanisms of SASL, each with its zero byte.
    Sasl(Mechanisms<'a>),
    /// The server's first data.
    SaslContinue(&'a [u8]),
    /// The server's last data.
    SaslFinal(&'a [u8]),
    /// Another method, by its number.
    Other(u32),
}

/// A list of names of mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mechanisms<'a>(&'a [u8]);

impl Mechanisms<'_> {
    /// Whether the server offers it.
    #[must_use]
    pub fn offers(&self, mechanism: &str) -> bool {
        self.0.split(|byte| *byte == 0).any(|name| name == mechanism.as_bytes())
    }
}

impl<'a> Authentication<'a> {
    /// Reads the body.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn parse(body: &'a [u8]) -> Result<Self> {
        let mut read = Read::new("Authentication", body);
        Ok(match read.u32()? {
            0 => read.end().map(|()| Self::Ok)?,
            10 => Self::Sasl(Mechanisms(read.rest())),
            11 => Self::SaslContinue(read.rest()),
            12 => Self::SaslFinal(read.rest()),
            other => Self::Other(other),
        })
    }
}

/// Appends `AuthenticationOk`.
pub fn write_authentication_ok(out: &mut Vec<u8>) {
    write(out, tag::AUTHENTICATION, |out| out.extend_from_slice(&[0; 4]));
}

/// Appends the offer of mechanisms.
pub fn write_sasl(out: &mut Vec<u8>, mechanisms: &[&str]) {
    write(out, tag::AUTHENTICATION, |out| {
        out.extend_from_slice(&10_u32.to_be_bytes());
        for mechanism in mechanisms {
            write_cstr(out, mechanism.as_bytes());
        }
        out.push(0);
    });
}

/// Appends the server's first data.
pub fn write_sasl_continue(out: &mut Vec<u8>, data: &[u8]) {
    write_sasl_step(out, 11, data);
}

/// Appends the server's last data.
pub fn write_sasl_final(out: &mut Vec<u8>, data: &[u8]) {
    write_sasl_step(out, 12, data);
}

fn write_sasl_step(out: &mut Vec<u8>, step: u32, data: &[u8]) {
    write(out, tag::AUTHENTICATION, |out| {
        out.extend_from_slice(&step.to_be_bytes());
        out.extend_from_slice(data);
    });
}

/// Name and value of a `ParameterStatus`.
///
/// # Errors
/// If it is malformed.
pub fn parameter_status(body: &[u8]) -> Result<(&str, &[u8])> {
    let mut read = Read::new("ParameterStatus", body);
    let (name, value) = (read.text()?, read.cstr()?);
    read.end()?;
    Ok((name, value))
}

/// Appends a `ParameterStatus`.
pub fn write_parameter_status(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    write(out, tag::PARAMETER_STATUS, |out| {
        write_cstr(out, name.as_bytes());
        write_cstr(out, value);
    });
}

/// The key of a session of protocol 3.0.
///
/// # Errors
/// If it is malformed.
pub fn backend_key(body: &[u8]) -> Result<CancelKey> {
    let mut read = Read::new("BackendKeyData", body);
    let key = CancelKey { pid: read.u32()?, secret: read.u32()? };
    read.end()?;
    Ok(key)
}

/// Appends the key of a session.
pub fn write_backend_key(out: &mut Vec<u8>, key: CancelKey) {
    write(out, tag::BACKEND_KEY, |out| {
        out.extend_from_slice(&key.pid.to_be_bytes());
        out.extend_from_slice(&key.secret.to_be_bytes());
    });
}

/// Appends the answer to a start of a newer minor version, or with options of the protocol: 3.0, and none of them.
pub fn write_negotiate(out: &mut Vec<u8>, refused: &[String]) {
    write(out, tag::NEGOTIATE, |out| {
        out.extend_from_slice(&VERSION_3_0.to_be_bytes());
        out.extend_from_slice(&u32::try_from(refused.len()).expect("bounded by the startup packet").to_be_bytes());
        for option in refused {
            write_cstr(out, option.as_bytes());
        }
    });
}

/// The tag of a `CommandComplete`.
///
/// # Errors
/// If it is malformed.
pub fn command_tag(body: &[u8]) -> Result<&[u8]> {
    let mut read = Read::new("CommandComplete", body);
    let tag = read.cstr()?;
    read.end()?;
    Ok(tag)
}

/// Appends a `CommandComplete`.
pub fn write_command_complete(out: &mut Vec<u8>, command: &str) {
    write(out, tag::COMMAND_COMPLETE, |out| write_cstr(out, command.as_bytes()));
}

/// The first column of a `DataRow`; `None` for NULL or if there is none.
///
/// # Errors
/// If it is malformed.
pub fn first_column(body: &[u8]) -> Result<Option<&[u8]>> {
    let mut read = Read::new("DataRow", body);
    if read.u16()? == 0 {
        return Ok(None);
    }
    match usize::try_from(read.i32()?) {
        Ok(length) => read.take(length).map(Some),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut out = Vec::new();
        write_sasl(&mut out, &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
        let Ok(Authentication::Sasl(offer)) = Authentication::parse(&out[5..]) else { panic!("an offer") };
        assert!(offer.offers("SCRAM-SHA-256") && !offer.offers("SCRAM-SHA-1"));

        let mut out = Vec::new();
        write_authentication_ok(&mut out);
        assert_eq!(Authentication::parse(&out[5..]), Ok(Authentication::Ok));

        let key = CancelKey { pid: 1, secret: 2 };
        let mut out = Vec::new();
        write_backend_key(&mut out, key);
        assert_eq!(backend_key(&out[5..]), Ok(key));

        let mut out = Vec::new();
        write_parameter_status(&mut out, "TimeZone", b"UTC");
        assert_eq!(parameter_status(&out[5..]), Ok(("TimeZone", &b"UTC"[..])));

        let mut out = Vec::new();
        write_negotiate(&mut out, &[]);
        assert_eq!(out[5..], [0, 3, 0, 0, 0, 0, 0, 0], "the whole version, as libpq checks it");

        for status in [TransactionStatus::Idle, TransactionStatus::Open, TransactionStatus::Failed] {
            let mut out = Vec::new();
            write_ready(&mut out, status);
            assert_eq!(ready(&out[5..]), Ok(status));
        }
    }

    #[test]
    fn columns_are_bounded_by_the_row() {
        assert_eq!(first_column(b"\0\x01\0\0\0\x027\x38"), Ok(Some(&b"78"[..])));
        assert_eq!(first_column(b"\0\x01\xff\xff\xff\xff"), Ok(None));
        assert_eq!(first_column(b"\0\0"), Ok(None));
        assert!(first_column(b"\0\x01\0\0\0\x097").is_err());
        assert!(ready(b"X").is_err() && ready(b"II").is_err());
    }
}
