//! What a command's end looks like on the wire.

use windlass_core::{Error, error::ErrorKind};
use windlass_proto::agent::v1::{self as pb, command_result::Outcome};

/// The outcome to report. An error of kind `Cancelled` means that nothing half-done is left.
pub(super) fn of(done: Result<pb::MemberFacts, Error>) -> Outcome {
    match done {
        Ok(facts) => Outcome::Succeeded(facts),
        Err(error) if error.kind == ErrorKind::Cancelled => Outcome::Cancelled(true),
        Err(error) => Outcome::Failed(pb::Failure {
            reason: error.reason.to_string(),
            retryable: error.retryable(),
            message: error.message,
        }),
    }
}
