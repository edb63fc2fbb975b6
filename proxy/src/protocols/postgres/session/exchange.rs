//! What a session waits for from its server: the bookkeeping of requests under way. Pure.
//!
//! The protocol lets a client send on without waiting, and a pooler has to know three things of the answers to come:
//! which are answers to messages of its own and must not reach the client; when the server is done, so that the
//! connection may go to somebody else; and whether what a statement does to the session has become true.
//!
//! Invariants: an answer to our own message never reaches the client; at rest, every byte sent has been answered.

use std::{collections::VecDeque, sync::Arc};

use windlass_core::{Error, Result};
use windlass_wire_pg::backend::TransactionStatus;

use super::results::{Results, Verdict};
use crate::protocols::postgres::{
    server::Statement,
    sql::{Effect, Pin},
};

/// Whose message an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Client,
    Ours,
}

/// A statement that becomes known, or unknown, with the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) statement: Arc<Statement>,
    /// The client's name for it, if the client's own map is concerned.
    pub(super) name: Option<Box<[u8]>>,
}

/// How a step ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Simple query or function call.
    Simple,
    /// Simple query of which only the start was read: behind it may be anything.
    Unread,
    /// Sync.
    Sync,
}

/// An answer to come. Others are passed on without being waited for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Parse(Whose, Option<Named>),
    Close(Whose, Option<Named>),
    Ready {
        step: Step,
        effects: Vec<Effect>,
        commits: bool,
    },
    /// The client ended a COPY before the server said that it began.
    CopyEnd,
}

/// Requests under way.
#[derive(Debug)]
pub(super) struct Exchange {
    expected: VecDeque<Expected>,
    status: TransactionStatus,
    /// The server takes data of a COPY, and no Sync.
    copying: bool,
    /// The step that the client has begun by messages of the extended protocol and not ended by Sync yet.
    begun: Option<Begun>,
    /// An error came before the Sync of its step was sent: the server skips what else comes until that.
    skips: bool,
    /// How the statements of the step ended.
    results: Results,
    /// Effects of steps of the open transaction, and what holds until its end.
    in_transaction: Vec<Effect>,
}

/// A step without its end.
#[derive(Debug, Default)]
struct Begun {
    effects: Vec<Effect>,
    commits: bool,
}

/// What the end of a step means.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// These have become true.
    pub(super) effects: Vec<Effect>,
    /// These were tried and have not: what the server has prepared is uncertain if they concern that.
    pub(super) failed: Vec<Effect>,
    /// These were sent after an error and skipped.
    pub(super) void: Vec<Expected>,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            expected: VecDeque::new(),
            status: TransactionStatus::Idle,
            copying: false,
            begun: None,
            skips: false,
            results: Results::default(),
            in_transaction: Vec::new(),
        }
    }
}

impl Exchange {
    pub(super) fn status(&self) -> TransactionStatus {
        self.status
    }

    /// Everything is answered and no transaction is open.
    pub(super) fn is_at_rest(&self) -> bool {
        self.expected.is_empty() && self.status == TransactionStatus::Idle && self.begun.is_none() && !self.copying
    }

    /// A statement runs, or may.
    pub(super) fn is_waiting(&self) -> bool {
        !self.expected.is_empty() || self.begun.is_some()
    }

