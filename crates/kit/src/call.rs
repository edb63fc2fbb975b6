//! One call to the control plane: its time limit, and what its failure means.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;
use windlass_core::{Error, Reason, error::ErrorKind};

use crate::tls;

/// How long an answer may take that is not held on purpose.
pub const ANSWER: Duration = Duration::from_secs(15);

/// Makes a call with a time limit.
///
/// # Errors
/// `UNAVAILABLE` if there is no answer in time; otherwise what the control plane said.
pub async fn call<T>(limit: Duration, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Error> {
    match timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(from_status(&status)),
        Err(_) => Err(Error::unavailable(format!("the control plane did not answer within {limit:?}"))),
    }
}

/// Whether the control plane does not want the caller: hurrying back would not help.
pub fn is_refusal(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Unauthenticated | ErrorKind::PermissionDenied)
}

fn from_status(status: &Status) -> Error {
    if let Some(refusal) = tls::refusal(status) {
        return refusal;
    }
    let (kind, usual) = match status.code() {
        Code::Unauthenticated => (ErrorKind::Unauthenticated, Reason::HostCertificateInvalid),
        Code::PermissionDenied => (ErrorKind::PermissionDenied, Reason::PermissionMissing),
        Code::InvalidArgument | Code::OutOfRange => (ErrorKind::InvalidArgument, Reason::InvalidField),
        Code::FailedPrecondition => (ErrorKind::FailedPrecondition, Reason::StateForbids),
        Code::NotFound => (ErrorKind::NotFound, Reason::NotFound),
        Code::AlreadyExists => (ErrorKind::AlreadyExists, Reason::NameInUse),
        Code::Aborted => (ErrorKind::Aborted, Reason::Fenced),
        Code::ResourceExhausted => (ErrorKind::ResourceExhausted, Reason::Unavailable),
        Code::Unimplemented => (ErrorKind::FailedPrecondition, Reason::NotSupported),
        Code::Internal | Code::DataLoss => (ErrorKind::Internal, Reason::Internal),
        Code::Ok | Code::Unknown | Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => {
            (ErrorKind::Unavailable, Reason::Unavailable)
        }
    };
    let reason = status.get_details_error_info().and_then(|info| info.reason.parse().ok()).unwrap_or(usual);
    Error::new(kind, reason, format!("the control plane: {}", status.message())).with_source(status.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_in_the_details_wins_over_the_code() {
        let details = tonic_types::ErrorDetails::with_error_info(
            "HOST_REVOKED",
            "windlass",
            std::collections::HashMap::<String, String>::new(),
        );
        use tonic_types::StatusExt as _;
        let status = Status::with_error_details(Code::PermissionDenied, "the host was revoked", details);
        let error = from_status(&status);
        assert_eq!(error.reason, Reason::HostRevoked);
        assert!(is_refusal(&error));
        assert!(!is_refusal(&from_status(&Status::unavailable("gone"))));
    }
}
