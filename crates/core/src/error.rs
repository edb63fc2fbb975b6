//! The one error type that crosses module and process borders.
//!
//! Owns: the kinds, the stable UPPER_SNAKE reasons, field violations and the retry hint. It knows no transport:
//! gRPC status, HTTP problem and CLI exit code are each derived from it in exactly one place elsewhere.
//! Invariants: `Display` is the user's message and never includes the source; the source chain is for logs;
//! a reason, once released, keeps its meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Result with the Windlass error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What class of trouble it is. Names follow the canonical gRPC codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorKind {
    /// The request is wrong whatever the state of the system.
    InvalidArgument,
    /// Who is asking is unknown.
    Unauthenticated,
    /// Who is asking may not do this.
    PermissionDenied,
    /// The named thing does not exist.
    NotFound,
    /// The thing to be made exists.
    AlreadyExists,
    /// The state of the system forbids it now.
    FailedPrecondition,
    /// A concurrent change won; read again and retry.
    Aborted,
    /// A quota or capacity is used up.
    ResourceExhausted,
    /// It did not finish in time.
    DeadlineExceeded,
    /// It was cancelled by request.
    Cancelled,
    /// A part that is needed cannot be reached now.
    Unavailable,
    /// A bug or a broken machine.
    Internal,
}

crate::words! {
    /// Stable machine-readable reason of an error.
    pub enum Reason {
        /// A field of the request breaks a rule; see the violations.
        InvalidField = "INVALID_FIELD",
        /// The page token is not one that this list gave.
        InvalidPageToken = "INVALID_PAGE_TOKEN",
        /// The request id was used before with another request.
        RequestIdReused = "REQUEST_ID_REUSED",
        /// No bearer key, or one that is unknown, expired or revoked.
        KeyInvalid = "KEY_INVALID",
        /// The key's role or project does not allow the call.
        PermissionMissing = "PERMISSION_MISSING",
        /// The resource does not exist.
        NotFound = "NOT_FOUND",
        /// The name is taken.
        NameInUse = "NAME_IN_USE",
        /// The etag is not the current one.
        EtagMismatch = "ETAG_MISMATCH",
        /// Another operation on the instance is under way.
        InstanceBusy = "INSTANCE_BUSY",
        /// The instance's state does not allow the operation.
        StateForbids = "STATE_FORBIDS",
        /// Deletion protection is on.
        DeletionProtected = "DELETION_PROTECTED",
        /// The resource still has things in it.
        NotEmpty = "NOT_EMPTY",
        /// A project quota would be exceeded.
        QuotaExceeded = "QUOTA_EXCEEDED",
        /// No host fits; the message says why for each.
        NoHostFits = "NO_HOST_FITS",
        /// No host has this engine or version.
        EngineUnavailable = "ENGINE_UNAVAILABLE",
        /// The parameter does not exist or its value is out of range.
        ParameterInvalid = "PARAMETER_INVALID",
        /// The join token is unknown, used, revoked or expired.
        JoinTokenInvalid = "JOIN_TOKEN_INVALID",
        /// The host certificate is expired, revoked or not ours.
        HostCertificateInvalid = "HOST_CERTIFICATE_INVALID",
        /// The server's certificate is not one that the client trusts.
        ServerCertificateInvalid = "SERVER_CERTIFICATE_INVALID",
        /// The host was revoked.
        HostRevoked = "HOST_REVOKED",
        /// The verb is planned but not built yet.
        NotSupported = "NOT_SUPPORTED",
        /// A concurrent change won; read again and retry.
        Conflict = "CONFLICT",
        /// The caller is no longer the owner (stale epoch).
        Fenced = "FENCED",
        /// The operation was cancelled.
        OperationCancelled = "OPERATION_CANCELLED",
        /// A command was delivered too often without an answer.
        CommandPoisoned = "COMMAND_POISONED",
        /// A command was not carried out before its deadline.
        CommandExpired = "COMMAND_EXPIRED",
        /// A newer command took the place of this one.
        CommandSuperseded = "COMMAND_SUPERSEDED",
        /// The host's disk has no room for it.
        DiskFull = "DISK_FULL",
        /// The port is taken by something else on the host.
        PortTaken = "PORT_TAKEN",
        /// Initialising the data directory failed.
        InitFailed = "INIT_FAILED",
        /// The database process did not come up; the message ends with its log.
        StartFailed = "START_FAILED",
        /// The database process did not stop in time.
        StopFailed = "STOP_FAILED",
        /// The database refused a statement.
        DatabaseRefused = "DATABASE_REFUSED",
        /// A data directory is missing, foreign or not readable.
        DataDirectoryInvalid = "DATA_DIRECTORY_INVALID",
        /// The key made too many calls; wait as long as the answer says.
        RateLimited = "RATE_LIMITED",
        /// A part that is needed cannot be reached now.
        Unavailable = "UNAVAILABLE",
        /// It did not finish in time.
        DeadlineExceeded = "DEADLINE_EXCEEDED",
        /// A bug or a broken machine; the log of the process has the details.
        Internal = "INTERNAL",
    }
}

/// One field of a request that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldViolation {
    /// Path of the field as in the API, for example `instance.resources.memory_bytes`.
    pub field: String,
    /// What is wrong, the limit and the remedy.
    pub description: String,
}