    /// A commit may be under way.
    pub(super) fn is_committing(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| begun.commits)
            || self.expected.iter().any(|expected| matches!(expected, Expected::Ready { commits: true, .. }))
    }

    /// The same, or nobody has read what is under way.
    pub(super) fn may_be_committing(&self) -> bool {
        let unread = |expected: &Expected| matches!(expected, Expected::Ready { step: Step::Unread, .. });
        self.is_committing() || self.expected.iter().any(unread)
    }

    /// Whether something like this was sent and is not known to be true yet.
    pub(super) fn is_open(&self, like: impl Fn(&Effect) -> bool) -> bool {
        let sent = self.expected.iter().flat_map(|expected| match expected {
            Expected::Ready { effects, .. } => effects.as_slice(),
            Expected::Parse(..) | Expected::Close(..) | Expected::CopyEnd => &[],
        });
        self.in_transaction.iter().chain(sent).chain(self.begun.iter().flat_map(|begun| &begun.effects)).any(like)
    }

    /// Whether ends of statements have to be looked at.
    pub(super) fn watches_tags(&self) -> bool {
        !self.in_transaction.is_empty()
            || self.begun.as_ref().is_some_and(|begun| !begun.effects.is_empty())
            || self.expected.iter().any(|expected| match expected {
                Expected::Ready { step: Step::Unread, .. } => true,
                Expected::Ready { step: Step::Simple | Step::Sync, effects, .. } => !effects.is_empty(),
                Expected::Parse(..) | Expected::Close(..) | Expected::CopyEnd => false,
            })
    }

    /// A simple query or a function call was sent.
    pub(super) fn sent_simple(&mut self, effects: Vec<Effect>, commits: bool) {
        self.sent_query(Step::Simple, effects, commits);
    }

    /// A simple query was sent of which only the start was read.
    pub(super) fn sent_unread(&mut self, effects: Vec<Effect>, commits: bool) {
        self.sent_query(Step::Unread, effects, commits);
    }

    fn sent_query(&mut self, step: Step, effects: Vec<Effect>, commits: bool) {
        let mut begun = self.begun.take().unwrap_or_default();
        begun.effects.extend(effects);
        let commits = commits || begun.commits;
        self.expected.push_back(Expected::Ready { step, effects: begun.effects, commits });
    }

    pub(super) fn sent_sync(&mut self) {
        if self.copying {
            return;
        }
        let Begun { effects, commits } = self.begun.take().unwrap_or_default();
        self.expected.push_back(Expected::Ready { step: Step::Sync, effects, commits });
    }

    pub(super) fn sent_parse(&mut self, whose: Whose, named: Option<Named>) {
        self.begun.get_or_insert_default();
        self.expected.push_back(Expected::Parse(whose, named));
    }

    pub(super) fn sent_close(&mut self, whose: Whose, named: Option<Named>) {
        self.begun.get_or_insert_default();
        self.expected.push_back(Expected::Close(whose, named));
    }

    /// Any other message of the extended protocol was sent; with what the statement that it is about does.
    pub(super) fn sent_step(&mut self, effects: &[Effect], commits: bool) {
        let begun = self.begun.get_or_insert_default();
        begun.effects.extend_from_slice(effects);
        begun.commits |= commits;
    }

    /// CopyDone or CopyFail was sent.
    pub(super) fn sent_copy_end(&mut self) {
        if self.copying {
            self.copying = false;
        } else if !self.expected.is_empty() {
            self.expected.push_back(Expected::CopyEnd);
        }
    }

    /// The server wants data of a COPY. It does not answer a Sync until the data ends, and what was sent before it began
    /// may hold Syncs already, and even the end of the data.
    pub(super) fn copy_began(&mut self) {
        self.copying = true;
        let unanswered = |expected: &Expected| matches!(expected, Expected::Ready { step: Step::Sync, .. });
        let end = self.expected.iter().position(|expected| *expected == Expected::CopyEnd);
        let syncs = self.expected.iter().take(end.unwrap_or(usize::MAX)).take_while(|sent| unanswered(sent)).count();
        let skipped: Vec<_> = self.expected.drain(..syncs).collect();
        if let Some(end) = end {
            self.expected.remove(end - syncs);
            self.copying = false;
        }
        // What they would have ended goes on to the Sync that will be answered.
        for expected in skipped.into_iter().rev() {
            let Expected::Ready { effects: earlier, commits: committed, .. } = expected else { continue };
            match self.expected.front_mut() {
                Some(Expected::Ready { effects, commits, .. }) => {
                    effects.splice(0..0, earlier);
                    *commits |= committed;
                }
                Some(Expected::Parse(..) | Expected::Close(..) | Expected::CopyEnd) | None => {
                    let begun = self.begun.get_or_insert_default();
                    begun.effects.splice(0..0, earlier);
                    begun.commits |= committed;
                }
            }
        }
    }

    /// ParseComplete came; whether it is the client's.
    pub(super) fn parsed(&mut self) -> Result<Whose> {
        match self.expected.pop_front() {
            Some(Expected::Parse(whose, _)) => Ok(whose),
            other => Err(unexpected("ParseComplete", other.as_ref())),
        }
    }

    /// CloseComplete came; whether it is the client's.
    pub(super) fn closed(&mut self) -> Result<Whose> {
        match self.expected.pop_front() {
            Some(Expected::Close(whose, _)) => Ok(whose),
            other => Err(unexpected("CloseComplete", other.as_ref())),
        }
    }

    /// A statement ended well, as this tag says.
    pub(super) fn completed(&mut self, tag: &[u8]) {
        self.results.completed(tag);
    }

    /// An error came: the server skips what it has until the end of the step. Gives what is not going to happen.
    pub(super) fn failed(&mut self) -> Vec<Expected> {
        self.results.failed();
        self.copying = false;
        let end = self.expected.iter().position(|expected| matches!(expected, Expected::Ready { .. }));
        self.skips = end.is_none();
        self.expected.drain(..end.unwrap_or(self.expected.len())).collect()
    }

    /// The end of a step came.
    pub(super) fn ready(&mut self, status: TransactionStatus) -> Result<Ended> {
        let void = if std::mem::take(&mut self.skips) {
            let sync = |sent: &Expected| matches!(sent, Expected::Ready { step: Step::Sync, .. });
            let end = self.expected.iter().position(sync).unwrap_or(0);
            self.expected.drain(..end).collect()
        } else {
            Vec::new()
        };
        let (step, mut effects) = match self.expected.pop_front() {
            Some(Expected::Ready { step, effects, .. }) => (step, effects),
            other => return Err(unexpected("ReadyForQuery", other.as_ref())),
        };
        while self.expected.front() == Some(&Expected::CopyEnd) {
            self.expected.pop_front();
        }
        self.status = status;
        let results = std::mem::take(&mut self.results);
        let mut ended = Ended { void, ..Ended::default() };
        let verdict = results.verdict(status);
        let is_failed = status == TransactionStatus::Failed;
        // Behind a savepoint within the step there is a way back to what came before the error.
        let partly = verdict == Verdict::PartlyTrue || (is_failed && results.are_several());
        if results.has_failed() && !partly {
            ended.failed = std::mem::take(&mut effects);
        } else if results.has_failed() {
            // They were noted when they were sent, and nobody knows whether they were tried.
            ended.failed.extend(effects.iter().filter(|effect| effect.forgets()).cloned());
            effects.retain(|effect| !matches!(effect, Effect::Deallocate(_) | Effect::DeallocateAll));
        }
        if status != TransactionStatus::Idle {
            // What is forgotten stays so, whatever becomes of the transaction.
            effects.retain(|effect| !effect.forgets());
        }
        let mut all = std::mem::take(&mut self.in_transaction);
        all.append(&mut effects);
        // What holds for a transaction is gone with the last one of the step, whatever became of that.
        let (mut local, mut all): (Vec<_>, Vec<_>) = all.into_iter().partition(|effect| *effect == Effect::Local);
        if status == TransactionStatus::Idle {
            local.clear();
        }
        match verdict {
            Verdict::True => ended.effects = all,
            Verdict::Void => ended.failed.append(&mut all),
            Verdict::Open => local.append(&mut all),
            Verdict::PartlyVoid | Verdict::PartlyTrue if all.is_empty() => {}
            Verdict::PartlyVoid => {
                all.push(Effect::Pin(Pin::Settings));
                local.append(&mut all);
            }
            Verdict::PartlyTrue => {
                all.push(Effect::Pin(Pin::Settings));
                ended.effects = all;
            }
        }
        self.in_transaction = local;
        if step == Step::Unread && results.are_several() {
            ended.effects.push(Effect::Pin(Pin::Unread));
        }
        Ok(ended)
    }

    /// Everything that is under way, when the connection is gone.
    pub(super) fn abandon(&mut self) -> Vec<Expected> {
        std::mem::take(self).expected.into()
    }
}

