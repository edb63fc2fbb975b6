//! What can go wrong for the user of the command, and the one place that maps it to an exit code.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use tonic_types::StatusExt as _;
use windlass_core::{ErrorKind, Reason};
use windlass_proto::api::v1 as pb;

use crate::output::Format;

/// Exit code of a wrong command line or request.
pub(crate) const USAGE: u8 = 2;

/// Why a command failed. The text is for the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line or the configuration is wrong.
    #[error("{0}")]
    Usage(String),
    /// Something on this machine: a file, a program, the terminal.
    #[error("{0}")]
    Local(String),
    /// The control plane cannot be reached.
    #[error("cannot reach the control plane at {endpoint}: {cause}")]
    Unreachable { endpoint: String, cause: String },
    /// There is no API key to call with.
    #[error("no API key; set WINDLASS_TOKEN, or store one in a profile with `windlass profile set`")]
    NoKey,
    /// The API refused the call.
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
    /// The operation ended without success.
    #[error("{operation} failed: {}", .refusal.message)]
    Operation { operation: String, target: String, refusal: Box<Refusal> },
    /// The operation is not done within the time given.
    #[error("{operation} is not done after {}; it goes on", crate::units::show_span(.after.as_secs()))]
    TimedOut { operation: String, after: Duration },
    /// The user pressed Ctrl-C while waiting.
    #[error("detached; {operation} goes on")]
    Interrupted { operation: String },
    /// The user did not confirm.
    #[error("not confirmed; nothing was changed")]
    NotConfirmed,
    /// A check of `doctor` failed; its output has said everything.
    #[error("{0} of the checks failed")]
    Unhealthy(usize),
}

/// A refusal by the API, from a failed call or a failed operation.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) kind: ErrorKind,
    /// UPPER_SNAKE; may be one that this version does not know.
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Field and description.
    pub(crate) violations: Vec<(String, String)>,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Failure {
    /// The exit code: 0 ok · 1 failure · 2 usage · 3 not found · 4 key or permission · 5 conflict or precondition ·
    /// 6 operation failed · 7 quota or capacity · 124 wait timed out · 130 interrupted.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Local(_) | Self::Unreachable { .. } | Self::NotConfirmed | Self::Unhealthy(_) => 1,
            Self::NoKey => 4,
            Self::Refused(refusal) => refusal.exit_code(),
            Self::Operation { .. } => 6,
            Self::TimedOut { .. } => 124,
            Self::Interrupted { .. } => 130,
        }
    }

    /// What the API said, if it said something.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) | Self::Operation { refusal, .. } => Some(refusal),
            Self::Usage(_)
            | Self::Local(_)
            | Self::Unreachable { .. }
            | Self::NoKey
            | Self::TimedOut { .. }
            | Self::Interrupted { .. }
            | Self::NotConfirmed
            | Self::Unhealthy(_) => None,
        }
    }

    /// Whether the named thing does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.kind == ErrorKind::NotFound)
    }

    /// Prints it to stderr: the message, each violation on a line of its own, the reason, a suggestion. Where the
    /// output is JSON, so is the error.
    pub(crate) fn print(&self, hint: Option<&str>, format: Format) {
        match format {
            Format::Json => eprintln!("{}", self.document(hint)),
            Format::Table | Format::Yaml | Format::Name => eprint!("{}", self.text(hint)),
        }
    }

    fn document(&self, hint: Option<&str>) -> serde_json::Value {
        let mut error = serde_json::json!({"message": self.to_string(), "exit_code": self.exit_code()});
        if let Some(refusal) = self.refusal() {
            let violations: Vec<_> = refusal
                .violations
                .iter()
                .map(|(field, description)| serde_json::json!({"field": field, "description": description}))
                .collect();
            error["code"] = serde_json::json!(refusal.kind);
            error["reason"] = serde_json::json!(refusal.reason);
            error["violations"] = serde_json::json!(violations);
            error["metadata"] = serde_json::json!(refusal.metadata);
        }
        if let Some(hint) = hint {
            error["hint"] = serde_json::json!(hint);
        }
        serde_json::json!({ "error": error })
    }

    fn text(&self, hint: Option<&str>) -> String {
        let mut text = String::new();
        let refusal = self.refusal();
        match refusal {
            Some(refusal) if refusal.violations.len() > 1 => {
                text.push_str("error: the request breaks these rules:\n");
                for (field, description) in &refusal.violations {
                    let _ = writeln!(text, "  {field}: {description}");
                }
            }
            Some(_) | None => {
                let _ = writeln!(text, "error: {self}");
            }
        }
        if let Some(refusal) = refusal.filter(|refusal| !refusal.reason.is_empty()) {
            let _ = writeln!(text, "reason: {}", refusal.reason);
        }
        if let Some(hint) = hint {
            let _ = writeln!(text, "hint: {hint}");
        }
        text
    }
}

impl Refusal {
    fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::InvalidArgument => USAGE,
            ErrorKind::NotFound => 3,
            ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => 4,
            ErrorKind::AlreadyExists | ErrorKind::FailedPrecondition | ErrorKind::Aborted => 5,
            ErrorKind::ResourceExhausted if self.reason == "RATE_LIMITED" => 1,
            ErrorKind::ResourceExhausted => 7,
            ErrorKind::DeadlineExceeded | ErrorKind::Cancelled | ErrorKind::Unavailable | ErrorKind::Internal => 1,
        }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(Refusal::from(&status)))
    }
}

