//! What a text of SQL does to the session that runs it, as far as the text shows.
//!
//! A session that shares its server connections has to know: settings are kept for the client and set again elsewhere;
//! what cannot be moved pins the client to the connection. Reading errs towards pinning. What happens inside functions
//! cannot be seen here; docs/proxy.md says so.

use std::ops::Range;

use super::{
    effect::{Effect, LOUD, Pin, QUIET, Value, is_read_by},
    lexer::{Lexer, Token},
};

/// The longest text that is read; of a longer one only its start is.
pub(crate) const LONGEST_READ: usize = 64 * 1024;
/// The longest `SET` that is kept, in bytes.
const LONGEST_SETTING: usize = 4096;
/// What stands behind `SET` in place of what would silence.
const LOUDER: &[u8] = b" client_min_messages TO warning";

/// All of it, in order. Most texts have none, which costs no memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    pub(crate) list: Vec<Effect>,
    /// It ends a transaction with a commit, so success may wait for replicas.
    pub(crate) commits: bool,
    /// How many statements it has.
    pub(crate) statements: usize,
    /// Where in the text warnings would be kept from the client, and what has to stand there instead.
    silences: Vec<(Range<usize>, &'static [u8])>,
}

impl Effects {
    /// What has to be run in place of a text that would keep warnings from the client: they may say that a commit is in
    /// doubt, and have to pass here.
    pub(crate) fn louder(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        if self.silences.is_empty() {
            return None;
        }
        let (mut louder, mut at) = (Vec::with_capacity(text.len() + LOUDER.len()), 0);
        // Calls may stand within each other.
        self.silences.sort_by_key(|(silence, _)| silence.start);
        for (silence, instead) in std::mem::take(&mut self.silences) {
            louder.extend_from_slice(&text[at..silence.start]);
            louder.extend_from_slice(instead);
            at = silence.end;
        }
        louder.extend_from_slice(&text[at..]);
        Some(louder)
    }

    /// Reads a text. `rest` is how many bytes of it are not given.
    pub(crate) fn of(text: &[u8], rest: usize) -> Self {
        let mut effects = Self::default();
        let mut lexer = Lexer::new(text);
        while let Some(first) = lexer.next() {
            if first == Token::Sign(b';') {
                continue;
            }
            effects.statements += 1;
            effects.statement(first, &mut lexer, text);
        }
        if rest > 0 {
            // One that goes on behind what is given cannot be replaced.
            effects.silences.retain(|(silence, _)| silence.end < text.len());
        }
        // One long statement is data, unless its end shows that others are behind it; of several we do not know what the
        // last ones do.
        if rest > 0 && effects.statements > 1 {
            effects.list.push(Effect::Pin(Pin::Unread));
            effects.commits = true;
        }
        effects
    }

