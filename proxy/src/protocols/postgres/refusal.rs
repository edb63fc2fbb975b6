//! What a client is told before its connection ends.

use windlass_core::{Error, ErrorKind, Reason};
use windlass_wire_pg::{Report, Severity, SqlState, frame::write, report::write_report};

use crate::hold::Unheld;

/// An error report for a client, ready to be sent, and its text for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    message: String,
    bytes: Vec<u8>,
}

impl Refusal {
    pub(crate) fn new(code: SqlState, message: &str, hint: &str) -> Self {
        let mut bytes = Vec::new();
        write_report(&mut bytes, Severity::Fatal, code, message, hint);
        Self { message: message.to_owned(), bytes }
    }

    /// What a server said, passed on as it is. `body` is the body of its ErrorResponse.
    pub(crate) fn of_server(body: &[u8]) -> Self {
        let message = Report::parse(body).map(|report| report.message.to_owned()).unwrap_or_default();
        let mut bytes = Vec::new();
        write(&mut bytes, b'E', |out| out.extend_from_slice(body));
        Self { message, bytes }
    }

    /// Bytes that break the protocol.
    pub(crate) fn protocol(error: &Error) -> Self {
        Self::new(SqlState::PROTOCOL_VIOLATION, &error.message, "")
    }

    /// The message to be sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// For the log.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let code = match (error.kind, error.reason) {
            (_, Reason::QuotaExceeded) | (ErrorKind::ResourceExhausted, _) => SqlState::TOO_MANY_CONNECTIONS,
            (ErrorKind::NotFound, _) => SqlState::UNKNOWN_DATABASE,
            (ErrorKind::InvalidArgument | ErrorKind::Unauthenticated | ErrorKind::PermissionDenied, _) => {
                SqlState::INVALID_AUTHORIZATION
            }
            (ErrorKind::Unavailable | ErrorKind::DeadlineExceeded | ErrorKind::FailedPrecondition, _) => {
                SqlState::CANNOT_CONNECT_NOW
            }
            (ErrorKind::AlreadyExists | ErrorKind::Aborted | ErrorKind::Cancelled | ErrorKind::Internal, _) => {
                SqlState::INTERNAL
            }
        };
        Self::new(code, &error.message, "")
    }
}

impl From<(&str, Unheld)> for Refusal {
    /// Of the instance with this key.
    fn from((key, why): (&str, Unheld)) -> Self {
        match why {
            Unheld::Full => Self::new(
                SqlState::CANNOT_CONNECT_NOW,
                &format!("instance {key} has no primary now, and the proxy holds as many clients as it may"),
                "Try again in a moment.",
            ),
            Unheld::TooLong(time) => Self::new(
                SqlState::CANNOT_CONNECT_NOW,
                &format!("instance {key} had no primary for {} s", time.as_secs()),
                "Try again; `windlass instance explain` says what it waits for.",
            ),
            Unheld::Closed(reason) => {
                Self::new(SqlState::CANNOT_CONNECT_NOW, &format!("instance {key} is not open: {reason}"), "")
            }
        }
    }
}
