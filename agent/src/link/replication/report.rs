//! Reports of one conversation: at once when facts change, else at the pace of the last answer.

use std::{convert::Infallible, time::Duration};

use tokio::time::Instant;
use windlass_core::{Error, Reason};
use windlass_kit::clock::BootInstant;

use super::ANSWER;
use crate::link::{
    call::{call, is_refusal},
    session::Conversation,
};

/// Changes within this go into one report. Clients wait for what is told in a switchover, so it is short.
const GATHER: Duration = Duration::from_millis(3);
/// The pace while the control plane has not set one.
const USUAL: Duration = Duration::from_millis(500);
/// After this many failures in a row the connection is given up for another.
const MOST_FAILURES: u32 = 3;
/// How long a control plane that knows nothing of replication is left alone.
const UNKNOWN: Duration = Duration::from_secs(30);

/// Reports for ever; ends only with the connection.
pub(in crate::link) async fn run(talk: &Conversation<'_>) -> Result<Infallible, Error> {
    let link = talk.link.replication();
    let mut client = talk.client.clone();
    let (mut changed, mut pace) = (link.target().changed(), link.pace());
    let mut failures = 0;
    loop {
        if !link.is_wanted() {
            // Facts appear with a change; being made a witness is a change of pace.
            tokio::select! {
                Ok(()) = changed.changed() => {}
                Ok(()) = pace.changed() => {}
            }
            continue;
        }
        changed.mark_unchanged();
        let (begun, sent_at) = (Instant::now(), BootInstant::now());
        match call(ANSWER, client.report_replication(talk.link.request(link.compose()))).await {
            Ok(orders) => {
                failures = 0;
                link.contact().answered();
                link.take(orders, sent_at).await;
            }
            Err(error) if is_refusal(&error) => return Err(error),
            Err(error) if error.reason == Reason::NotSupported => link.contact().sleep(UNKNOWN).await,
            Err(error) => {
                failures += 1;
                if failures == MOST_FAILURES {
                    return Err(error);
                }
                tracing::debug!(error = error.chain(), failures, "a replication report failed");
            }
        }
        loop {
            let every = pace.borrow_and_update().report_every;
            let every = every.unwrap_or(if link.has_members() { USUAL } else { UNKNOWN });
            tokio::select! {
                () = link.contact().sleep(every.saturating_sub(begun.elapsed())) => break,
                Ok(()) = changed.changed() => break,
                // Another pace is no news by itself: answers that differ must not make a storm.
                Ok(()) = pace.changed() => {}
            }
        }
        let gap = GATHER.saturating_sub(begun.elapsed());
        if !gap.is_zero() {
            link.contact().sleep(gap).await;
        }
    }
}
