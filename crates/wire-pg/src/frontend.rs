//! Messages of clients: views of those that a pooler looks at, and writers of those that it sends itself.

use windlass_core::Result;

use crate::frame::{write, write_cstr};
use crate::read::Read;

/// Tags of clients' messages.
pub mod tag {
    /// Parameters of a portal.
    pub const BIND: u8 = b'B';
    /// Forget a statement or a portal.
    pub const CLOSE: u8 = b'C';
    /// Data of a COPY.
    pub const COPY_DATA: u8 = b'd';
    /// End of a COPY.
    pub const COPY_DONE: u8 = b'c';
    /// Abort of a COPY.
    pub const COPY_FAIL: u8 = b'f';
    /// What does a statement or a portal return?
    pub const DESCRIBE: u8 = b'D';
    /// Run a portal.
    pub const EXECUTE: u8 = b'E';
    /// Send what you have.
    pub const FLUSH: u8 = b'H';
    /// Call a function by the old fast path.
    pub const FUNCTION_CALL: u8 = b'F';
    /// Prepare a statement.
    pub const PARSE: u8 = b'P';
    /// Any answer in an authentication.
    pub const PASSWORD: u8 = b'p';
    /// Statements as one text.
    pub const QUERY: u8 = b'Q';
    /// End of a step of the extended protocol.
    pub const SYNC: u8 = b'S';
    /// Good bye.
    pub const TERMINATE: u8 = b'X';
}

/// What `Describe` and `Close` are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

/// Prepare a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Name of the statement, empty for the unnamed one.
    pub name: &'a [u8],
    /// The text.
    pub query: &'a [u8],
    /// Count and ids of parameter types, as they came.
    pub types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Reads the body.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn read(body: &'a [u8]) -> Result<Self> {
        let mut read = Read::new("Parse", body);
        let (name, query) = (read.cstr()?, read.cstr()?);
        let types = read.rest();
        let mut count = Read::new("Parse", types);
        let n = count.u16()?;
        count.take(usize::from(n) * 4)?;
        count.end()?;
        Ok(Self { name, query, types })
    }

    /// Appends it under another name.
    pub fn write_as(&self, out: &mut Vec<u8>, name: &[u8]) {
        write(out, tag::PARSE, |out| {
            write_cstr(out, name);
            write_cstr(out, self.query);
            out.extend_from_slice(self.types);
        });
    }
}

/// The start of a Bind: its names. What follows is of no interest to a pooler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindNames<'a> {
    /// The portal.
    pub portal: &'a [u8],
    /// The statement.
    pub statement: &'a [u8],
    /// Bytes of the body that the names take with their zero bytes.
    pub len: usize,
}

impl<'a> BindNames<'a> {
    /// Reads the names from the start of a body; `None` if they do not end within it.
    #[must_use]
    pub fn read(start: &'a [u8]) -> Option<Self> {
        let mut read = Read::new("Bind", start);
        let (portal, statement) = (read.cstr().ok()?, read.cstr().ok()?);
        Some(Self { portal, statement, len: portal.len() + statement.len() + 2 })
    }

    /// Appends header and names with another statement, for a Bind whose body has `body` bytes; the rest of that body
    /// has to follow.
    pub fn write_as(&self, out: &mut Vec<u8>, body: usize, statement: &[u8]) {
        let length = 4 + body - self.statement.len() + statement.len();
        out.push(tag::BIND);
        out.extend_from_slice(&u32::try_from(length).expect("bounded by the longest message and name").to_be_bytes());
        write_cstr(out, self.portal);
        write_cstr(out, statement);
    }
}

/// The body of `Describe` or `Close`.
///
/// # Errors
/// If it is malformed.
pub fn object(body: &[u8]) -> Result<(Object, &[u8])> {
    let mut read = Read::new("Describe or Close", body);
    let object = match read.u8()? {
        b'S' => Object::Statement,
        b'P' => Object::Portal,
        _ => return Err(read.malformed("it is about neither a statement nor a portal")),
    };
    let name = read.cstr()?;
    read.end()?;
    Ok((object, name))
}

/// The portal that an `Execute` runs, and the row limit.
///
/// # Errors
/// If it is malformed.
pub fn execute(body: &[u8]) -> Result<(&[u8], u32)> {
    let mut read = Read::new("Execute", body);
    let portal = read.cstr()?;
    let rows = read.u32()?;
    read.end()?;
    Ok((portal, rows))
}

/// The text of a simple query.
///
/// # Errors
/// If it has no end.
pub fn query(body: &[u8]) -> Result<&[u8]> {
    let mut read = Read::new("Query", body);
    let text = read.cstr()?;
    read.end()?;
    Ok(text)
}

