//! A cursor over the body of one message.

use windlass_core::{Error, Result};

/// Reads from the front; every method fails instead of reading past the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read<'a> {
    bytes: &'a [u8],
    /// For errors.
    what: &'static str,
}

impl<'a> Read<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { bytes, what }
    }

    pub(crate) fn malformed(&self, why: &str) -> Error {
        Error::invalid(self.what, format!("malformed message: {why}"))
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        match self.bytes.split_at_checked(n) {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(taken)
            }
            None => Err(self.malformed("it ends too early")),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// Up to the next zero byte, which is taken too.
    pub(crate) fn cstr(&mut self) -> Result<&'a [u8]> {
        let Some(end) = self.bytes.iter().position(|byte| *byte == 0) else {
            return Err(self.malformed("a string has no end"));
        };
        let (text, rest) = self.bytes.split_at(end);
        self.bytes = &rest[1..];
        Ok(text)
    }

    /// As `cstr`, and it has to be UTF-8.
    pub(crate) fn text(&mut self) -> Result<&'a str> {
        let bytes = self.cstr()?;
        std::str::from_utf8(bytes).map_err(|_| self.malformed("a string is not UTF-8"))
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    pub(crate) fn end(&self) -> Result<()> {
        if self.bytes.is_empty() { Ok(()) } else { Err(self.malformed("it has bytes after its end")) }
    }
}
