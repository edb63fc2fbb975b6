//! The start of a conversation: which encryption, and what the client wants. Nothing of the client is known yet, so
//! sizes are bounded and the time is bounded by who calls.

use std::sync::Arc;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use windlass_core::Error;
use windlass_wire_pg::{
    SqlState,
    scram::Binding,
    startup::{self, CancelKey, First, Startup},
};

use super::{binding, refusal::Refusal, stream::Stream};
use crate::{config::Plaintext, tls::ServerTls};

/// First byte of a TLS record that begins a handshake: a client that does not ask first.
const TLS_HANDSHAKE: u8 = 0x16;
/// Questions about encryption that are answered; libpq asks at most two.
const MOST_QUESTIONS: usize = 3;

/// What a client wants.
#[derive(Debug)]
pub(super) enum Wish {
    /// A session.
    Session { stream: Stream, startup: Startup, sni: Option<String>, binding: Binding },
    /// That another session's statement is cancelled.
    Cancel(CancelKey),
    /// Nothing: it went away, as load balancers' checks do.
    Nothing,
}

/// Why there is no wish. The stream is there if the client can still be told.
#[derive(Debug)]
pub(super) struct Unclear {
    pub(super) refusal: Refusal,
    pub(super) stream: Option<Stream>,
}

impl From<Error> for Unclear {
    fn from(error: Error) -> Self {
        Self { refusal: error.into(), stream: None }
    }
}

/// Finds out what a client wants.
pub(super) async fn wish(tcp: TcpStream, tls: &ServerTls, plaintext: Plaintext) -> Result<Wish, Unclear> {
    let mut first = [0];
    if tcp.peek(&mut first).await.map_err(gone)? == 0 {
        return Ok(Wish::Nothing);
    }
    if first == [TLS_HANDSHAKE] {
        return secured(tcp, tls).await;
    }
    let mut tcp = tcp;
    for _ in 0..MOST_QUESTIONS {
        let packet = match read_packet(&mut tcp).await {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(Wish::Nothing),
            Err(refusal) => return Err(Unclear { refusal, stream: Some(Stream::Plain(tcp)) }),
        };
        match startup::parse(&packet) {
            Ok(First::Ssl) => {
                tcp.write_all(b"S").await.map_err(gone)?;
                return secured(tcp, tls).await;
            }
            Ok(First::GssEnc) => tcp.write_all(b"N").await.map_err(gone)?,
            Ok(First::Cancel(key)) => return Ok(Wish::Cancel(key)),
            Ok(First::Start(startup)) => {
                let stream = Stream::Plain(tcp);
                return match plaintext {
                    Plaintext::Allow => Ok(Wish::Session { stream, startup, sni: None, binding: Binding::None }),
                    Plaintext::Refuse => {
                        let message = "connections without TLS are refused";
                        let hint = "Connect with sslmode=require or better.";
                        let refusal = Refusal::new(SqlState::INVALID_AUTHORIZATION, message, hint);
                        Err(Unclear { refusal, stream: Some(stream) })
                    }
                };
            }
            Err(error) => {
                return Err(Unclear { refusal: Refusal::protocol(&error), stream: Some(Stream::Plain(tcp)) });
            }
        }
    }
    let refusal = Refusal::new(SqlState::PROTOCOL_VIOLATION, "too many questions about encryption", "");
    Err(Unclear { refusal, stream: Some(Stream::Plain(tcp)) })
}

/// The same within TLS, where only a session or a cancellation can be wanted.
async fn secured(tcp: TcpStream, server: &ServerTls) -> Result<Wish, Unclear> {
    let shown = server.current();
    let mut tls = Box::new(server.acceptor().accept(tcp).await.map_err(gone)?);
    // Which one was shown is certain only if it did not change meanwhile.
    let binding = match shown.chain().first() {
        Some(certificate) if Arc::ptr_eq(&shown, &server.current()) => binding::of_certificate(certificate),
        Some(_) | None => Binding::None,
    };
    let sni = tls.get_ref().1.server_name().map(str::to_owned);
    let packet = match read_packet(&mut tls).await {
        Ok(Some(packet)) => packet,
        Ok(None) => return Ok(Wish::Nothing),
        Err(refusal) => return Err(Unclear { refusal, stream: Some(Stream::Tls(tls)) }),
    };
    match startup::parse(&packet) {
        Ok(First::Start(startup)) => Ok(Wish::Session { stream: Stream::Tls(tls), startup, sni, binding }),
        Ok(First::Cancel(key)) => Ok(Wish::Cancel(key)),
        Ok(First::Ssl | First::GssEnc) => {
            let refusal = Refusal::new(SqlState::PROTOCOL_VIOLATION, "the connection is encrypted already", "");
            Err(Unclear { refusal, stream: Some(Stream::Tls(tls)) })
        }
        Err(error) => Err(Unclear { refusal: Refusal::protocol(&error), stream: Some(Stream::Tls(tls)) }),
    }
}

/// A first packet; `None` if the client went away before it. Not a byte more is read, for what follows may be TLS.
async fn read_packet<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<Vec<u8>>, Refusal> {
    let mut length = [0; 4];
    if stream.read_exact(&mut length).await.is_err() {
        return Ok(None);
    }
    let Some(total) = startup::packet_len(&length).map_err(|error| Refusal::protocol(&error))? else { return Ok(None) };
    // What is announced is not believed before it came.
    let mut packet = Vec::with_capacity(512);
    packet.extend_from_slice(&length);
    let rest = total - length.len();
    let read = stream.take(rest as u64).read_to_end(&mut packet).await;
    Ok(read.is_ok_and(|read| read == rest).then_some(packet))
}

fn gone(error: std::io::Error) -> Error {
    Error::unavailable(format!("the client broke off its start: {error}")).with_source(error)
}