/// First message of SASL: mechanism and first data of the client.
///
/// # Errors
/// If it is malformed, or without first data (SCRAM always has it).
pub fn sasl_initial(body: &[u8]) -> Result<(&str, &[u8])> {
    let mut read = Read::new("SASLInitialResponse", body);
    let mechanism = read.text()?;
    let length = read.i32()?;
    let Ok(length) = usize::try_from(length) else { return Err(read.malformed("it has no first data")) };
    let data = read.take(length)?;
    read.end()?;
    Ok((mechanism, data))
}

/// Appends the first message of SASL.
pub fn write_sasl_initial(out: &mut Vec<u8>, mechanism: &str, data: &[u8]) {
    write(out, tag::PASSWORD, |out| {
        write_cstr(out, mechanism.as_bytes());
        out.extend_from_slice(&u32::try_from(data.len()).expect("made here, short").to_be_bytes());
        out.extend_from_slice(data);
    });
}

/// Appends a later message of SASL.
pub fn write_sasl_response(out: &mut Vec<u8>, data: &[u8]) {
    write(out, tag::PASSWORD, |out| out.extend_from_slice(data));
}

/// Appends a simple query.
pub fn write_query(out: &mut Vec<u8>, text: &str) {
    write(out, tag::QUERY, |out| write_cstr(out, text.as_bytes()));
}

/// Appends the start of a simple query whose last `rest` bytes, the zero byte among them, have to follow.
pub fn write_query_start(out: &mut Vec<u8>, start: &[u8], rest: usize) {
    let length = 4 + start.len() + rest;
    out.push(tag::QUERY);
    out.extend_from_slice(&u32::try_from(length).expect("bounded by the longest message").to_be_bytes());
    out.extend_from_slice(start);
}

/// Appends a `Describe` of a statement.
pub fn write_describe_statement(out: &mut Vec<u8>, name: &[u8]) {
    write_object(out, tag::DESCRIBE, name);
}

/// Appends a `Close` of a statement.
pub fn write_close_statement(out: &mut Vec<u8>, name: &[u8]) {
    write_object(out, tag::CLOSE, name);
}

fn write_object(out: &mut Vec<u8>, tag: u8, name: &[u8]) {
    write(out, tag, |out| {
        out.push(b'S');
        write_cstr(out, name);
    });
}

/// Appends a good bye.
pub fn write_terminate(out: &mut Vec<u8>) {
    write(out, tag::TERMINATE, |_| {});
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_renamed_and_nothing_else_changes() {
        let parse = Parse { name: b"s1", query: b"SELECT $1", types: &[0, 1, 0, 0, 0, 23] };
        let mut out = Vec::new();
        parse.write_as(&mut out, b"w77");
        assert_eq!(Parse::read(&out[5..]).unwrap(), Parse { name: b"w77", ..parse });

        let body = b"p\0s1\0\0\0\0\x01\0\0\0\x01x\0\0";
        let names = BindNames::read(body).unwrap();
        assert_eq!((names.portal, names.statement, names.len), (&b"p"[..], &b"s1"[..], 5));
        let mut out = Vec::new();
        names.write_as(&mut out, body.len(), b"w77");
        out.extend_from_slice(&body[names.len..]);
        let length = u32::from_be_bytes([out[1], out[2], out[3], out[4]]);
        assert_eq!(usize::try_from(length).unwrap() + 1, out.len());
        assert_eq!(&out[5..], b"p\0w77\0\0\0\0\x01\0\0\0\x01x\0\0");
        assert_eq!(BindNames::read(b"p\0s"), None, "more bytes are needed");
    }

    #[test]
    fn a_query_is_written_in_parts() {
        let (mut whole, mut parts) = (Vec::new(), Vec::new());
        write_query(&mut whole, "select 1");
        write_query_start(&mut parts, b"select", 3);
        parts.extend_from_slice(b" 1\0");
        assert_eq!(whole, parts);
    }

    #[test]
    fn malformed_bodies_are_refused() {
        assert!(Parse::read(b"s\0SELECT 1\0\0\x02\0\0\0\x17").is_err(), "two types, one given");
        assert!(object(b"Xs\0").is_err());
        assert!(object(b"Ss\0more").is_err());
        assert!(query(b"SELECT 1").is_err());
        assert!(execute(b"p\0\0\0").is_err());
        assert!(sasl_initial(b"SCRAM-SHA-256\0\xff\xff\xff\xff").is_err());
        assert!(sasl_initial(b"SCRAM-SHA-256\0\0\0\0\x09short").is_err());
    }
}