    fn statement<'a>(&mut self, first: Token<'a>, lexer: &mut Lexer<'a>, text: &'a [u8]) {
        let Token::Word(first) = first else { return skip(lexer) };
        let Some(verb) = Verb::of(first) else { return self.any(Some(first), lexer) };
        match verb {
            Verb::Set => self.set(lexer, text),
            Verb::Reset => self.reset(lexer),
            Verb::Discard => self.discard(lexer),
            Verb::Deallocate => self.deallocate(lexer),
            Verb::Commit => {
                self.commits = true;
                skip(lexer);
            }
            Verb::Prepare => {
                if is_word(lexer.next(), b"transaction") {
                    self.commits = true;
                } else {
                    self.pin(Pin::SqlPrepare);
                }
                skip(lexer);
            }
            Verb::Listen => {
                self.pin(Pin::Listen);
                skip(lexer);
            }
            Verb::Load => {
                self.pin(Pin::Library);
                skip(lexer);
            }
            Verb::Declare => {
                let mut before = Token::Sign(b' ');
                for token in lexer.by_ref().take_while(not_end) {
                    if is(before, b"with") && is(token, b"hold") {
                        self.pin(Pin::HoldCursor);
                    }
                    before = token;
                }
            }
            Verb::Call => {
                // A procedure may commit.
                self.commits = true;
                self.any(None, lexer);
            }
        }
    }

    /// A statement that changes a session only through what it names.
    fn any<'a>(&mut self, first: Option<&'a [u8]>, lexer: &mut Lexer<'a>) {
        let creates = first.is_some_and(|first| first.eq_ignore_ascii_case(b"create"));
        let (mut before, mut at) = (Token::Sign(b' '), 0_usize);
        while let Some(token) = lexer.next() {
            at += 1;
            let last = std::mem::replace(&mut before, token);
            let Token::Word(word) = token else {
                if token == Token::Sign(b';') {
                    return;
                }
                continue;
            };
            // The words that matter begin with few letters.
            match word.first() {
                Some(b't' | b'T') if is(token, b"temp") || is(token, b"temporary") => {
                    // Elsewhere it is a name: it stands near CREATE, or behind INTO.
                    let into = [&b"into"[..], b"local", b"global"].iter().any(|word| is(last, word));
                    if into || (creates && at <= 4) {
                        self.pin(Pin::Temporary);
                    }
                }
                Some(b'p' | b'P') if is(token, b"pg_temp") => self.pin(Pin::Temporary),
                Some(b'p' | b'P') if word.len() > 12 && is_session_lock(word) => self.pin(Pin::AdvisoryLock),
                Some(b's' | b'S') if is(token, b"set_config") => self.set_config(lexer),
                _ => {}
            }
        }
    }

    fn set<'a>(&mut self, lexer: &mut Lexer<'a>, text: &'a [u8]) {
        let mut from = lexer.offset();
        let mut token = lexer.next();
        if is_word(token, b"session") {
            from = lexer.offset();
            token = lexer.next();
            if is_word(token, b"characteristics") || is_word(token, b"authorization") {
                self.pin(Pin::Settings);
                return skip(lexer);
            }
        }
        for transient in [&b"transaction"[..], b"constraints"] {
            if is_word(token, transient) {
                return skip(lexer);
            }
        }
        let is_local = is_word(token, b"local");
        if is_local {
            from = lexer.offset();
            token = lexer.next();
        }
        let mut name = match token {
            Some(Token::Word(word) | Token::Name(word)) => lower(word),
            Some(Token::Text(_) | Token::Literal | Token::Sign(_)) | None => None,
        };
        let (mut last, mut end) = (None, lexer.offset());
        loop {
            match lexer.next() {
                None | Some(Token::Sign(b';')) => break,
                Some(Token::Sign(b'.')) if last.is_none() => match lexer.next() {
                    Some(Token::Word(part) | Token::Name(part)) => {
                        name = name.zip(lower(part)).map(|(name, part)| format!("{name}.{part}"));
                    }
                    Some(Token::Text(_) | Token::Literal | Token::Sign(_)) | None => name = None,
                },
                Some(token) => last = Some(token),
            }
            end = lexer.offset();
        }
        let sql = std::str::from_utf8(&text[from..end]).ok().map(str::trim).filter(|sql| sql.len() <= LONGEST_SETTING);
        let silent = |sql: &str| Value::Sql(sql.into()).silences(QUIET);
        if name.as_deref() == Some(QUIET) && sql.is_none_or(silent) {
            self.silences.push((from..end, LOUDER));
            if !is_local {
                self.list.push(Effect::Set(QUIET.into(), Value::Raw(LOUD.into())));
            }
            return;
        }
        let name = name.map(full_name);
        if is_local {
            return self.local(name.as_deref());
        }
        match (name, sql) {
            (Some(name), Some(_)) if is_word(last, b"default") => self.list.push(Effect::Reset(name.into())),
            (Some(_), Some(_)) if is_word(last, b"current") => {}
            (Some(name), Some(sql)) if last.is_some() => {
                self.list.push(Effect::Set(name.into(), Value::Sql(sql.into())));
            }
            _ => self.pin(Pin::Settings),
        }
    }

    fn reset(&mut self, lexer: &mut Lexer<'_>) {
        let mut name = String::new();
        for token in lexer.by_ref().take_while(not_end) {
            match token {
                Token::Word(part) | Token::Name(part) => name.push_str(&String::from_utf8_lossy(part)),
                Token::Sign(sign) => name.push(char::from(sign)),
                Token::Text(_) | Token::Literal => {}
            }
        }
        name.make_ascii_lowercase();
        match name.as_str() {
            "all" => self.list.push(Effect::ResetAll),
            "timezone" => self.list.push(Effect::Reset("timezone".into())),
            "sessionauthorization" => self.pin(Pin::Settings),
            _ => self.list.push(Effect::Reset(name.into())),
        }
    }

    fn discard(&mut self, lexer: &mut Lexer<'_>) {
        if is_word(lexer.next(), b"all") {
            self.list.push(Effect::DiscardAll);
        }
        skip(lexer);
    }

    fn deallocate(&mut self, lexer: &mut Lexer<'_>) {
        let mut name = lexer.next();
        if is_word(name, b"prepare") {
            name = lexer.next();
        }
        match name {
            Some(Token::Word(word)) if word.eq_ignore_ascii_case(b"all") => self.list.push(Effect::DeallocateAll),
            Some(Token::Word(word)) => self.list.push(Effect::Deallocate(word.to_ascii_lowercase().into())),
            Some(Token::Name(name)) => self.list.push(Effect::Deallocate(name.into())),
            Some(Token::Text(_) | Token::Literal | Token::Sign(_)) | None => {}
        }
        if name != Some(Token::Sign(b';')) {
            skip(lexer);
        }
    }

    /// Behind the name of the function: `(name, value, is_local)`.
    fn set_config<'a>(&mut self, lexer: &mut Lexer<'a>) {
        let mut ahead = lexer.clone();
        let mut arguments: [Option<Token<'a>>; 3] = [None; 3];
        let (mut depth, mut at, mut simple, mut plain) = (0_usize, 0_usize, true, true);
        let mut value_at = ahead.offset()..ahead.offset();
        while let Some(token) = ahead.next() {
            match token {
                Token::Sign(b'(') => depth += 1,
                Token::Sign(b')') if depth <= 1 => break,
                Token::Sign(b')') => depth -= 1,
                Token::Sign(b',') if depth == 1 => {
                    at += 1;
                    match at {
                        1 => value_at = ahead.offset()..ahead.offset(),
                        2 => value_at.end = ahead.offset() - 1,
                        _ => {}
                    }
                }
                Token::Sign(b';') => break,
                Token::Word(_) | Token::Name(_) | Token::Text(_) | Token::Literal | Token::Sign(_) => {
                    match arguments.get_mut(at) {
                        Some(argument) if argument.is_none() && depth == 1 => *argument = Some(token),
                        // More than one token: an expression.
                        Some(_) | None if at == 1 => plain = false,
                        Some(_) | None => simple = false,
                    }
                }
            }
        }
        let [name, value, local] = arguments;
        let literal = |token| match token {
            Some(Token::Text(text)) => std::str::from_utf8(text).ok().map(|text| text.replace("''", "'")),
            Some(Token::Word(_) | Token::Name(_) | Token::Literal | Token::Sign(_)) | None => None,
        };
        let name = literal(name).map(|name| name.to_ascii_lowercase());
        let value = literal(value).filter(|_| plain).map(|value| Value::Raw(value.into()));
        if name.as_deref() == Some(QUIET) && at >= 2 {
            self.louder_value(value.as_ref(), value_at);
        }
        let is_local = is_word(local, b"true") || matches!(local, Some(Token::Text(b"t" | b"true")));
        if is_local && simple {
            return self.local(name.as_deref());
        }
        match (name, value, is_word(local, b"false") && simple) {
            (Some(name), Some(value), true) => self.list.push(Effect::Set(name.into(), value)),
            _ => self.pin(Pin::Settings),
        }
    }

    /// A setting for one transaction; without its name it may be any.
    fn local(&mut self, name: Option<&str>) {
        if name.is_none_or(is_read_by) {
            self.list.push(Effect::Local);
        }
    }

    /// Notes what has to stand in place of a value of a setting that may silence. One that only the server knows is
    /// looked at there, for it may have parameters, which have to stay.
    fn louder_value(&mut self, value: Option<&Value>, at: Range<usize>) {
        match value {
            Some(value) if value.silences(QUIET) => self.silences.push((at, b"'warning'")),
            Some(_) => {}
            None => {
                self.silences.push((at.start..at.start, b"pg_catalog.regexp_replace(("));
                self.silences.push((at.end..at.end, b")::text, '^(error|fatal|panic)$', 'warning', 'i')"));
            }
        }
    }

    fn pin(&mut self, pin: Pin) {
        self.list.push(Effect::Pin(pin));
    }
}

