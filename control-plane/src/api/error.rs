//! From [`windlass_core::Error`] to a gRPC status, in this one place.
//!
//! Every failed call carries `ErrorInfo` with the stable reason and the domain `windlass`; what else fits the error
//! follows: `BadRequest`, `PreconditionFailure`, `QuotaFailure`, `ResourceInfo`, `RetryInfo` (AIP-193). The source
//! chain goes to the log and never to the caller.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, QuotaViolation, StatusExt as _};
use windlass_core::{Error, ErrorKind, Reason};

/// Domain of every reason.
pub const DOMAIN: &str = "windlass";

/// Fact of an error that says when to try again, in milliseconds.
pub const RETRY_AFTER_MS: &str = "retry_after_ms";

/// After how long a caller shall repeat a call that may succeed then and that does not say so itself.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Longest message on the wire, in bytes: it travels in an HTTP/2 header, percent-encoded.
const MESSAGE_MAX: usize = 2000;

/// The status of an error. A broken machine or a bug is logged here with its source chain.
pub fn status(error: &Error) -> Status {
    match error.kind {
        ErrorKind::Internal => tracing::error!(error = error.chain(), "a call failed"),
        ErrorKind::Unavailable => tracing::warn!(error = error.chain(), "a call failed"),
        ErrorKind::InvalidArgument
        | ErrorKind::Unauthenticated
        | ErrorKind::PermissionDenied
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::FailedPrecondition
        | ErrorKind::Aborted
        | ErrorKind::ResourceExhausted
        | ErrorKind::DeadlineExceeded
        | ErrorKind::Cancelled => {}
    }
    Status::with_error_details(code(error.kind), cut(&error.message), details(error))
}

/// The status for a call that this version does not have.
pub fn unknown_call(path: &str) -> Status {
    let message = format!("this control plane has no call {path}; its version may be older than the client's");
    let details = ErrorDetails::with_error_info(Reason::NotSupported.as_str(), DOMAIN, HashMap::new());
    Status::with_error_details(Code::Unimplemented, cut(&message), details)
}

/// The canonical code of a kind.
pub fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::Aborted => Code::Aborted,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Internal => Code::Internal,
    }
}

fn details(error: &Error) -> ErrorDetails {
    let facts: HashMap<String, String> = error.metadata.clone().into_iter().collect();
    let fact = |name: &str| error.metadata.get(name).cloned().unwrap_or_default();
    let mut details = ErrorDetails::with_error_info(error.reason.as_str(), DOMAIN, facts);
    if !error.violations.is_empty() {
        let violations: Vec<_> =
            error.violations.iter().map(|v| FieldViolation::new(v.field.clone(), v.description.clone())).collect();
        details.set_bad_request(violations);
    }
    if error.kind == ErrorKind::FailedPrecondition {
        let violation = PreconditionViolation::new(error.reason.as_str(), fact("resource_name"), cut(&error.message));
        details.set_precondition_failure(vec![violation]);
    }
    if error.reason == Reason::QuotaExceeded {
        details.set_quota_failure(vec![QuotaViolation::new(fact("metric"), cut(&error.message))]);
    }
    if matches!(error.kind, ErrorKind::NotFound | ErrorKind::AlreadyExists) {
        details.set_resource_info(fact("resource_type"), fact("resource_name"), "", cut(&error.message));
    }
    if let Some(after) = retry_after(error) {
        details.set_retry_info(Some(after));
    }
    details
}

fn retry_after(error: &Error) -> Option<Duration> {
    let asked = error.metadata.get(RETRY_AFTER_MS).and_then(|text| text.parse().ok()).map(Duration::from_millis);
    asked.or_else(|| error.retryable().then_some(RETRY_AFTER))
}

fn cut(message: &str) -> String {
    if message.len() <= MESSAGE_MAX {
        return message.to_owned();
    }
    let end = (0..=MESSAGE_MAX).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_carries_its_reason_and_what_else_fits() {
        let wrong = status(&Error::invalid("size", "too big"));
        assert_eq!(wrong.code(), Code::InvalidArgument);
        let details = wrong.get_error_details();
        let info = details.error_info().expect("info");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_FIELD", "windlass"));
        assert_eq!(details.bad_request().expect("bad request").field_violations[0].field, "size");
        assert!(details.retry_info().is_none());

        let missing = status(&Error::not_found("project", "projects/x")).get_error_details();
        let resource = missing.resource_info().expect("resource");
        assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), ("project", "projects/x"));

        let busy = status(&Error::precondition(Reason::InstanceBusy, "busy")).get_error_details();
        assert_eq!(busy.precondition_failure().expect("precondition").violations[0].r#type, "INSTANCE_BUSY");

        let away = status(&Error::unavailable("away")).get_error_details();
        assert_eq!(away.retry_info().expect("retry").retry_delay, Some(RETRY_AFTER));
        let limited = Error::new(ErrorKind::ResourceExhausted, Reason::RateLimited, "slow down");
        let limited = status(&limited.with_metadata(RETRY_AFTER_MS, 40)).get_error_details();
        assert_eq!(limited.retry_info().expect("retry").retry_delay, Some(Duration::from_millis(40)));
    }

    #[test]
    fn sources_stay_in_the_log_and_long_messages_are_cut_between_characters() {
        let shown = status(&Error::internal("broken").with_source(std::io::Error::other("secret path")));
        assert_eq!(shown.message(), "broken");
        let long = status(&Error::internal("ü".repeat(3000)));
        assert!(long.message().len() <= MESSAGE_MAX + "…".len());
    }
}
