//! From the server to the client.
//!
//! Everything is passed on as it is but for answers to our own messages, which stay here, and one notice: that a commit
//! stopped waiting for its replicas. What follows it looks like success and is none, so the client is told that the
//! outcome is unknown.

use windlass_wire_pg::{
    Header, Piece, Report,
    backend::{self, TransactionStatus, tag},
};

use super::{Session, Stop, exchange::Whose};
use crate::protocols::postgres::{
    refusal::Refusal,
    server::LONGEST_ANSWER,
    sql::{Effect, Pin},
};

const HEADER: usize = 5;
/// Longer than any tag that matters.
const LONGEST_TAG: usize = 64;

/// What the server's bytes came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It goes on.
    More,
    /// The connection is at rest.
    Rest,
}

impl Session {
    /// Takes what the server sent.
    pub(super) fn take_server(&mut self, chunk: &[u8]) -> Result<Heard, Stop> {
        let Some(server) = &mut self.server else { return Ok(Heard::More) };
        if server.inbox.is_empty() {
            let (taken, heard) = self.take_answers(chunk)?;
            if let Some(server) = &mut self.server {
                server.inbox.extend_from_slice(&chunk[taken..]);
            }
            return Ok(heard);
        }
        server.inbox.extend_from_slice(chunk);
        let mut inbox = std::mem::take(&mut server.inbox);
        let (taken, heard) = self.take_answers(&inbox)?;
        if let Some(server) = &mut self.server
            && taken < inbox.len()
        {
            inbox.drain(..taken);
            server.inbox = inbox;
        }
        Ok(heard)
    }

    fn take_answers(&mut self, bytes: &[u8]) -> Result<(usize, Heard), Stop> {
        let mut at = 0;
        let mut heard = Heard::More;
        loop {
            let watches = self.exchange.watches_tags();
            let want = |header: Header| match header.tag {
                tag::READY | tag::PARSE_COMPLETE | tag::CLOSE_COMPLETE | tag::COPY_IN | tag::COPY_BOTH => LONGEST_TAG,
                tag::ERROR | tag::NOTICE | tag::PARAMETER_STATUS => LONGEST_ANSWER,
                tag::COMMAND_COMPLETE if watches => LONGEST_TAG,
                _ => 0,
            };
            let Some(server) = &mut self.server else { return Ok((at, heard)) };
            match server.splitter.next(&bytes[at..], want).map_err(Stop::confused)? {
                Piece::More => return Ok((at, heard)),
                Piece::Run(run) => {
                    at += run.len();
                    self.outbox.push(run);
                }
                Piece::Message(header, message) => {
                    at += message.len();
                    if self.take_answer(header, message)? == Heard::Rest {
                        heard = Heard::Rest;
                    }
                }
            }
        }
    }

    fn take_answer(&mut self, header: Header, message: &[u8]) -> Result<Heard, Stop> {
        let body = &message[HEADER..];
        match header.tag {
            tag::READY => {
                let status = backend::ready(body).map_err(Stop::confused)?;
                self.outbox.push(message);
                self.step_ended(status)?;
                if self.is_at_rest() {
                    return Ok(Heard::Rest);
                }
            }
            tag::PARSE_COMPLETE => {
                if self.exchange.parsed().map_err(Stop::confused)? == Whose::Client {
                    self.outbox.push(message);
                }
            }
            tag::CLOSE_COMPLETE => {
                if self.exchange.closed().map_err(Stop::confused)? == Whose::Client {
                    self.outbox.push(message);
                }
            }
            tag::COPY_IN | tag::COPY_BOTH => {
                self.exchange.copy_began();
                self.outbox.push(message);
            }
            tag::COMMAND_COMPLETE => {
                self.exchange.completed(body.strip_suffix(&[0]).unwrap_or(body));
                self.outbox.push(message);
            }
            tag::NOTICE => {
                // One that is cut is not the one that matters.
                if Report::parse(body).is_ok_and(|report| report.ended_commit_wait()) {
                    return Err(Stop::UnknownOutcome);
                }
                self.outbox.push(message);
            }
            tag::ERROR => self.take_error(message, body),
            tag::PARAMETER_STATUS => {
                if let Some(server) = &mut self.server {
                    server.note_parameter(body).map_err(Stop::confused)?;
                }
                self.outbox.push(message);
            }
            _ => self.outbox.push(message),
        }
        Ok(Heard::More)
    }

    fn take_error(&mut self, message: &[u8], body: &[u8]) {
        let fatal = Report::parse(body).is_ok_and(|report| report.is_fatal());
        if fatal {
            // The connection ends; whether the client hears of it depends on what it had under way.
            self.last_words = Some(Refusal::of_server(body));
            return;
        }
        let void = self.exchange.failed();
        self.undo(void);
        self.outbox.push(message);
    }

    fn step_ended(&mut self, status: TransactionStatus) -> Result<(), Stop> {
        let mut ended = self.exchange.ready(status).map_err(Stop::confused)?;
        let void = std::mem::take(&mut ended.void);
        self.undo(void);
        if !ended.failed.is_empty() {
            // What was noted when they were sent did not happen: the connection cannot be believed any more.
            if ended.failed.iter().any(Effect::forgets) {
                self.spoil();
            }
            for effect in &ended.failed {
                // A lock of the session outlives the transaction that failed; settings do not.
                if let Effect::Pin(pin) = effect
                    && *pin != Pin::Settings
                {
                    self.pin(*pin);
                }
            }
        }
        if !ended.effects.is_empty() {
            self.apply(&ended.effects);
        }
        Ok(())
    }

    /// Effects that have become true.
    fn apply(&mut self, effects: &[Effect]) {
        let Some(server) = &mut self.server else { return };
        let mut now = (*server.settings).clone();
        let mut client = (*self.settings).clone();
        let role = "role";
        for effect in effects {
            match effect {
                Effect::Set(name, value) => {
                    now.set(name, value.clone());
                    client.set(name, value.clone());
                }
                Effect::Reset(name) => {
                    now.reset(name);
                    client.reset(name);
                    if let Some(value) = self.defaults.get(name) {
                        client.set(name, value.clone());
                    }
                }
                Effect::ResetAll => {
                    // It leaves the role as it is.
                    let kept = now.get(role).cloned();
                    now = Default::default();
                    client = (*self.defaults).clone();
                    if let Some(kept) = kept {
                        now.set(role, kept.clone());
                        client.set(role, kept);
                    }
                }
                Effect::DiscardAll => {
                    now = Default::default();
                    client = (*self.defaults).clone();
                    self.pinned = None;
                }
                // It was noted when it was sent, but a DISCARD ALL before it was answered since then.
                Effect::Pin(pin) => {
                    self.pinned.get_or_insert(*pin);
                }
                Effect::Local | Effect::Deallocate(_) | Effect::DeallocateAll => {}
            }
        }
        let same = now == client;
        server.settings = std::sync::Arc::new(now);
        self.settings = if same { server.settings.clone() } else { std::sync::Arc::new(client) };
    }
}
