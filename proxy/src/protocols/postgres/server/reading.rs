//! Under which settings a server reads the text of a statement.
//!
//! Literals become values when a statement is prepared, by the time zone and the like of that moment. Clients that differ
//! in these must not share a statement, or one would get what the other one's literals mean.

use std::sync::Arc;

use crate::protocols::postgres::sql::{Effect, PATH, REPORTED, Settings, Value, is_read_by};

/// Values of these settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reading {
    reported: Arc<[u8]>,
    path: Option<Value>,
}

impl Reading {
    pub(crate) fn new(reported: &Arc<[u8]>, settings: &Settings) -> Self {
        Self { reported: reported.clone(), path: settings.get(PATH).cloned() }
    }

    /// Whether what a server reports is the same. The path need not be: the server minds it at each use.
    pub(crate) fn is_under(&self, reported: &Arc<[u8]>) -> bool {
        self.reported == *reported
    }
}

pub(crate) fn concerns(parameter: &str) -> bool {
    REPORTED.iter().any(|name| name.eq_ignore_ascii_case(parameter))
}

/// The part of a reading that a server reports, from its parameters.
pub(crate) fn reported(parameters: &[(String, Vec<u8>)]) -> Arc<[u8]> {
    let value = |name: &&str| {
        let mut known = parameters.iter();
        known.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
    };
    REPORTED.iter().map(|name| value(name).unwrap_or_default()).collect::<Vec<_>>().join(&0).into()
}

/// Whether texts mean something else after it.
pub(crate) fn changes(effect: &Effect) -> bool {
    match effect {
        Effect::Set(name, _) | Effect::Reset(name) => is_read_by(name),
        Effect::Local | Effect::ResetAll | Effect::DiscardAll => true,
        Effect::Deallocate(_) | Effect::DeallocateAll | Effect::Pin(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_equal_if_texts_mean_the_same() {
        let of = |zone: &str| reported(&[("TimeZone".into(), zone.into()), ("other".into(), zone.into())]);
        let plain = Settings::default();
        let mut pathed = Settings::default();
        pathed.set("search_path", Value::Raw("app".into()));
        let utc = Reading::new(&of("UTC"), &plain);
        assert!(utc.is_under(&of("UTC")) && !utc.is_under(&of("Etc/UTC")));
        assert_eq!(Reading::new(&of("UTC"), &plain), utc);
        assert_ne!(Reading::new(&of("UTC"), &pathed), utc);
        assert!(changes(&Effect::Reset("timezone".into())) && !changes(&Effect::Reset("work_mem".into())));
    }
}