fn unexpected(what: &str, expected: Option<&Expected>) -> Error {
    Error::internal(format!("the database server sent {what} where {expected:?} was expected"))
}

#[cfg(test)]
mod tests {
    use windlass_wire_pg::backend::TransactionStatus::{Failed, Idle, Open};

    use super::*;

    fn effect(name: &str) -> Effect {
        Effect::Reset(name.into())
    }

    #[test]
    fn what_is_sent_after_an_error_and_before_its_sync_is_skipped() {
        let mut exchange = Exchange::default();
        exchange.sent_parse(Whose::Client, None);
        exchange.parsed().unwrap();
        assert!(exchange.failed().is_empty());
        exchange.sent_parse(Whose::Client, None);
        exchange.sent_close(Whose::Client, None);
        exchange.sent_sync();
        exchange.sent_parse(Whose::Client, None);
        let ended = exchange.ready(Idle).unwrap();
        assert_eq!(ended.void, [Expected::Parse(Whose::Client, None), Expected::Close(Whose::Client, None)]);
        assert_eq!(exchange.parsed().unwrap(), Whose::Client);
    }

    #[test]
    fn a_step_is_at_rest_when_all_its_ends_came() {
        let mut exchange = Exchange::default();
        exchange.sent_simple(vec![], false);
        exchange.sent_simple(vec![], true);
        assert!(exchange.is_committing());
        exchange.ready(Idle).unwrap();
        assert!(!exchange.is_at_rest());
        exchange.ready(Idle).unwrap();
        assert!(exchange.is_at_rest() && !exchange.is_committing());
        assert!(exchange.ready(Idle).is_err(), "more ends than steps");
    }

