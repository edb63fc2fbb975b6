//! Moving bytes between the two sockets.
//!
//! One call moves what can be moved now. Neither side is read while the other does not take what it was sent, so what
//! is kept stays bounded. A chunk is read onto the stack, looked at, and written in one go.

use std::{
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead as _, ReadBuf};
use windlass_core::Error;

use super::{Session, Stop, Turn, downstream::Heard, io_error};
use crate::protocols::postgres::{server::HIGH_WATER, sessions::Tap};

/// Bytes read at once.
const CHUNK: usize = 32 * 1024;

impl Session {
    /// Moves bytes until something else has to be done.
    pub(super) fn poll_drive(&mut self, context: &mut Context<'_>) -> Poll<Result<Turn, Stop>> {
        self.seat.handle.register(context.waker());
        if let Some(turn) = self.heed_taps()? {
            return Poll::Ready(Ok(turn));
        }
        if !self.active
            && !self.inbox.is_empty()
            && let Some(turn) = self.take_client(&[])?
        {
            return Poll::Ready(Ok(turn));
        }
        let mut space = [MaybeUninit::uninit(); CHUNK];
        loop {
            if let Some(lost) = self.poll_flush(context)? {
                return Poll::Ready(Ok(lost));
            }
            // The end of a message that the server had answered already may have been the last thing to come.
            if self.active && self.is_at_rest() && self.server().is_some_and(|server| server.outbox.is_empty()) {
                return Poll::Ready(Ok(Turn::AtRest));
            }
            let mut moved = false;
            if self.server.is_some() && self.outbox.len() < HIGH_WATER {
                let mut buffer = ReadBuf::uninit(&mut space);
                match self.poll_server(context, &mut buffer) {
                    Poll::Pending => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Ok(Turn::Lost(error))),
                    Poll::Ready(Ok(())) => {
                        moved = true;
                        self.bytes.1 += buffer.filled().len() as u64;
                        if self.take_server(buffer.filled())? == Heard::Rest && self.active {
                            return Poll::Ready(Ok(Turn::AtRest));
                        }
                    }
                }
            }
            let room = self.server.as_ref().is_none_or(|server| server.outbox.len() < HIGH_WATER);
            if room && self.outbox.len() < HIGH_WATER {
                let mut buffer = ReadBuf::uninit(&mut space);
                match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                    Poll::Pending => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Stop::Left)),
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Err(Stop::Left)),
                    Poll::Ready(Ok(())) => {
                        moved = true;
                        self.bytes.0 += buffer.filled().len() as u64;
                        // More than what could be sent again is under way.
                        self.unsent = Vec::new();
                        if let Some(turn) = self.take_client(buffer.filled())? {
                            return Poll::Ready(Ok(turn));
                        }
                    }
                }
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Result<Option<Turn>, Stop> {
        if !self.outbox.is_empty()
            && let Poll::Ready(Err(_)) = self.outbox.poll_flush(&mut self.stream, context)
        {
            return Err(Stop::Left);
        }
        if let Some(server) = &mut self.server
            && !server.outbox.is_empty()
        {
            match server.poll_flush(context) {
                Poll::Ready(Err(error)) => {
                    if !server.outbox.is_unheard() {
                        self.unsent = Vec::new();
                    }
                    return Ok(Some(Turn::Lost(io_error("writing to the database server failed", error))));
                }
                Poll::Ready(Ok(())) => self.unsent = Vec::new(),
                Poll::Pending if server.outbox.is_unheard() => {}
                Poll::Pending => self.unsent = Vec::new(),
            }
        }
        Ok(None)
    }

    fn poll_server(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<(), Error>> {
        let Some(server) = &mut self.server else { return Poll::Pending };
        server.poll_read(context, buffer).map(|read| match read {
            Err(error) => Err(io_error("the connection to the database server broke", error)),
            Ok(()) if buffer.filled().is_empty() => {
                Err(Error::unavailable("the database server closed the connection"))
            }
            Ok(()) => Ok(()),
        })
    }

    fn heed_taps(&mut self) -> Result<Option<Turn>, Stop> {
        let Some(taps) = self.seat.handle.take() else { return Ok(None) };
        if taps.has(Tap::Cancel) {
            self.cancel();
        }
        if taps.has(Tap::End) {
            self.ending = true;
            if !self.active {
                return Err(Self::ended_by_proxy());
            }
        }
        if taps.has(Tap::Route) && self.server.is_some() && !self.server_is_current() {
            return Ok(Some(Turn::Moved));
        }
        Ok(None)
    }
}
