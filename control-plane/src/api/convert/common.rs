//! Times, sizes, errors.

use jiff::{SignedDuration, Timestamp};
use windlass_core::{Error, size::Resources};
use windlass_proto::api::v1 as pb;

use crate::api::error::code;

/// A moment.
pub(in crate::api) fn time(at: Timestamp) -> pbjson_types::Timestamp {
    pbjson_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

/// A span given in `field`; None when it is absent.
///
/// # Errors
/// `INVALID_FIELD` when it is no span.
pub(in crate::api) fn duration(
    field: &str,
    given: Option<pbjson_types::Duration>,
) -> Result<Option<SignedDuration>, Error> {
    let Some(given) = given else { return Ok(None) };
    if given.nanos.unsigned_abs() >= 1_000_000_000 || given.seconds.checked_neg().is_none() {
        return Err(Error::invalid(field, "is not a duration; write for example 3600s"));
    }
    Ok(Some(SignedDuration::new(given.seconds, given.nanos)))
}

/// A span for the wire.
pub(in crate::api) fn to_duration(span: SignedDuration) -> pbjson_types::Duration {
    pbjson_types::Duration { seconds: span.as_secs(), nanos: span.subsec_nanos() }
}

/// A size for the wire.
pub(in crate::api) fn resources(size: Resources) -> pb::Resources {
    pb::Resources { cpu_millis: size.cpu_millis, memory_bytes: size.memory_bytes, disk_bytes: size.disk_bytes }
}

/// A size from the wire; absent parts are 0.
pub(in crate::api) fn size(given: Option<&pb::Resources>) -> Resources {
    given.map_or_else(Resources::default, |given| Resources {
        cpu_millis: given.cpu_millis,
        memory_bytes: given.memory_bytes,
        disk_bytes: given.disk_bytes,
    })
}

/// An error as it is shown with the resource that has it.
pub(in crate::api) fn failure(error: &Error) -> pb::Status {
    pb::Status {
        code: canonical(error),
        reason: error.reason.to_string(),
        message: error.message.clone(),
        retryable: error.retryable(),
        violations: error
            .violations
            .iter()
            .map(|v| pb::FieldViolation { field: v.field.clone(), description: v.description.clone() })
            .collect(),
        metadata: error.metadata.clone(),
    }
}

/// `FailedPrecondition` as `FAILED_PRECONDITION`.
fn canonical(error: &Error) -> String {
    let mut text = String::new();
    for letter in format!("{:?}", code(error.kind)).chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use windlass_core::Reason;

    use super::*;

    #[test]
    fn codes_have_their_canonical_names() {
        let code = |error: &Error| failure(error).code;
        assert_eq!(code(&Error::precondition(Reason::NotEmpty, "x")), "FAILED_PRECONDITION");
        assert_eq!(code(&Error::internal("x")), "INTERNAL");
        assert_eq!(code(&Error::not_found("x", "y")), "NOT_FOUND");
    }

    #[test]
    fn impossible_durations_are_refused() {
        let span = |seconds, nanos| duration("ttl", Some(pbjson_types::Duration { seconds, nanos }));
        assert_eq!(span(3, 500_000_000).expect("legal"), Some(SignedDuration::from_millis(3500)));
        assert_eq!(duration("ttl", None).expect("absent"), None);
        span(0, i32::MAX).expect_err("nanos");
        span(i64::MIN, 0).expect_err("seconds");
    }
}
