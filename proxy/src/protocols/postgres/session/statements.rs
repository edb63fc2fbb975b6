//! The client's prepared statements on the server at hand: under which names they are there, preparing those that are
//! not, and forgetting them.

use std::sync::Arc;

use windlass_wire_pg::frontend;

use super::{
    Session,
    exchange::{Expected, Named, Whose},
};
use crate::protocols::postgres::{
    server::{Reading, Statement, changes_reading},
    sql::Effect,
};

/// A name that no server knows, for statements that are to be missing there.
pub(super) const NOWHERE: &[u8] = b"windlass_none";
const OURS: &[u8] = b"windlass_";

impl Session {
    /// The name by which the server at hand knows a statement, which is prepared there if it is not yet; `None` if the
    /// client's name does.
    pub(super) fn server_name(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        if !name.is_empty() {
            let statement = self.prepared(name);
            return Some(statement.map_or_else(|| missing(name).to_vec(), |statement| statement.name().into_bytes()));
        }
        if self.unnamed_is_here {
            return None;
        }
        // Another client's unnamed statement may be there.
        let Some(unnamed) = self.unnamed.take_if(|unnamed| !unnamed.message.is_empty()) else {
            return Some(NOWHERE.to_vec());
        };
        self.send(&unnamed.message);
        self.exchange.sent_parse(Whose::Ours, None);
        self.unnamed = Some(unnamed);
        self.unnamed_is_here = true;
        None
    }

    /// The client's statement of this name, prepared on the server at hand. If texts mean something else now than when it
    /// was prepared, it is prepared anew, for others share the former one.
    pub(super) fn prepared(&mut self, name: &[u8]) -> Option<Arc<Statement>> {
        let mut statement = self.statements.get(name)?.clone();
        let server = self.server()?;
        let is_here = server.prepared.has(statement.number);
        // A connection that is not shared keeps what it has.
        if is_here && (self.is_sticky() || server.reads_alike(&statement)) {
            return Some(statement);
        }
        if !self.is_sticky() {
            let reading = self.reading();
            let usable = match &reading {
                Some(_) => statement.reading == reading,
                None => is_here || statement.reading.is_none(),
            };
            if !usable {
                statement =
                    self.shared.postgres.statements().of(&statement.parse(), statement.effects.clone(), reading);
                self.statements.insert(name.into(), statement.clone());
            }
        }
        self.ensure_prepared(&statement);
        Some(statement)
    }

    /// How the server at hand reads texts; `None` if that is just being changed.
    pub(super) fn reading(&self) -> Option<Reading> {
        let server = self.server().filter(|_| !self.exchange.is_open(changes_reading))?;
        Some(server.reading(&self.settings))
    }

    pub(super) fn ensure_prepared(&mut self, statement: &Arc<Statement>) {
        if self.server().is_none_or(|server| server.prepared.has(statement.number)) {
            return;
        }
        self.add_prepared(statement.number);
        statement.parse().write_as(self.server_buffer(), statement.name().as_bytes());
        self.exchange.sent_parse(Whose::Ours, Some(Named { statement: statement.clone(), name: None }));
    }

    /// Notes one that is about to be prepared, and makes room for it.
    pub(super) fn add_prepared(&mut self, number: u64) {
        let Some(server) = &mut self.server else { return };
        let uncertain = server.spoiled;
        if let Some(old) = server.prepared.add(number) {
            self.close_ours(old);
        }
        if uncertain {
            // It may be there; closing one that is not is no error.
            self.close_ours(number);
        }
    }

    pub(super) fn close_ours(&mut self, number: u64) {
        frontend::write_close_statement(self.server_buffer(), format!("windlass_{number}").as_bytes());
        self.exchange.sent_close(Whose::Ours, None);
    }

    /// What a statement that is sent forgets is not there for those sent behind it.
    pub(super) fn forget(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::DeallocateAll | Effect::DiscardAll => {
                    self.statements.clear();
                    if let Some(server) = &mut self.server {
                        server.prepared.clear();
                    }
                }
                Effect::Deallocate(name) => {
                    if let (Some(statement), Some(server)) = (self.statements.remove(name), &mut self.server) {
                        server.prepared.remove(statement.number);
                    }
                }
                Effect::Set(..) | Effect::Local | Effect::Reset(_) | Effect::ResetAll | Effect::Pin(_) => {}
            }
        }
    }

    /// The same by the extended protocol, where nobody knows when it is executed, and how often.
    pub(super) fn forget_when_executed(&mut self, effects: &[Effect]) {
        for effect in effects.iter().filter(|effect| effect.forgets()) {
            if let Effect::Deallocate(name) = effect
                && let Some(statement) = self.statements.get(name).cloned()
            {
                self.ensure_prepared(&statement);
            }
            self.spoil();
        }
        self.forget(effects);
    }

    /// What the server at hand has prepared is not what we think: nobody else gets it, and a session that has to keep it
    /// prepares anew what it uses.
    pub(super) fn spoil(&mut self) {
        if let Some(server) = &mut self.server {
            server.spoiled = true;
            server.prepared.clear();
        }
    }

    /// Takes back what was noted for messages that are not going to be answered well.
    pub(super) fn undo(&mut self, void: Vec<Expected>) {
        // The last one first, for one may be about what another one before it did.
        for expected in void.into_iter().rev() {
            match expected {
                Expected::Parse(_, Some(Named { statement, name })) => {
                    if let Some(server) = &mut self.server {
                        server.prepared.remove(statement.number);
                    }
                    if let Some(name) = name {
                        self.statements.remove(&name);
                    }
                }
                Expected::Close(_, Some(Named { statement, name: Some(name) })) => {
                    self.statements.insert(name, statement);
                }
                Expected::Parse(Whose::Ours | Whose::Client, None) => self.unnamed_is_here = false,
                // Where it stays, a later Parse of it would fail.
                Expected::Close(Whose::Ours, _) => self.spoil(),
                Expected::Close(..) | Expected::Ready { .. } | Expected::CopyEnd => {}
            }
        }
    }
}

/// A client's name for a statement that it does not have. One of ours would be another client's.
pub(super) fn missing(name: &[u8]) -> &[u8] {
    if name.starts_with(OURS) { NOWHERE } else { name }
}
