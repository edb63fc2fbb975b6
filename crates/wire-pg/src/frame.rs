//! Framing: where messages begin and end in a stream.
//!
//! A message is a tag, a length that counts itself but not the tag, and a body. `Splitter` walks chunks of a stream as
//! they come from a socket. Its user names for each header how many bytes of the message it has to see; everything else
//! comes out as runs that may be passed on as they are, with neighbours merged, so a result of a million rows costs one
//! look at each header and no copy.
//! Invariants: the bytes of runs and messages, in order, are the bytes that came in; nothing is kept between calls but
//! a count; a message above the limit is refused by its header, before its body is awaited.

use windlass_core::{Error, Result};

/// Bytes of tag and length.
pub const HEADER_BYTES: usize = 5;
/// The longest message that PostgreSQL itself takes, in bytes without the tag.
pub const MAX_MESSAGE: usize = 0x3fff_ffff;

/// The start of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The kind of message; its meaning depends on who sent it.
    pub tag: u8,
    /// Bytes of the whole message with tag and length, at least 5.
    pub len: usize,
}

impl Header {
    /// Reads a header; `None` if the bytes do not reach.
    ///
    /// # Errors
    /// If the length is impossible or above `limit` bytes.
    pub fn read(bytes: &[u8], limit: usize) -> Result<Option<Self>> {
        let &[tag, a, b, c, d, ..] = bytes else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]);
        let body = usize::try_from(length).unwrap_or(usize::MAX);
        if body < 4 {
            return Err(Error::invalid("message", format!("its length is {length}; it has to be at least 4")));
        }
        if body > limit {
            return Err(Error::invalid(
                "message",
                format!("it has {length} bytes; at most {limit} are allowed here; send less at a time"),
            ));
        }
        Ok(Some(Self { tag, len: body + 1 }))
    }
}

/// What comes next in a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes to be passed on: whole messages nobody asked for, and rests of messages.
    Run(&'a [u8]),
    /// A message that was asked for: its header and as many of its bytes, header included, as were asked for.
    Message(Header, &'a [u8]),
    /// More bytes are needed; the caller keeps what it has and comes back with more behind it.
    More,
}

/// Walks a stream of messages. See the module.
#[derive(Debug, Clone)]
pub struct Splitter {
    /// Bytes of the current message that are still to be passed on.
    rest: usize,
    limit: usize,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new(MAX_MESSAGE)
    }
}

impl Splitter {
    /// At the start of a message; `limit` is the longest message in bytes without its tag.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { rest: 0, limit }
    }

    /// Whether the stream stands between two messages.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.rest == 0
    }

    /// The next piece of `input`; the caller then goes on behind the bytes of the piece. `want` says how many bytes of
    /// the message it has to see at once, 0 for none; the caller bounds that number, for it has to keep so much.
    ///
    /// # Errors
    /// If a header is impossible or above the limit.
    pub fn next<'a>(&mut self, input: &'a [u8], want: impl Fn(Header) -> usize) -> Result<Piece<'a>> {
        let mut passed = 0;
        loop {
            let here = &input[passed..];
            if self.rest > 0 {
                let n = self.rest.min(here.len());
                self.rest -= n;
                passed += n;
                if self.rest > 0 {
                    break;
                }
                continue;
            }
            let Some(header) = Header::read(here, self.limit)? else { break };
            let wanted = want(header).min(header.len);
            if wanted == 0 {
                self.rest = header.len;
                continue;
            }
            if passed > 0 {
                break;
            }
            let Some(bytes) = here.get(..wanted.max(HEADER_BYTES)) else { return Ok(Piece::More) };
            self.rest = header.len - bytes.len();
            return Ok(Piece::Message(header, bytes));
        }
        Ok(if passed == 0 { Piece::More } else { Piece::Run(&input[..passed]) })
    }
}

/// Appends a message: tag, length and what `body` writes.
pub fn write(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    write_sized(out, body);
}

/// Appends a length and what `body` writes, as in packets without a tag.
pub(crate) fn write_sized(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = u32::try_from(out.len() - start).expect("messages made here are far below 4 GiB");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a string with its zero byte. Zero bytes inside are left out, for they would end it.
pub(crate) fn write_cstr(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().filter(|byte| **byte != 0));
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let mut out = Vec::new();
        for (tag, body) in [(b'D', "one"), (b'D', "two"), (b'C', "SELECT 2"), (b'Z', "I")] {
            write(&mut out, tag, |out| out.extend_from_slice(body.as_bytes()));
        }
        out
    }

    #[test]
    fn neighbours_that_nobody_asks_for_are_one_run() {
        let bytes = stream();
        let mut splitter = Splitter::default();
        let want = |header: Header| if header.tag == b'Z' { header.len } else { 0 };
        let Ok(Piece::Run(run)) = splitter.next(&bytes, want) else { panic!("a run comes first") };
        assert_eq!(run.len(), bytes.len() - 6);
        let rest = &bytes[run.len()..];
        assert_eq!(splitter.next(rest, want), Ok(Piece::Message(Header { tag: b'Z', len: 6 }, rest)));
        assert_eq!(splitter.next(&[], want), Ok(Piece::More));
        assert!(splitter.at_boundary());
    }

    #[test]
    fn a_message_that_is_asked_for_waits_for_its_bytes_and_its_rest_is_passed_on() {
        let mut bytes = Vec::new();
        write(&mut bytes, b'B', |out| out.extend_from_slice(b"portal\0stmt\0long rest"));
        let mut splitter = Splitter::default();
        let want = |_: Header| 17;
        for have in 0..17 {
            assert_eq!(splitter.next(&bytes[..have], want), Ok(Piece::More), "{have} bytes");
        }
        assert_eq!(splitter.next(&bytes, want), Ok(Piece::Message(Header { tag: b'B', len: 26 }, &bytes[..17])));
        assert!(!splitter.at_boundary());
        assert_eq!(splitter.next(&bytes[17..], want), Ok(Piece::Run(&bytes[17..])));
        assert!(splitter.at_boundary());
    }

    #[test]
    fn an_impossible_or_oversized_length_is_refused_by_its_header() {
        assert!(Splitter::default().next(&[b'Q', 0, 0, 0, 3], |_| 0).is_err());
        assert!(Splitter::default().next(&[b'Q', 255, 255, 255, 255], |_| 0).is_err());
        let error = Splitter::new(1000).next(&[b'Q', 0, 0, 4, 0], |_| 0).unwrap_err();
        assert!(error.message.contains("1024") && error.message.contains("1000"), "{error}");
    }
}