    #[test]
    fn messages_sent_behind_a_sync_keep_the_connection() {
        let mut exchange = Exchange::default();
        exchange.sent_step(&[], false);
        exchange.sent_sync();
        exchange.sent_step(&[], false);
        exchange.ready(Idle).unwrap();
        assert!(!exchange.is_at_rest(), "the next step has begun");
    }

    #[test]
    fn our_own_answers_are_told_from_the_clients() {
        let mut exchange = Exchange::default();
        exchange.sent_parse(Whose::Ours, None);
        exchange.sent_parse(Whose::Client, None);
        exchange.sent_close(Whose::Ours, None);
        exchange.sent_sync();
        assert_eq!(exchange.parsed(), Ok(Whose::Ours));
        assert_eq!(exchange.parsed(), Ok(Whose::Client));
        assert!(exchange.parsed().is_err());
    }

    #[test]
    fn an_error_skips_to_the_end_of_its_step_only() {
        let mut exchange = Exchange::default();
        exchange.sent_parse(Whose::Ours, None);
        exchange.sent_sync();
        exchange.sent_parse(Whose::Client, None);
        exchange.sent_sync();
        assert_eq!(exchange.failed(), [Expected::Parse(Whose::Ours, None)]);
        exchange.ready(Idle).unwrap();
        assert_eq!(exchange.parsed(), Ok(Whose::Client));
    }

    #[test]
    fn effects_become_true_with_the_transaction() {
        let mut exchange = Exchange::default();
        exchange.sent_simple(vec![], false);
        exchange.ready(Open).unwrap();
        exchange.sent_simple(vec![effect("a")], false);
        assert_eq!(exchange.ready(Open).unwrap(), Ended::default());
        exchange.sent_simple(vec![], true);
        exchange.completed(b"COMMIT");
        assert_eq!(exchange.ready(Idle).unwrap().effects, [effect("a")]);

        exchange.sent_simple(vec![effect("b")], false);
        exchange.ready(Open).unwrap();
        exchange.sent_simple(vec![], false);
        exchange.completed(b"ROLLBACK");
        assert_eq!(
            exchange.ready(Idle).unwrap(),
            Ended { effects: vec![], failed: vec![effect("b")], ..Ended::default() }
        );

        exchange.sent_simple(vec![effect("c")], false);
        exchange.failed();
        assert_eq!(
            exchange.ready(Idle).unwrap(),
            Ended { effects: vec![], failed: vec![effect("c")], ..Ended::default() }
        );

        exchange.sent_simple(vec![effect("d")], false);
        exchange.ready(Open).unwrap();
        exchange.sent_simple(vec![], true);
        exchange.failed();
        assert_eq!(exchange.ready(Idle).unwrap().failed, [effect("d")], "a commit that fails");

        exchange.sent_simple(vec![effect("d")], false);
        exchange.failed();
        assert_eq!(exchange.ready(Failed).unwrap().failed, [effect("d")]);
        assert!(!exchange.is_at_rest());
    }

    /// What is true after `ROLLBACK TO` and `COMMIT`.
    fn rolled_back_to_a_savepoint(exchange: &mut Exchange) -> Vec<Effect> {
        exchange.sent_simple(vec![], false);
        exchange.completed(b"ROLLBACK");
        exchange.ready(Open).unwrap();
        exchange.sent_simple(vec![], true);
        exchange.completed(b"COMMIT");
        exchange.ready(Idle).unwrap().effects
    }

