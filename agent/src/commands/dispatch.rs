//! From a command's body to the file that carries it out, with its time limit.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use windlass_core::{Error, Reason, error::ErrorKind};
use windlass_proto::agent::v1::{self as pb, command::Body};

use super::{CommandTarget, Order, apply_member, apply_object, purge_member, remove_member};

/// How long a command that ran out of time has to stop in order before it is dropped.
const GRACE: Duration = Duration::from_secs(10);

/// Carries a command out.
pub(super) async fn run(
    target: &dyn CommandTarget,
    command: pb::Command,
    cancel: &CancellationToken,
) -> Result<pb::MemberFacts, Error> {
    let order = Order::of(&command)?;
    let body = command.body.ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidArgument,
            Reason::NotSupported,
            "this agent does not know this kind of command; upgrade the agent",
        )
    })?;
    // A panic of one command must not leave it running for ever in the books.
    let work = AssertUnwindSafe(by_kind(target, &order, body, cancel)).catch_unwind();
    let work = work.map(|done| done.unwrap_or_else(|_| Err(Error::internal("the agent panicked; see its log"))));
    tokio::pin!(work);
    if let Ok(done) = timeout(order.timeout, &mut work).await {
        return done;
    }
    cancel.cancel();
    match timeout(GRACE, work).await {
        // It made it after all: the facts are the truth.
        Ok(Ok(facts)) => Ok(facts),
        Ok(Err(_)) | Err(_) => Err(Error::new(
            ErrorKind::DeadlineExceeded,
            Reason::DeadlineExceeded,
            format!("the command was not carried out within {:?}", order.timeout),
        )),
    }
}

async fn by_kind(
    target: &dyn CommandTarget,
    order: &Order,
    body: Body,
    cancel: &CancellationToken,
) -> Result<pb::MemberFacts, Error> {
    match body {
        Body::ApplyMember(body) => apply_member::run(target, order, body, cancel).await,
        Body::RemoveMember(body) => remove_member::run(target, order, body).await,
        Body::PurgeMember(pb::PurgeMember {}) => purge_member::run(target, order).await,
        Body::ApplyObject(body) => apply_object::run(target, order, body).await,
    }
}
