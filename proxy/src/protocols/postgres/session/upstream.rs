//! From the client to the server.
//!
//! Messages are passed on as they are but for names of prepared statements, which become ours, and statements that the
//! connection at hand has not prepared yet, which are prepared first.

use windlass_wire_pg::{
    Header, Piece, SqlState,
    frontend::{self, BindNames, Object, Parse, tag},
};

use super::{
    Session, Stop, Turn, Unnamed,
    exchange::{Named, Step, Whose},
    statements::{NOWHERE, missing},
};
use crate::protocols::postgres::{
    refusal::Refusal,
    sql::{Effect, Effects, LONGEST_READ, Pin},
};

/// The longest statement that is kept for a Bind in a later transaction, in bytes.
const LONGEST_STATEMENT: usize = 1024 * 1024;
/// The longest unnamed statement that is kept after it was bound, in bytes: most are bound once, and clients are many.
const LONGEST_UNNAMED: usize = 16 * 1024;
/// The longest names in Bind, Describe and Close, in bytes.
const LONGEST_NAMES: usize = 4096;
/// Most statements that a client may have prepared.
const MOST_STATEMENTS: usize = 10_000;
const HEADER: usize = 5;

/// How much of a message has to be seen at once.
fn wanted(header: Header) -> usize {
    match header.tag {
        tag::QUERY => HEADER + LONGEST_READ,
        tag::PARSE if header.len <= LONGEST_STATEMENT => header.len,
        tag::PARSE => HEADER + LONGEST_READ,
        tag::BIND | tag::DESCRIBE | tag::CLOSE => LONGEST_NAMES,
        tag::COPY_DATA | tag::FLUSH => 0,
        _ => HEADER,
    }
}

impl Session {
    /// Takes what the client sent as far as it can, and keeps the rest. Gives a turn if somebody else has to act first.
    pub(super) fn take_client(&mut self, chunk: &[u8]) -> Result<Option<Turn>, Stop> {
        if self.inbox.is_empty() {
            let (taken, turn) = self.take_messages(chunk)?;
            self.inbox.extend_from_slice(&chunk[taken..]);
            return Ok(turn);
        }
        self.inbox.extend_from_slice(chunk);
        let mut inbox = std::mem::take(&mut self.inbox);
        let (taken, turn) = self.take_messages(&inbox)?;
        if taken < inbox.len() {
            inbox.drain(..taken);
            self.inbox = inbox;
        }
        Ok(turn)
    }

    /// Gives how many bytes were taken.
    fn take_messages(&mut self, bytes: &[u8]) -> Result<(usize, Option<Turn>), Stop> {
        let mut at = 0;
        loop {
            let active = self.active;
            let mut splitter = self.splitter.clone();
            // Without a server every message has to be looked at.
            let want = |header| if active { wanted(header) } else { wanted(header).max(HEADER) };
            let piece = splitter.next(&bytes[at..], want).map_err(|error| Refusal::protocol(&error))?;
            match piece {
                Piece::More => return Ok((at, None)),
                Piece::Run(run) => {
                    at += run.len();
                    if active {
                        self.send(run);
                    }
                }
                Piece::Message(header, start) => {
                    if header.tag == tag::TERMINATE {
                        return Err(Stop::Left);
                    }
                    if !active && self.needs_server(header) {
                        return Ok((at, Some(Turn::NeedServer)));
                    }
                    at += start.len();
                    if active {
                        self.take_message(header, start)?;
                    }
                }
            }
            self.splitter = splitter;
        }
    }

    /// Answers, or leaves out, what can be without a server.
    fn needs_server(&mut self, header: Header) -> bool {
        match header.tag {
            // Of a COPY that failed.
            tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL | tag::FLUSH => false,
            tag::SYNC => {
                windlass_wire_pg::backend::write_ready(self.outbox.buffer(), self.exchange.status());
                false
            }
            _ => true,
        }
    }

