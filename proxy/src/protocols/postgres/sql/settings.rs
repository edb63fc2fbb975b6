//! Settings of a session that differ from its user's defaults.
//!
//! A client has those that it asked for, a server connection those that were set on it. Before a client's transaction
//! begins on a connection, the difference is run there. Shared by `Arc`, so that the usual case, equal ones, is one
//! comparison of pointers.

use std::{collections::BTreeMap, fmt::Write as _};

use super::Value;

/// Settings by name in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Settings(BTreeMap<Box<str>, Value>);

impl Settings {
    /// Those of a transaction end with it.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        if TRANSIENT.contains(&name) {
            return;
        }
        let value = if value.silences(name) { Value::Raw("warning".into()) } else { value };
        self.0.insert(name.into(), value);
    }

    pub(crate) fn reset(&mut self, name: &str) {
        self.0.remove(name);
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// SQL that brings a connection with `self` to `wanted`; `None` if there is nothing to do. The role comes last, for
    /// it may not be allowed to set the others, and goes first for the same reason.
    pub(crate) fn way_to(&self, wanted: &Self) -> Option<String> {
        let mut sql = String::new();
        let gone = |name: &str| !wanted.0.contains_key(name);
        let first = self.0.keys().filter(|name| ***name == *ROLE);
        for name in first.chain(self.0.keys().filter(|name| ***name != *ROLE)).filter(|name| gone(name)) {
            // Writing to a String cannot fail.
            let _ = write!(sql, "RESET {};", quoted_name(name));
        }
        let mut changed: Vec<_> = wanted.0.iter().filter(|(name, value)| self.0.get(*name) != Some(*value)).collect();
        changed.sort_by_key(|(name, _)| ***name == *ROLE);
        for (name, value) in changed {
            let _ = match value {
                Value::Sql(text) => write!(sql, "SET {text};"),
                Value::Raw(value) => {
                    write!(sql, "SELECT pg_catalog.set_config({}, {}, false);", literal(name), literal(value))
                }
            };
        }
        (!sql.is_empty()).then_some(sql)
    }
}

const ROLE: &str = "role";
const TRANSIENT: [&str; 3] = ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];

/// A text as a literal that means the same whatever `standard_conforming_strings` is.
pub(crate) fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// A name with its parts in quotes.
fn quoted_name(name: &str) -> String {
    name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(of: &[(&str, Value)]) -> Settings {
        Settings(of.iter().map(|(name, value)| ((*name).into(), value.clone())).collect())
    }

    #[test]
    fn the_difference_is_run_and_no_more() {
        let raw = |value: &str| Value::Raw(value.into());
        let sql = |value: &str| Value::Sql(value.into());
        let had = settings(&[("a.b", raw("1")), ("datestyle", raw("ISO")), ("role", sql("ROLE ada"))]);
        let wants = settings(&[("datestyle", raw("ISO")), ("zone", sql("zone TO 'x'")), ("c", raw(r"it's\"))]);
        assert_eq!(
            had.way_to(&wants).unwrap(),
            r#"RESET "role";RESET "a"."b";SELECT pg_catalog.set_config('c',  E'it''s\\', false);SET zone TO 'x';"#
        );
        assert_eq!(wants.way_to(&wants), None);
        assert!(wants.way_to(&had).unwrap().ends_with("SET ROLE ada;"), "the role comes last");
    }
}
