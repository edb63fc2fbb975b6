//! Reports: pauses that took effect, at once and again while they last; evidence, at once after a failure; and a sign of
//! life every second, because a proxy that is not heard is not waited for in a switchover.

use std::{convert::Infallible, time::Duration};

use tokio::time::sleep;
use windlass_core::Error;
use windlass_kit::call::{ANSWER, call};
use windlass_proto::proxy::v1 as pb;

use super::session::Talk;

/// Between two reports when nothing happens.
const EVERY: Duration = Duration::from_secs(1);
/// Failures gather for so long.
const GATHER: Duration = Duration::from_millis(20);

/// Reports until the connection breaks.
pub(super) async fn run(talk: &Talk<'_>) -> Result<Infallible, Error> {
    let (link, mut client) = (talk.link, talk.client.clone());
    let evidence = &link.shared.evidence;
    loop {
        let request = pb::ReportRequest {
            session_id: link.hello.session_id.clone(),
            pauses: link.pauses.all(),
            evidence: evidence.take(),
        };
        call(ANSWER, client.report(request)).await?;
        tokio::select! {
            () = sleep(EVERY) => {}
            () = link.pauses.until_fresh() => {}
            () = async { evidence.until_failed().await; sleep(GATHER).await } => {}
        }
    }
}
