//! Reading configuration files: TOML into a type with `#[serde(deny_unknown_fields)]`.
//!
//! Owns: errors that a tired person can act on: file, line, key, what was expected and the nearest known key.
//! Invariant: a file is read whole or refused; no key is ignored.

use std::path::Path;

use serde::de::DeserializeOwned;
use windlass_core::{Error, error::nearest};

use crate::files;

/// Reads a configuration file.
///
/// # Errors
/// `INTERNAL` if the file cannot be read, `INVALID_FIELD` on the key if its content is wrong.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    parse(&files::read(path)?, &path.display().to_string())
}

/// Reads a configuration file; a file that does not exist counts as empty.
///
/// # Errors
/// As [`load`].
pub fn load_or_default<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    parse(&files::read_if_there(path)?.unwrap_or_default(), &path.display().to_string())
}

/// Reads configuration text; `origin` names it in errors.
///
/// # Errors
/// `INVALID_FIELD` on the key that is wrong.
pub fn parse<T: DeserializeOwned>(text: &str, origin: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|error| explain(text, origin, &first_of(text, error)))
}

/// The parser goes on after an error in the form and gives the last one; the first is the one to mend.
fn first_of(text: &str, error: toml::de::Error) -> toml::de::Error {
    let (_, errors) = toml::de::DeTable::parse_recoverable(text);
    errors.into_iter().min_by_key(|error| error.span().map_or(0, |span| span.start)).unwrap_or(error)
}

fn explain(text: &str, origin: &str, error: &toml::de::Error) -> Error {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    let words = quoted(&message);
    let unknown = message.starts_with("unknown ");
    let hint = match (unknown, words.split_first()) {
        (true, Some((given, known))) => {
            nearest(given, known.iter().copied()).map(|word| format!("; did you mean {word}?")).unwrap_or_default()
        }
        _ => String::new(),
    };
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text[..floor_char_boundary(text, start)].matches('\n').count() + 1;
    let mut key = key_at(text, line);
    if message.starts_with("missing field")
        && let Some(missing) = words.first()
    {
        key = join(&table_at(text, line), missing);
    }
    let key = if key.is_empty() { "the file".to_owned() } else { key };
    Error::invalid(key, format!("{message} ({origin}, line {line}){hint}"))
}

/// The words in backticks, in order.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

/// Dotted path of the table that line `line` (from 1) stands in.
fn table_at(text: &str, line: usize) -> String {
    text.lines()
        .take(line)
        .filter_map(|line| line.trim().strip_prefix('[')?.split_once(']'))
        .last()
        .map(|(name, _)| name.trim_matches(['[', ']', ' ']).to_owned())
        .unwrap_or_default()
}

/// Dotted path of the key that line `line` (from 1) sets.
fn key_at(text: &str, line: usize) -> String {
    let content = text.lines().nth(line - 1).unwrap_or_default().trim();
    let table = table_at(text, line);
    match content.split_once('=') {
        Some((key, _)) if !content.starts_with('[') => join(&table, key.trim()),
        _ => table,
    }
}

fn join(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

fn floor_char_boundary(text: &str, mut index: usize) -> usize {
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[serde(default)]
        name: String,
        #[serde(default)]
        link: Link,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Link {
        endpoints: Vec<String>,
        #[serde(default)]
        retries: u8,
    }

    fn refusal(text: &str) -> String {
        parse::<Config>(text, "agent.toml").expect_err(text).message
    }

    #[test]
    fn a_good_file_is_read_whole() {
        let config: Config =
            parse("name = \"a\"\n[link]\nendpoints = [\"https://x\"]\nretries = 3\n", "agent.toml").expect("good");
        assert_eq!((config.name.as_str(), config.link.endpoints.len(), config.link.retries), ("a", 1, 3));
    }

    #[test]
    fn an_unknown_key_names_file_line_key_and_the_nearest() {
        let message = refusal("name = \"a\"\n\n[link]\nendpoint = []\n");
        assert!(message.starts_with("link.endpoint: unknown field `endpoint`"), "{message}");
        assert!(message.contains("(agent.toml, line 4)"), "{message}");
        assert!(message.ends_with("did you mean endpoints?"), "{message}");
    }

    #[test]
    fn an_unknown_table_is_named_too() {
        let message = refusal("name = \"a\"\n[linkk]\nendpoints = []\n");
        assert!(message.starts_with("linkk: unknown field `linkk`"), "{message}");
        assert!(message.ends_with("did you mean link?"), "{message}");
    }

    #[test]
    fn a_value_of_the_wrong_type_or_range_names_its_key() {
        let message = refusal("name = 3\n");
        assert!(message.starts_with("name: invalid type: integer `3`, expected a string"), "{message}");
        let message = refusal("[link]\nendpoints = []\nretries = 300\n");
        assert!(message.starts_with("link.retries: invalid value"), "{message}");
        assert!(message.contains("line 3"), "{message}");
    }

    #[test]
    fn a_missing_key_is_named_with_its_table() {
        let message = refusal("[link]\nretries = 3\n");
        assert!(message.starts_with("link.endpoints: missing field `endpoints` (agent.toml, line 1)"), "{message}");
    }

    #[test]
    fn broken_toml_names_the_line() {
        for text in ["name = \"a\nlink = 3", "name = ü", "[", "= 3", "\u{0}"] {
            let message = refusal(text);
            assert!(message.contains("agent.toml, line 1"), "{text:?}: {message}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_or_the_default() {
        let path = Path::new("/nonexistent/agent.toml");
        assert!(load::<Config>(path).expect_err("absent").message.contains("/nonexistent/agent.toml"));
        assert_eq!(load_or_default::<Config>(path).expect("default").name, "");
    }
}