    fn take_message(&mut self, header: Header, start: &[u8]) -> Result<(), Stop> {
        let rest = header.len - start.len();
        let body = &start[HEADER..];
        match header.tag {
            tag::QUERY => self.take_query(start, rest),
            tag::PARSE => self.take_parse(start, rest),
            tag::BIND => self.take_bind(header, start),
            tag::DESCRIBE => {
                let (object, name) = frontend::object(body).map_err(|error| Refusal::protocol(&error))?;
                let name = match object {
                    Object::Portal => None,
                    Object::Statement => self.server_name(name),
                };
                match name {
                    Some(name) => frontend::write_describe_statement(self.server_buffer(), &name),
                    None => self.send(start),
                }
                self.exchange.sent_step(&[], false);
                Ok(())
            }
            tag::CLOSE => self.take_close(start),
            tag::EXECUTE => {
                self.send(start);
                self.exchange.sent_step(&[], false);
                Ok(())
            }
            tag::SYNC => {
                self.send(start);
                self.exchange.sent_sync();
                Ok(())
            }
            tag::COPY_DONE | tag::COPY_FAIL => {
                self.send(start);
                self.exchange.sent_copy_end();
                Ok(())
            }
            tag::FUNCTION_CALL => {
                self.send(start);
                self.exchange.sent_simple(Vec::new(), false);
                Ok(())
            }
            other => {
                let what = format!("a message of kind {:?} is not expected from a client", char::from(other));
                Err(Refusal::new(SqlState::PROTOCOL_VIOLATION, &what, "").into())
            }
        }
    }

    fn take_query(&mut self, start: &[u8], rest: usize) -> Result<(), Stop> {
        let text = start[HEADER..].strip_suffix(&[0]).unwrap_or(&start[HEADER..]);
        let mut effects = Effects::of(text, rest);
        // A simple query ends the unnamed statement.
        self.unnamed = None;
        self.unnamed_is_here = false;
        self.note_pins(&effects);
        match self.instead(text, &mut effects, rest, Step::Simple) {
            Some(mut sql) => {
                if rest == 0 {
                    sql.push(0);
                }
                frontend::write_query_start(self.server_buffer(), &sql, rest);
            }
            None => self.send(start),
        }
        self.forget(&effects.list);
        if rest == 0 {
            self.exchange.sent_simple(effects.list, effects.commits);
        } else {
            self.exchange.sent_unread(effects.list, effects.commits);
        }
        Ok(())
    }

    fn take_parse(&mut self, start: &[u8], rest: usize) -> Result<(), Stop> {
        if rest > 0 {
            return self.take_long_parse(start, rest);
        }
        let parse = Parse::read(&start[HEADER..]).map_err(|error| Refusal::protocol(&error))?;
        let mut effects = Effects::of(parse.query, 0);
        let instead = self.instead(parse.query, &mut effects, 0, Step::Sync);
        let query = instead.as_deref().unwrap_or(parse.query);
        let parse = Parse { query, ..parse };
        self.note_pins(&effects);
        if parse.name.is_empty() {
            let write = |out: &mut Vec<u8>| match &instead {
                // The same bytes, at once.
                None => out.extend_from_slice(start),
                Some(_) => parse.write_as(out, b""),
            };
            write(self.server_buffer());
            self.exchange.sent_parse(Whose::Client, None);
            self.unnamed_is_here = true;
            let unnamed = self.unnamed.get_or_insert_default();
            unnamed.message.clear();
            unnamed.message.shrink_to(LONGEST_UNNAMED);
            write(&mut unnamed.message);
            unnamed.effects = effects;
            return Ok(());
        }
        let statement = self.shared.postgres.statements().of(&parse, effects, self.reading());
        let name = statement.name();
        if self.statements.contains_key(parse.name) {
            // The server says that the name is taken, in its place among the answers.
            self.ensure_prepared(&statement);
            parse.write_as(self.server_buffer(), name.as_bytes());
            self.exchange.sent_parse(Whose::Client, None);
            return Ok(());
        }
        if self.statements.len() >= MOST_STATEMENTS {
            let what = format!("a client may have {MOST_STATEMENTS} prepared statements through the proxy");
            return Err(Refusal::new(SqlState::LIMIT_EXCEEDED, &what, "Close those that are not needed.").into());
        }
        if self.server().is_some_and(|server| server.prepared.has(statement.number)) {
            self.close_ours(statement.number);
        } else {
            self.add_prepared(statement.number);
        }
        parse.write_as(self.server_buffer(), name.as_bytes());
        let known: Box<[u8]> = parse.name.into();
        self.statements.insert(known.clone(), statement.clone());
        self.exchange.sent_parse(Whose::Client, Some(Named { statement, name: Some(known) }));
        Ok(())
    }

