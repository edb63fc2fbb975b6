//! From database errors to [`windlass_core::Error`], in this one place.
//!
//! Unique violations are told apart by the constraint's name, so a name in use reads as such wherever it is found.

use windlass_core::{Error, Reason, error::ErrorKind};

/// Turns an sqlx result into ours: `query.execute(tx).await.db()?`.
pub(crate) trait DbResult<T> {
    fn db(self) -> Result<T, Error>;
}

impl<T> DbResult<T> for Result<T, sqlx::Error> {
    fn db(self) -> Result<T, Error> {
        self.map_err(convert)
    }
}

impl<T> DbResult<T> for Result<T, sqlx::migrate::MigrateError> {
    fn db(self) -> Result<T, Error> {
        self.map_err(|error| Error::internal(format!("the metadata schema cannot be brought up: {error}")))
    }
}

pub(crate) fn convert(error: sqlx::Error) -> Error {
    let meaning = match error.as_database_error() {
        Some(database) if database.is_unique_violation() => taken(database.constraint().unwrap_or_default()),
        Some(database) => by_code(database.code().as_deref().unwrap_or_default()),
        None if unreachable(&error) => Error::unavailable(
            "the metadata database cannot be reached now; try again, and see the control plane's log if it lasts",
        ),
        None => Error::internal("the metadata database answered in an unexpected way; the log has the details"),
    };
    meaning.with_source(error)
}

fn unreachable(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed
    )
}

/// What a violated unique constraint means to the user.
fn taken(constraint: &str) -> Error {
    let what = match constraint {
        "project_name_key" => "a project of this name",
        "instance_name" => "an instance of this name",
        "host_name_key" => "a host of this name",
        "database_object_pkey" => "an object of this name",
        "operation_busy" => {
            return Error::precondition(Reason::InstanceBusy, "another operation on the instance is under way");
        }
        other => {
            return Error::new(ErrorKind::Aborted, Reason::Conflict, "a concurrent change won; read again and retry")
                .with_metadata("constraint", other);
        }
    };
    Error::new(ErrorKind::AlreadyExists, Reason::NameInUse, format!("{what} already exists; choose another name"))
}

/// By SQLSTATE: what the next attempt may well pass, what the server cannot do now, and the rest.
fn by_code(code: &str) -> Error {
    match code {
        // serialization failure, deadlock, lock not available
        "40001" | "40P01" | "55P03" => {
            Error::new(ErrorKind::Aborted, Reason::Conflict, "a concurrent change won; read again and retry")
        }
        "53100" => Error::unavailable("the disk of the metadata database is full; free space there, then try again"),
        // connection trouble, out of resources, shutting down or starting, idle transaction ended by the server
        code if code.starts_with("08") || code.starts_with("53") || code.starts_with("57P") || code == "25P03" => {
            Error::unavailable(
                "the metadata database cannot be reached now; try again, and see the control plane's log if it lasts",
            )
        }
        // integrity constraints
        code if code.starts_with("23") => {
            Error::internal("a rule of the metadata schema was broken; the log has the details")
        }
        code => Error::internal("the metadata database refused a statement; the log has the details")
            .with_metadata("sqlstate", code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_and_codes_have_meanings() {
        assert_eq!(taken("instance_name").reason, Reason::NameInUse);
        assert_eq!(taken("operation_busy").reason, Reason::InstanceBusy);
        assert!(taken("member_host_id_port_key").retryable());
        assert!(by_code("40001").retryable() && by_code("57P01").retryable());
        assert!(by_code("53100").message.contains("disk") && by_code("53100").retryable());
        assert_eq!(by_code("42601").reason, Reason::Internal);
    }
}
