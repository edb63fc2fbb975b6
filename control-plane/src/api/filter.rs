//! List filters: terms joined by ` AND `, each `label.KEY=VALUE` or `FIELD=VALUE` with a field that the list knows.

use std::collections::BTreeMap;

use windlass_core::{Error, error::nearest};

/// A parsed filter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Filter {
    /// Labels that must be carried.
    pub labels: BTreeMap<String, String>,
    fields: BTreeMap<String, String>,
}

impl Filter {
    /// Parses a filter; `known` are the fields beside labels.
    ///
    /// # Errors
    /// `INVALID_FIELD` on `filter`, naming the term that is wrong and what is known.
    pub(super) fn parse(text: &str, known: &[&str]) -> Result<Self, Error> {
        let mut filter = Self::default();
        if text.trim().is_empty() {
            return Ok(filter);
        }
        for term in text.split(" AND ") {
            let term = term.trim();
            let (key, value) = term.split_once('=').ok_or_else(|| wrong(term, "is not KEY=VALUE", known))?;
            let (key, value) = (key.trim(), value.trim().trim_matches('"'));
            let place = match key.strip_prefix("label.").or_else(|| key.strip_prefix("labels.")) {
                Some("") => return Err(wrong(term, "names no label", known)),
                Some(label) => filter.labels.insert(label.to_owned(), value.to_owned()),
                None if known.contains(&key) => filter.fields.insert(key.to_owned(), value.to_owned()),
                None => {
                    let hint = nearest(key, known.iter().copied()).map(|n| format!("; did you mean {n}?"));
                    return Err(wrong(term, &format!("names an unknown field{}", hint.unwrap_or_default()), known));
                }
            };
            if place.is_some_and(|earlier| earlier != value) {
                return Err(wrong(term, "contradicts an earlier term on the same key", known));
            }
        }
        Ok(filter)
    }

    /// The value asked for a field.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// The value asked for a field, as one of a closed list of words.
    ///
    /// # Errors
    /// `INVALID_FIELD` on `filter` with the known words.
    pub(super) fn word<T: std::str::FromStr<Err = Error>>(&self, name: &str) -> Result<Option<T>, Error> {
        let Some(value) = self.field(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|error: Error| Error::invalid("filter", format!("{name}: {}", error.message)))
    }
}

fn wrong(term: &str, what: &str, known: &[&str]) -> Error {
    let fields: String = known.iter().map(|field| format!(", {field}=VALUE")).collect();
    Error::invalid("filter", format!("the term {term:?} {what}; join terms by \" AND \", each label.KEY=VALUE{fields}"))
}

#[cfg(test)]
mod tests {
    use windlass_core::instance::Lifecycle;

    use super::*;

    #[test]
    fn labels_and_fields_are_read() {
        let filter = Filter::parse("label.tier=gold AND state=RUNNING AND label.a=\"b c\"", &["state"]).expect("good");
        assert_eq!(filter.labels["tier"], "gold");
        assert_eq!(filter.labels["a"], "b c");
        assert_eq!(filter.word::<Lifecycle>("state").expect("word"), Some(Lifecycle::Running));
        assert_eq!(Filter::parse("  ", &[]).expect("empty"), Filter::default());
    }

    #[test]
    fn the_bad_term_is_named() {
        for (text, term, why) in [
            ("label.a=b AND stat=RUNNING", "stat=RUNNING", "did you mean state?"),
            ("state", "state", "is not KEY=VALUE"),
            ("label.=x", "label.=x", "names no label"),
            ("state=A AND state=B", "state=B", "contradicts"),
            ("label.a=b OR label.c=d AND x", "x", "is not KEY=VALUE"),
        ] {
            let error = Filter::parse(text, &["state"]).expect_err(text);
            assert!(error.message.contains(&format!("{term:?}")) && error.message.contains(why), "{error}");
        }
        let error = Filter::parse("state=WALKING", &["state"]).expect("parses").word::<Lifecycle>("state");
        assert!(error.expect_err("no such state").message.contains("RUNNING"));
    }
}