impl From<&tonic::Status> for Refusal {
    fn from(status: &tonic::Status) -> Self {
        let details = status.get_error_details();
        let (reason, metadata) = match details.error_info() {
            Some(info) => (info.reason.clone(), info.metadata.clone().into_iter().collect()),
            None => (String::new(), BTreeMap::new()),
        };
        let violations = details.bad_request().map_or_else(Vec::new, |bad| {
            bad.field_violations.iter().map(|v| (v.field.clone(), v.description.clone())).collect()
        });
        if let Some(cause) = std::error::Error::source(status) {
            return Self {
                kind: ErrorKind::Unavailable,
                reason: Reason::Unavailable.as_str().to_owned(),
                message: format!("lost the connection to the control plane: {}", root_cause(cause)),
                violations,
                metadata,
            };
        }
        let message = match (status.message(), status.code()) {
            ("", tonic::Code::Unimplemented) => "the control plane does not know this call; is it older?".to_owned(),
            ("", code) => code.description().to_owned(),
            (message, _) => message.to_owned(),
        };
        Self { kind: kind(status.code()), reason, message, violations, metadata }
    }
}

/// Whether the call found no control plane, or lost it in the middle. Only what the transport made of an error of its
/// own has a source; an answer of the control plane never has.
pub(crate) fn unreached(status: &tonic::Status) -> bool {
    status.code() == tonic::Code::Unavailable || std::error::Error::source(status).is_some()
}

impl From<&pb::Status> for Refusal {
    fn from(status: &pb::Status) -> Self {
        let kind = serde_json::from_value(serde_json::Value::String(status.code.clone()));
        Self {
            kind: kind.unwrap_or(ErrorKind::Internal),
            reason: status.reason.clone(),
            message: status.message.clone(),
            violations: status.violations.iter().map(|v| (v.field.clone(), v.description.clone())).collect(),
            metadata: status.metadata.clone(),
        }
    }
}

/// The innermost error: it alone says what happened ("Connection refused"), the others say where.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn kind(code: tonic::Code) -> ErrorKind {
    use tonic::Code;
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidArgument,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::FailedPrecondition => ErrorKind::FailedPrecondition,
        Code::Aborted => ErrorKind::Aborted,
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::Cancelled => ErrorKind::Cancelled,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: ErrorKind, reason: &str) -> Refusal {
        Refusal {
            kind,
            reason: reason.to_owned(),
            message: "no".to_owned(),
            violations: Vec::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// The documented table; a script depends on every line.
    #[test]
    fn exit_codes_are_exactly_these() {
        let operation = || "operations/1".to_owned();
        let refusal = |kind, reason: &str| Failure::Refused(Box::new(refused(kind, reason)));
        let table = [
            (Failure::Local(String::new()), 1),
            (Failure::Unreachable { endpoint: String::new(), cause: String::new() }, 1),
            (Failure::NotConfirmed, 1),
            (Failure::Unhealthy(1), 1),
            (Failure::Usage(String::new()), 2),
            (refusal(ErrorKind::InvalidArgument, "INVALID_FIELD"), 2),
            (refusal(ErrorKind::NotFound, "NOT_FOUND"), 3),
            (Failure::NoKey, 4),
            (refusal(ErrorKind::Unauthenticated, "KEY_INVALID"), 4),
            (refusal(ErrorKind::PermissionDenied, "PERMISSION_MISSING"), 4),
            (refusal(ErrorKind::AlreadyExists, "NAME_IN_USE"), 5),
            (refusal(ErrorKind::FailedPrecondition, "INSTANCE_BUSY"), 5),
            (refusal(ErrorKind::Aborted, "ETAG_MISMATCH"), 5),
            (
                Failure::Operation {
                    operation: operation(),
                    target: String::new(),
                    refusal: Box::new(refused(ErrorKind::NotFound, "")),
                },
                6,
            ),
            (refusal(ErrorKind::ResourceExhausted, "QUOTA_EXCEEDED"), 7),
            (refusal(ErrorKind::ResourceExhausted, "NO_HOST_FITS"), 7),
            (refusal(ErrorKind::ResourceExhausted, "RATE_LIMITED"), 1),
            (refusal(ErrorKind::Unavailable, "UNAVAILABLE"), 1),
            (refusal(ErrorKind::DeadlineExceeded, ""), 1),
            (refusal(ErrorKind::Cancelled, ""), 1),
            (refusal(ErrorKind::Internal, "INTERNAL"), 1),
            (Failure::TimedOut { operation: operation(), after: Duration::from_secs(1) }, 124),
            (Failure::Interrupted { operation: operation() }, 130),
        ];
        for (failure, code) in table {
            assert_eq!(failure.exit_code(), code, "{failure:?}");
        }
    }

    #[test]
    fn several_violations_are_listed_and_one_is_a_sentence() {
        let mut refusal = refused(ErrorKind::InvalidArgument, "INVALID_FIELD");
        refusal.message = "a: x; b: y".to_owned();
        refusal.violations = vec![("a".to_owned(), "x".to_owned()), ("b".to_owned(), "y".to_owned())];
        let text = Failure::Refused(Box::new(refusal.clone())).text(Some("do this"));
        assert_eq!(
            text,
            "error: the request breaks these rules:\n  a: x\n  b: y\nreason: INVALID_FIELD\nhint: do this\n"
        );
        refusal.violations.truncate(1);
        refusal.message = "a: x".to_owned();
        assert_eq!(Failure::Refused(Box::new(refusal)).text(None), "error: a: x\nreason: INVALID_FIELD\n");
    }
}