    /// One that is too long to be kept goes through if nobody can ask for it in another transaction.
    fn take_long_parse(&mut self, start: &[u8], rest: usize) -> Result<(), Stop> {
        if start.get(HEADER) != Some(&0) {
            let what = format!(
                "a prepared statement of {} bytes is too long for the proxy; at most {LONGEST_STATEMENT} are kept",
                start.len() + rest - HEADER
            );
            return Err(Refusal::new(SqlState::LIMIT_EXCEEDED, &what, "Use an unnamed statement.").into());
        }
        let effects = Effects::of(&start[HEADER + 1..], rest);
        self.note_pins(&effects);
        self.send(start);
        self.exchange.sent_parse(Whose::Client, None);
        self.unnamed = Some(Box::new(Unnamed { message: Vec::new(), effects }));
        self.unnamed_is_here = true;
        Ok(())
    }

    fn take_bind(&mut self, header: Header, start: &[u8]) -> Result<(), Stop> {
        let body = &start[HEADER..];
        let Some(names) = BindNames::read(body) else {
            let what = format!("the names in Bind are malformed or longer than {LONGEST_NAMES} bytes");
            return Err(Refusal::new(SqlState::PROTOCOL_VIOLATION, &what, "").into());
        };
        if names.statement.is_empty() {
            let (effects, commits) = match &self.unnamed {
                Some(unnamed) => (unnamed.effects.list.clone(), unnamed.effects.commits),
                None => (Vec::new(), false),
            };
            match self.server_name(b"") {
                Some(name) => self.bind_as(header, &names, &name, body),
                None => self.send(start),
            }
            if let Some(unnamed) = &mut self.unnamed
                && unnamed.message.len() > LONGEST_UNNAMED
            {
                unnamed.message = Vec::new();
            }
            self.forget_when_executed(&effects);
            self.exchange.sent_step(&effects, commits);
            return Ok(());
        }
        match self.prepared(names.statement) {
            Some(statement) => {
                self.forget_when_executed(&statement.effects.list);
                self.bind_as(header, &names, statement.name().as_bytes(), body);
                self.exchange.sent_step(&statement.effects.list, statement.effects.commits);
            }
            None => {
                self.bind_as(header, &names, missing(names.statement), body);
                self.exchange.sent_step(&[], false);
            }
        }
        Ok(())
    }

    fn bind_as(&mut self, header: Header, names: &BindNames<'_>, statement: &[u8], body: &[u8]) {
        let buffer = self.server_buffer();
        names.write_as(buffer, header.len - HEADER, statement);
        buffer.extend_from_slice(&body[names.len..]);
    }

    fn take_close(&mut self, start: &[u8]) -> Result<(), Stop> {
        let (object, name) = frontend::object(&start[HEADER..]).map_err(|error| Refusal::protocol(&error))?;
        let mut named = None;
        if object == Object::Statement && !name.is_empty() {
            // On the server it may stay: others may have the same. The answer has to come from there, in its place.
            named = self.statements.remove_entry(name);
            frontend::write_close_statement(self.server_buffer(), NOWHERE);
        } else {
            if object == Object::Statement {
                self.unnamed = None;
            }
            self.send(start);
        }
        let named = named.map(|(name, statement)| Named { statement, name: Some(name) });
        self.exchange.sent_close(Whose::Client, named);
        Ok(())
    }

    /// What the server has to run in place of the client's text: for one that only forgets a prepared statement, whose
    /// name there is another, and for one that would silence warnings.
    fn instead(&mut self, text: &[u8], effects: &mut Effects, rest: usize, step: Step) -> Option<Vec<u8>> {
        if let Some(louder) = effects.louder(text) {
            return Some(louder);
        }
        match effects.list.as_slice() {
            [Effect::Deallocate(name)] if effects.statements == 1 && rest == 0 => {
                let statement = self.statements.get(name)?;
                let server = self.server.as_mut()?;
                // By the extended protocol it is prepared when it is bound.
                if step == Step::Sync || server.prepared.has(statement.number) {
                    return Some(format!("DEALLOCATE {}", statement.name()).into_bytes());
                }
                // Nothing to forget here, but the answer has to be that of the statement.
                server.prepared.clear();
                Some(b"DEALLOCATE ALL".to_vec())
            }
            _ => None,
        }
    }

    /// What holds from the moment it is sent.
    fn note_pins(&mut self, effects: &Effects) {
        for effect in &effects.list {
            if let Effect::Pin(pin) = effect {
                self.pin(*pin);
            }
        }
    }

    pub(super) fn pin(&mut self, pin: Pin) {
        if self.pinned.is_none() {
            tracing::debug!(because = pin.what(), "the session keeps its server connection");
            self.pinned = Some(pin);
        }
    }
}
