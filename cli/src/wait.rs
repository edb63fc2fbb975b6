//! Waiting for operations.
//!
//! Invariants: Ctrl-C and a time-out leave the operation alone; a control plane that is away for a while is waited for,
//! since the operation goes on without this process.

use std::time::{Duration, Instant};

use windlass_core::ErrorKind;
use windlass_proto::api::v1::{Operation, WaitOperationRequest, operation::State};

use crate::{
    api::Api,
    args::Waiting,
    context::Context,
    failure::{Failure, Refusal},
    progress::Progress,
    units,
};

/// One call's share of the wait; the server allows 60 s.
const HOLD: Duration = Duration::from_secs(30);
/// Pause before asking again while the control plane is away.
const AWAY: Duration = Duration::from_secs(1);

/// What became of waiting for an operation.
pub(crate) enum Followed {
    /// It succeeded.
    Done(Operation),
    /// Nobody wanted to wait; it goes on.
    Left(Operation),
}

impl Context {
    /// Waits for the operation if that is wanted, with progress on stderr.
    ///
    /// # Errors
    /// The operation's own error, `TimedOut`, or `Interrupted`.
    pub(crate) async fn follow(&self, operation: Operation, waiting: &Waiting) -> Result<Followed, Failure> {
        if operation.done || waiting.wanted(self.out.terminal()) {
            return Ok(Followed::Done(self.wait(operation, waiting.timeout).await?));
        }
        Ok(Followed::Left(operation))
    }

    /// Waits for the operation to succeed.
    pub(crate) async fn wait(&self, operation: Operation, timeout: Duration) -> Result<Operation, Failure> {
        let api = self.api().await?;
        let name = operation.name.clone();
        let mut progress = Progress::new(&self.out);
        let ended = tokio::select! {
            ended = until_done(api, operation, timeout, &mut progress) => ended,
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted { operation: name }),
        };
        progress.close();
        let operation = ended?;
        match operation.state() {
            State::Failed | State::Cancelled => {
                let refusal = operation.error.as_ref().map_or_else(unexplained, Refusal::from);
                Err(Failure::Operation {
                    operation: operation.name,
                    target: operation.target,
                    refusal: Box::new(refusal),
                })
            }
            State::Unspecified
            | State::Pending
            | State::Running
            | State::Unwinding
            | State::Stuck
            | State::Succeeded => Ok(operation),
        }
    }
}

async fn until_done(
    api: &Api,
    mut operation: Operation,
    timeout: Duration,
    progress: &mut Progress,
) -> Result<Operation, Failure> {
    let end = Instant::now() + timeout;
    loop {
        progress.update(&operation);
        if operation.done {
            return Ok(operation);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::TimedOut { operation: operation.name, after: timeout });
        }
        let request = WaitOperationRequest {
            name: operation.name.clone(),
            timeout: Some(units::proto_duration(HOLD.min(left))),
            seen_revision: operation.revision,
        };
        match api.call(async || api.operations().wait_operation(request.clone()).await).await {
            Ok(news) => operation = news,
            Err(Failure::Refused(refusal)) if away(refusal.kind) => tokio::time::sleep(AWAY.min(left)).await,
            Err(failure) => return Err(failure),
        }
    }
}

fn away(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Unavailable | ErrorKind::DeadlineExceeded => true,
        ErrorKind::InvalidArgument
        | ErrorKind::Unauthenticated
        | ErrorKind::PermissionDenied
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::FailedPrecondition
        | ErrorKind::Aborted
        | ErrorKind::ResourceExhausted
        | ErrorKind::Cancelled
        | ErrorKind::Internal => false,
    }
}

fn unexplained() -> Refusal {
    Refusal {
        kind: ErrorKind::Internal,
        reason: String::new(),
        message: "the control plane gave no reason".to_owned(),
        violations: Vec::new(),
        metadata: Default::default(),
    }
}
