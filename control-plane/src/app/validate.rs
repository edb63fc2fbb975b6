//! Checks that every kind of resource shares: labels, etags, titles, life spans.
//!
//! Every function names the field as the API does, the limit and the remedy.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use windlass_core::{Error, ErrorKind, Reason, error::FieldViolation};

/// The most labels of one resource.
pub const LABELS_MAX: usize = 64;
/// The longest key or value of a label, in bytes.
pub const LABEL_TEXT_MAX: usize = 63;

/// Checks labels given in `field`.
///
/// # Errors
/// `INVALID_FIELD` with one violation for each label that breaks a rule.
pub fn labels(field: &str, labels: &BTreeMap<String, String>) -> Result<(), Error> {
    if labels.len() > LABELS_MAX {
        return Err(Error::invalid(field, format!("has {} labels; give at most {LABELS_MAX}", labels.len())));
    }
    let violations: Vec<FieldViolation> = labels
        .iter()
        .filter_map(|(key, value)| {
            let description = label_fault(key, value)?;
            Some(FieldViolation { field: format!("{field}.{key}"), description })
        })
        .collect();
    if violations.is_empty() { Ok(()) } else { Err(Error::violations(violations)) }
}

fn label_fault(key: &str, value: &str) -> Option<String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.' | '/');
    if key.is_empty() || key.len() > LABEL_TEXT_MAX || !key.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Some(format!("the key must have 1 to {LABEL_TEXT_MAX} characters and start with a letter a-z"));
    }
    if !key.chars().all(inner) {
        return Some("the key may have a-z, 0-9 and - _ . / only".to_owned());
    }
    if value.len() > LABEL_TEXT_MAX {
        return Some(format!("the value has {} bytes; use at most {LABEL_TEXT_MAX}", value.len()));
    }
    value.chars().any(char::is_control).then(|| "the value has a control character; remove it".to_owned())
}

/// Checks an etag, if one is given, against the revision it must name.
///
/// # Errors
/// `ETAG_MISMATCH`.
pub fn etag(given: &str, revision: i64) -> Result<(), Error> {
    if given.is_empty() || given == revision.to_string() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Aborted,
        Reason::EtagMismatch,
        format!("the etag {given:?} is not the current one; read the resource again and repeat the change on it"),
    )
    .with_metadata("etag", revision))
}

/// Checks a text for people: 0 to 63 bytes (DNS names and titles fit), no control characters.
///
/// # Errors
/// `INVALID_FIELD` on `field`.
pub fn text(field: &str, text: &str) -> Result<(), Error> {
    if text.len() > LABEL_TEXT_MAX {
        return Err(Error::invalid(field, format!("has {} bytes; use at most {LABEL_TEXT_MAX}", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(field, "has a control character; remove it"));
    }
    Ok(())
}

/// Checks a life span against its limits.
///
/// # Errors
/// `INVALID_FIELD` on `field`.
pub fn life(field: &str, life: SignedDuration, shortest: SignedDuration, longest: SignedDuration) -> Result<(), Error> {
    if life < shortest || life > longest {
        return Err(Error::invalid(field, format!("{life:#} is outside {shortest:#} to {longest:#}")));
    }
    Ok(())
}

/// Checks a number against its limits.
///
/// # Errors
/// `INVALID_FIELD` on `field`.
pub fn number(field: &str, value: f64, low: f64, high: f64) -> Result<(), Error> {
    // Written so that NaN is refused too.
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{value} is outside {low} to {high}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn labels_have_a_shape_and_a_number() {
        labels("instance.labels", &one("team.example/name", "Core DB")).expect("legal");
        for (key, value, why) in [
            ("", "x", "start with a letter"),
            ("Team", "x", "start with a letter"),
            ("te am", "x", "a-z, 0-9"),
            ("team", "a\nb", "control character"),
            ("team", &"x".repeat(64), "64 bytes"),
        ] {
            let error = labels("instance.labels", &one(key, value)).expect_err(why);
            assert!(error.message.contains(why), "{error}");
        }
        let many = (0..=LABELS_MAX).map(|i| (format!("k{i}"), String::new())).collect();
        assert!(labels("labels", &many).expect_err("65").message.contains("at most 64"));
    }

    #[test]
    fn an_old_etag_is_refused_and_no_etag_is_fine() {
        etag("", 7).expect("none given");
        etag("7", 7).expect("current");
        assert_eq!(etag("6", 7).expect_err("old").reason, Reason::EtagMismatch);
    }

    #[test]
    fn numbers_and_texts_out_of_range_are_refused() {
        number("x", 1.0, 0.1, 10.0).expect("legal");
        for bad in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
            number("x", bad, 0.1, 10.0).expect_err("out of range");
        }
        text("title", &"x".repeat(64)).expect_err("too long");
        text("title", "a\u{7}").expect_err("bell");
    }
}