/// The error. Build it by the constructors, add context by `with_*`.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Error {
    /// Class of trouble.
    pub kind: ErrorKind,
    /// Stable reason.
    pub reason: Reason,
    /// What the user reads; names the field, the limit and the remedy.
    pub message: String,
    /// Fields that break rules; empty unless `kind` is `InvalidArgument`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<FieldViolation>,
    /// Facts for machines, for example `operation` or `limit`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// What lay below, for logs only.
    #[serde(skip)]
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Clone for Error {
    fn clone(&self) -> Self {
        Self {
            kind: self.kind,
            reason: self.reason,
            message: self.message.clone(),
            violations: self.violations.clone(),
            metadata: self.metadata.clone(),
            source: None,
        }
    }
}

impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.reason == other.reason
            && self.message == other.message
            && self.violations == other.violations
            && self.metadata == other.metadata
    }
}

impl Error {
    /// An error of this kind, reason and message.
    pub fn new(kind: ErrorKind, reason: Reason, message: impl Into<String>) -> Self {
        Self { kind, reason, message: message.into(), violations: Vec::new(), metadata: BTreeMap::new(), source: None }
    }

    /// One field of the request breaks a rule.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::violations(vec![FieldViolation { field: field.into(), description: description.into() }])
    }

    /// Several fields of the request break rules. An empty list is a bug of the caller and reads as one.
    pub fn violations(violations: Vec<FieldViolation>) -> Self {
        let message =
            violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect::<Vec<_>>().join("; ");
        Self { violations, ..Self::new(ErrorKind::InvalidArgument, Reason::InvalidField, message) }
    }

    /// The named thing does not exist.
    pub fn not_found(what: &str, name: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::NotFound, Reason::NotFound, format!("{what} {name} does not exist"))
            .with_metadata("resource_type", what)
            .with_metadata("resource_name", name)
    }

    /// The thing to be made exists already.
    pub fn already_exists(what: &str, name: impl std::fmt::Display) -> Self {
        Self::new(
            ErrorKind::AlreadyExists,
            Reason::NameInUse,
            format!("{what} {name} already exists; choose another name"),
        )
        .with_metadata("resource_type", what)
        .with_metadata("resource_name", name)
    }

    /// The state of the system forbids it now.
    pub fn precondition(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::FailedPrecondition, reason, message)
    }

    /// A part that is needed cannot be reached now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, Reason::Unavailable, message)
    }

    /// A bug or a broken machine.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, Reason::Internal, message)
    }

    /// A word outside a closed list, with the nearest one as a suggestion.
    pub fn unknown_word(what: &str, given: &str, known: &[&str]) -> Self {
        let nearest = nearest(given, known.iter().copied()).map(|n| format!("; did you mean {n}?")).unwrap_or_default();
        Self::new(
            ErrorKind::InvalidArgument,
            Reason::InvalidField,
            format!("{given:?} is no {}; known: {}{nearest}", what.to_lowercase(), known.join(", ")),
        )
    }

    /// Adds what lay below, for logs.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds a fact for machines.
    #[must_use]
    pub fn with_metadata(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Puts a path before each violated field: `size` becomes `instance.size`.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        for violation in &mut self.violations {
            violation.field = format!("{prefix}.{}", violation.field);
        }
        if !self.violations.is_empty() {
            self.message = Self::violations(self.violations.clone()).message;
        }
        self
    }

    /// Whether the same call may succeed later without any change by the caller.
    pub fn retryable(&self) -> bool {
        match self.kind {
            ErrorKind::Unavailable | ErrorKind::Aborted | ErrorKind::DeadlineExceeded => true,
            ErrorKind::ResourceExhausted
            | ErrorKind::InvalidArgument
            | ErrorKind::Unauthenticated
            | ErrorKind::PermissionDenied
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::FailedPrecondition
            | ErrorKind::Cancelled
            | ErrorKind::Internal => false,
        }
    }

    /// The whole chain in one line, for logs.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error and all its sources in one line, for logs.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let line = source.to_string();
        if !text.ends_with(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        next = source.source();
    }
    text
}

/// The known word closest to `given`, if any is close enough to be a typing slip.
pub fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|word| (strsim::damerau_levenshtein(given, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_are_named_in_the_message_and_moved_under_a_prefix() {
        let error = Error::invalid("memory_bytes", "512 is below 128 MiB; ask for more").under("instance.resources");
        assert_eq!(error.violations[0].field, "instance.resources.memory_bytes");
        assert_eq!(error.message, "instance.resources.memory_bytes: 512 is below 128 MiB; ask for more");
    }

    #[test]
    fn the_source_is_in_the_chain_but_not_in_the_message() {
        let error = Error::internal("cannot read the file").with_source(std::io::Error::other("EIO"));
        assert_eq!(error.to_string(), "cannot read the file");
        assert_eq!(error.chain(), "cannot read the file: EIO");
    }

    #[test]
    fn a_slip_is_answered_with_the_nearest_word() {
        assert_eq!(nearest("shared_bufers", ["shared_buffers", "work_mem"].into_iter()), Some("shared_buffers"));
        assert_eq!(nearest("zzz", ["shared_buffers", "work_mem"].into_iter()), None);
    }
}