    #[test]
    fn a_way_back_to_a_savepoint_leaves_settings_uncertain() {
        let mut exchange = Exchange::default();
        exchange.sent_simple(vec![effect("a")], false);
        exchange.ready(Open).unwrap();
        assert_eq!(rolled_back_to_a_savepoint(&mut exchange), [effect("a"), Effect::Pin(Pin::Settings)]);
    }

    #[test]
    fn a_setting_before_a_savepoint_outlives_an_error_in_its_step() {
        let mut exchange = Exchange::default();
        exchange.sent_simple(vec![effect("a"), Effect::DeallocateAll], false);
        for tag in [&b"SET"[..], b"SAVEPOINT"] {
            exchange.completed(tag);
        }
        exchange.failed();
        assert_eq!(exchange.ready(Failed).unwrap().failed, [Effect::DeallocateAll]);
        assert_eq!(rolled_back_to_a_savepoint(&mut exchange), [effect("a"), Effect::Pin(Pin::Settings)]);
    }

    #[test]
    fn what_holds_for_a_transaction_is_open_until_its_end_and_never_true() {
        let is_open = |exchange: &Exchange| exchange.is_open(|effect| *effect == Effect::Local);
        let mut exchange = Exchange::default();
        exchange.sent_simple(vec![Effect::Local], true);
        exchange.completed(b"COMMIT");
        exchange.completed(b"BEGIN");
        exchange.completed(b"SET");
        assert_eq!(exchange.ready(Open).unwrap(), Ended::default());
        exchange.sent_simple(vec![], false);
        exchange.completed(b"ROLLBACK");
        assert_eq!(exchange.ready(Open).unwrap(), Ended::default());
        exchange.sent_simple(vec![], true);
        assert!(is_open(&exchange));
        exchange.completed(b"COMMIT");
        assert_eq!(exchange.ready(Idle).unwrap(), Ended::default());
        assert!(!is_open(&exchange) && !exchange.watches_tags());
    }

    #[test]
    fn a_text_that_was_not_read_may_commit_and_pins_if_it_was_more_than_a_statement() {
        let mut exchange = Exchange::default();
        exchange.sent_unread(vec![], false);
        assert!(exchange.watches_tags() && exchange.may_be_committing() && !exchange.is_committing());
        exchange.completed(b"INSERT 0 1");
        assert_eq!(exchange.ready(Idle).unwrap(), Ended::default());
        exchange.sent_unread(vec![], false);
        exchange.completed(b"INSERT 0 1");
        exchange.failed();
        assert_eq!(exchange.ready(Idle).unwrap().effects, [Effect::Pin(Pin::Unread)]);
        assert!(!exchange.watches_tags() && !exchange.may_be_committing());
    }

    #[test]
    fn effects_of_a_step_belong_to_its_own_end() {
        let mut exchange = Exchange::default();
        exchange.sent_simple(vec![effect("a")], false);
        exchange.sent_step(&[Effect::Pin(Pin::Listen)], false);
        assert_eq!(exchange.ready(Idle).unwrap().effects, [effect("a")]);
        exchange.sent_sync();
        assert_eq!(exchange.ready(Idle).unwrap().effects, [Effect::Pin(Pin::Listen)]);
    }

    #[test]
    fn a_sync_within_a_copy_is_not_answered() {
        // As libpq does it: Sync behind Execute, and another behind CopyDone.
        let mut exchange = Exchange::default();
        exchange.sent_step(&[], false);
        exchange.sent_sync();
        exchange.copy_began();
        exchange.sent_copy_end();
        exchange.sent_sync();
        exchange.ready(Idle).unwrap();
        assert!(exchange.is_at_rest());
        // All of it before the server said a word.
        exchange.sent_step(&[], false);
        exchange.sent_sync();
        exchange.sent_copy_end();
        exchange.sent_sync();
        exchange.copy_began();
        exchange.ready(Idle).unwrap();
        assert!(exchange.is_at_rest());
        // A simple one, and one whose COPY never begins.
        exchange.sent_simple(vec![], false);
        exchange.copy_began();
        exchange.sent_sync();
        exchange.sent_copy_end();
        exchange.ready(Idle).unwrap();
        exchange.sent_simple(vec![], false);
        exchange.sent_copy_end();
        exchange.failed();
        exchange.ready(Idle).unwrap();
        assert!(exchange.is_at_rest());
    }
}
