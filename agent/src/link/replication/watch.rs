//! The parked watch of one conversation: orders the moment they are made.

use std::{convert::Infallible, time::Duration};

use tokio::time::{Instant, sleep};
use windlass_core::{Error, Reason};
use windlass_kit::clock::BootInstant;
use windlass_proto::agent::v1 as pb;

use crate::link::{
    call::{ANSWER, call, is_refusal},
    session::Conversation,
};

/// A watch that brings nothing new sooner than this is followed by as long a rest, so that an order that is refused, or a
/// server that holds nothing, is not asked for in a busy loop.
const REST: Duration = Duration::from_millis(50);
/// Rest after a failure. The connection's end is found by the other calls.
const FAILED: Duration = Duration::from_millis(250);
/// How long a control plane that knows nothing of replication is left alone.
const UNKNOWN: Duration = Duration::from_secs(30);

/// Watches for ever; ends only with the connection. Every host watches, because any may be made a witness.
pub(in crate::link) async fn run(talk: &Conversation<'_>) -> Result<Infallible, Error> {
    let link = talk.link.replication();
    let mut client = talk.client.clone();
    loop {
        let known = link.target().known();
        let request = pb::ReplicationWatch { session_id: link.session_id().to_owned(), known: known.clone() };
        let (begun, sent_at) = (Instant::now(), BootInstant::now());
        let limit = talk.cadence().poll_hold + ANSWER;
        match call(limit, client.watch_replication(talk.link.request(request))).await {
            Ok(orders) => {
                let before = link.pace().borrow().clone();
                link.take(orders, sent_at).await;
                let news = link.target().known() != known || *link.pace().borrow() != before;
                if !news && begun.elapsed() < REST {
                    sleep(REST).await;
                }
            }
            Err(error) if is_refusal(&error) => return Err(error),
            Err(error) if error.reason == Reason::NotSupported => sleep(UNKNOWN).await,
            Err(error) => {
                tracing::debug!(error = error.chain(), "a replication watch failed");
                sleep(FAILED).await;
            }
        }
    }
}