/// Statements that are looked at for what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Set,
    Reset,
    Discard,
    Deallocate,
    Commit,
    Prepare,
    Listen,
    Load,
    Declare,
    Call,
}

impl Verb {
    fn of(word: &[u8]) -> Option<Self> {
        const VERBS: [(&[u8], Verb); 12] = [
            (b"set", Verb::Set),
            (b"reset", Verb::Reset),
            (b"discard", Verb::Discard),
            (b"deallocate", Verb::Deallocate),
            (b"commit", Verb::Commit),
            (b"end", Verb::Commit),
            (b"prepare", Verb::Prepare),
            (b"listen", Verb::Listen),
            (b"load", Verb::Load),
            (b"declare", Verb::Declare),
            (b"call", Verb::Call),
            (b"do", Verb::Call),
        ];
        // Most statements begin with none of these letters.
        if !matches!(word.first()? | 0x20, b's' | b'r' | b'd' | b'c' | b'e' | b'p' | b'l') {
            return None;
        }
        VERBS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, verb)| *verb)
    }
}

fn not_end(token: &Token<'_>) -> bool {
    *token != Token::Sign(b';')
}

fn skip(lexer: &mut Lexer<'_>) {
    lexer.by_ref().take_while(not_end).for_each(drop);
}

fn is(token: Token<'_>, word: &[u8]) -> bool {
    matches!(token, Token::Word(given) if given.eq_ignore_ascii_case(word))
}

