//! Reports: results as they come. What comes while one report is under way goes into the next one together.

use std::convert::Infallible;

use windlass_core::Error;
use windlass_proto::agent::v1 as pb;

use super::{
    call::{ANSWER, call},
    session::Conversation,
};

/// Reports for ever; ends only with the connection.
pub(super) async fn run(talk: &Conversation<'_>) -> Result<Infallible, Error> {
    let (outbox, failpoints) = (talk.link.outbox(), talk.link.failpoints());
    let mut client = talk.client.clone();
    loop {
        let results = outbox.batch().await;
        failpoints.hit("report.before").await?;
        let request = talk.link.request(pb::ReportRequest { results: results.clone() });
        let answer = call(ANSWER, client.report(request)).await?;
        failpoints.hit("report.after_ack").await?;
        talk.link.executor().acknowledged(&answer.acknowledged);
        outbox.answered(&results, &answer.acknowledged);
    }
}
