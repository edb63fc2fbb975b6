//! Bytes that wait to be written. Empty most of the time, and then without memory.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

/// So much may wait before the other side is not read any more, in bytes.
pub(crate) const HIGH_WATER: usize = 64 * 1024;

/// Surely within one record of TLS, in bytes.
const ONE_RECORD: usize = 8 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
    /// The stream may still keep some of what it took.
    unflushed: bool,
}

impl Outbox {
    /// Where to append.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Whether the other end can have understood nothing of it, although writing it was tried and failed: the stream took
    /// none of it, and all of it would be one record of TLS, of which a part is worth nothing.
    pub(crate) fn is_unheard(&self) -> bool {
        self.written == 0 && !self.unflushed && self.bytes.len() <= ONE_RECORD
    }

    /// Whether everything is out.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0 && !self.unflushed
    }

    /// Writes as much as the stream takes; ready when everything is out. Memory is given back then.
    pub(crate) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            match ready!(Pin::new(&mut *stream).poll_write(context, &self.bytes[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.written += n,
            }
            self.unflushed = true;
        }
        self.bytes = Vec::new();
        self.written = 0;
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes so many bytes of each write; fails when the list is at its end.
    struct Narrow(Vec<usize>, io::ErrorKind);

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            let fails = self.1;
            Poll::Ready(self.0.pop().ok_or_else(|| fails.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(self.1.into()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn only_what_nobody_can_have_understood_is_unheard() {
        for (length, takes, unheard) in [
            (100, vec![], true),
            (100, vec![40], false),
            // All of it was taken, and the flush fails.
            (100, vec![100], false),
            (ONE_RECORD + 1, vec![], false),
        ] {
            let mut outbox = Outbox::default();
            outbox.push(&vec![b'x'; length]);
            let mut stream = Narrow(takes.clone(), io::ErrorKind::BrokenPipe);
            let outcome = outbox.poll_flush(&mut stream, &mut Context::from_waker(Waker::noop()));
            assert!(matches!(outcome, Poll::Ready(Err(_))));
            assert_eq!(outbox.is_unheard(), unheard, "{length} bytes, {takes:?} taken");
        }
    }
}