fn is_word(token: Option<Token<'_>>, word: &[u8]) -> bool {
    token.is_some_and(|token| is(token, word))
}

fn lower(word: &[u8]) -> Option<String> {
    std::str::from_utf8(word).ok().map(str::to_ascii_lowercase)
}

/// What `SET TIME ZONE` and its like set.
fn full_name(name: String) -> String {
    match name.as_str() {
        "time" => "timezone".to_owned(),
        "names" => "client_encoding".to_owned(),
        "xml" => "xmloption".to_owned(),
        "schema" => "search_path".to_owned(),
        _ => name,
    }
}

fn is_session_lock(word: &[u8]) -> bool {
    const LOCKS: [&[u8]; 4] =
        [b"pg_advisory_lock", b"pg_advisory_lock_shared", b"pg_try_advisory_lock", b"pg_try_advisory_lock_shared"];
    LOCKS.iter().any(|lock| word.eq_ignore_ascii_case(lock))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Vec<Effect> {
        Effects::of(text.as_bytes(), 0).list
    }

    fn set(name: &str, sql: &str) -> Effect {
        Effect::Set(name.into(), Value::Sql(sql.into()))
    }

    #[test]
    fn settings_are_told_by_name_and_kept_as_they_were_written() {
        assert_eq!(of("SET search_path TO app, public"), [set("search_path", "search_path TO app, public")]);
        assert_eq!(of("set session Work_Mem = '4MB';"), [set("work_mem", "Work_Mem = '4MB'")]);
        assert_eq!(of("SET my.\"Tenant\" = '7' -- who\n"), [set("my.tenant", "my.\"Tenant\" = '7'")]);
        assert_eq!(of("SET TIME ZONE 'UTC'"), [set("timezone", "TIME ZONE 'UTC'")]);
        assert_eq!(of("SET NAMES 'LATIN1'"), [set("client_encoding", "NAMES 'LATIN1'")]);
        assert_eq!(of("SET SCHEMA 'app'"), [set("search_path", "SCHEMA 'app'")]);
        assert_eq!(of("SET SESSION schema.x = 1"), [set("schema.x", "schema.x = 1")]);
        assert_eq!(of("SET ROLE ada; SET a TO 1"), [set("role", "ROLE ada"), set("a", "a TO 1")]);
        assert_eq!(of("SET a TO DEFAULT"), [Effect::Reset("a".into())]);
        assert_eq!(of("RESET my.tenant; RESET ALL"), [Effect::Reset("my.tenant".into()), Effect::ResetAll]);
        assert_eq!(of("DISCARD ALL"), [Effect::DiscardAll]);
    }

    #[test]
    fn what_ends_with_its_transaction_leaves_no_trace() {
        for text in [
            "SET LOCAL a = 1",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET CONSTRAINTS ALL DEFERRED",
            "SELECT pg_advisory_xact_lock(1)",
            "SELECT set_config('my.claims', $1, true), set_config('role', 'web', true)",
            "DECLARE c CURSOR FOR SELECT 1",
            "BEGIN; UPDATE a SET temp = 1; SELECT 'LISTEN x', \"set_config\", temperature FROM t",
            "INSERT INTO t SELECT $$SET a = 1; LISTEN b$$",
            "DISCARD PLANS",
            "UNLISTEN x",
        ] {
            assert_eq!(of(text), [], "{text}");
        }
    }

    #[test]
    fn what_texts_are_read_by_is_told_also_if_it_ends_with_its_transaction() {
        for text in [
            "SET LOCAL TIME ZONE 'UTC'",
            "SET LOCAL Search_Path = a",
            "SELECT set_config('DateStyle', $1, true)",
            "SELECT set_config(name, $1, true) FROM t",
        ] {
            assert_eq!(of(text), [Effect::Local], "{text}");
        }
    }

    #[test]
    fn what_cannot_be_moved_pins() {
        for (text, pin) in [
            ("LISTEN news", Pin::Listen),
            ("/* x */ create temp table t()", Pin::Temporary),
            ("CREATE UNLOGGED TABLE pg_temp.t ()", Pin::Temporary),
            ("SELECT 1 INTO TEMPORARY t", Pin::Temporary),
            ("SELECT pg_try_advisory_lock(1, 2)", Pin::AdvisoryLock),
            ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Pin::HoldCursor),
            ("PREPARE p AS SELECT 1", Pin::SqlPrepare),
            ("SET SESSION AUTHORIZATION ada", Pin::Settings),
            ("SELECT set_config($1, $2, false)", Pin::Settings),
            ("SELECT set_config('a', 'b', $1)", Pin::Settings),
            ("SELECT set_config('a', 'b' || 'c', false)", Pin::Settings),
            ("LOAD 'auto_explain'", Pin::Library),
            ("SET", Pin::Settings),
        ] {
            assert_eq!(of(text), [Effect::Pin(pin)], "{text}");
        }
        assert_eq!(
            of("SELECT pg_catalog.set_config('Search_Path', 'it''s', false)"),
            [Effect::Set("search_path".into(), Value::Raw("it's".into()))]
        );
    }

    #[test]
    fn commits_and_prepared_names_are_told() {
        for text in ["COMMIT", "insert into t values (1); end", "PREPARE TRANSACTION 'x'", "CALL p()", "DO $$ $$"] {
            assert!(Effects::of(text.as_bytes(), 0).commits, "{text}");
        }
        assert!(!Effects::of(b"ROLLBACK", 0).commits);
        assert_eq!(of("DEALLOCATE PREPARE S1"), [Effect::Deallocate(b"s1"[..].into())]);
        assert_eq!(of("DEALLOCATE \"S1\""), [Effect::Deallocate(b"S1"[..].into())]);
        assert_eq!(of("DEALLOCATE ALL"), [Effect::DeallocateAll]);
        assert_eq!(Effects::of(b"SELECT 1;; ;SELECT 2", 0).statements, 2);
    }

    #[test]
    fn warnings_are_not_silenced() {
        let louder = |text: &str| {
            let louder = Effects::of(text.as_bytes(), 0).louder(text.as_bytes());
            louder.map(|louder| String::from_utf8(louder).unwrap())
        };
        for (text, instead) in [
            ("SET client_min_messages = 'ERROR'", "SET client_min_messages TO warning"),
            ("set session client_min_messages to panic", "set session client_min_messages TO warning"),
            (
                "begin; SET LOCAL client_min_messages=error;commit",
                "begin; SET LOCAL client_min_messages TO warning;commit",
            ),
            (
                "set client_min_messages to fatal; set client_min_messages to error; select 'é'",
                "set client_min_messages TO warning; set client_min_messages TO warning; select 'é'",
            ),
            (
                "select set_config('Client_Min_Messages', 'error', true); set client_min_messages to error",
                "select set_config('Client_Min_Messages','warning', true); set client_min_messages TO warning",
            ),
        ] {
            assert_eq!(louder(text).as_deref(), Some(instead));
            assert_eq!(louder(instead), None);
        }
        assert_eq!(
            louder("select set_config('client_min_messages',$1,false)").as_deref(),
            Some(
                "select set_config('client_min_messages',\
                 pg_catalog.regexp_replace(($1)::text, '^(error|fatal|panic)$', 'warning', 'i'),false)"
            )
        );
        let cut = b"SET client_min_messages = 'error";
        assert_eq!(Effects::of(cut, 10).louder(cut), None, "its end is not here");
        assert_eq!(of("SET client_min_messages = panic"), [Effect::Set(QUIET.into(), Value::Raw(LOUD.into()))]);
        assert_eq!(of("SET LOCAL client_min_messages = panic"), []);
        for text in [
            "SET client_min_messages = notice",
            "SET search_path = error",
            "SET LOCAL search_path = error",
            "SELECT set_config('client_min_messages', 'notice', false)",
            "SELECT set_config('search_path', 'error', false)",
        ] {
            assert_eq!(louder(text), None);
        }
    }

    #[test]
    fn of_a_text_too_long_to_read_only_a_script_pins() {
        assert_eq!(Effects::of(b"INSERT INTO t VALUES ('aaa", 10).list, []);
        assert_eq!(Effects::of(b"INSERT INTO t VALUES (1); INSERT", 10).list, [Effect::Pin(Pin::Unread)]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(SET|RESET|DECLARE|set_config|DEALLOCATE|temp|[-a-c'\"$(),.;= ]){0,12}") {
            let effects = Effects::of(text.as_bytes(), 0);
            prop_assert!(effects.list.len() <= text.len());
        }
    }
}
