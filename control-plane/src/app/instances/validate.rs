//! Checks of what a user asks of an instance that need no database.
//!
//! Every function names the field as the API does, the limit and the remedy.

use std::collections::BTreeMap;

use windlass_core::{Error, error::FieldViolation, size::Resources};

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

/// The size that is asked for: parts that are 0 take the default. Checked against the limits.
///
/// # Errors
/// `INVALID_FIELD` with one violation for each part out of range.
pub fn resources(field: &str, asked: Resources) -> Result<Resources, Error> {
    let or = |value: u64, default: u64| if value == 0 { default } else { value };
    let size = Resources {
        cpu_millis: or(asked.cpu_millis, Resources::DEFAULT.cpu_millis),
        memory_bytes: or(asked.memory_bytes, Resources::DEFAULT.memory_bytes),
        disk_bytes: or(asked.disk_bytes, Resources::DEFAULT.disk_bytes),
    };
    size.check().map_err(|error| error.under(field))?;
    Ok(size)
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
        windlass_core::ErrorKind::Aborted,
        windlass_core::Reason::EtagMismatch,
        format!("the etag {given:?} is not the current one; read the resource again and repeat the change on it"),
    )
    .with_metadata("etag", revision))
}

#[cfg(test)]
mod tests {
    use windlass_core::{Reason, size::GIB};

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
    fn missing_parts_of_a_size_take_the_default() {
        let size = resources("r", Resources { memory_bytes: GIB, ..Resources::default() }).expect("legal");
        assert_eq!(size, Resources { memory_bytes: GIB, ..Resources::DEFAULT });
        let error = resources("instance.resources", Resources { cpu_millis: 1, ..Resources::default() });
        assert_eq!(error.expect_err("tiny").violations[0].field, "instance.resources.cpu_millis");
    }

    #[test]
    fn an_old_etag_is_refused_and_no_etag_is_fine() {
        etag("", 7).expect("none given");
        etag("7", 7).expect("current");
        assert_eq!(etag("6", 7).expect_err("old").reason, Reason::EtagMismatch);
    }
}
