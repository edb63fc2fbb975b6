//! The parked poll: commands and cancels in, the pace with them.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use windlass_core::Error;
use windlass_proto::agent::v1 as pb;

use super::{
    call::{ANSWER, call},
    session::Conversation,
};

/// Most commands in one answer.
const MOST: usize = 64;
/// A poll that is answered sooner than this with nothing in it is followed by as long a rest, so that a server that does
/// not hold polls is not polled in a busy loop.
const REST: Duration = Duration::from_millis(50);

/// Polls until the conversation is to end, and finishes the poll in hand then.
pub(super) async fn run(talk: &Conversation<'_>) -> Result<(), Error> {
    let executor = talk.link.executor();
    let mut client = talk.client.clone();
    while !talk.is_leaving() {
        let request = pb::PollRequest {
            session_id: talk.link.session_id().to_owned(),
            running: executor.running(),
            max_commands: u32::try_from(executor.room().min(MOST)).unwrap_or(1),
        };
        let begun = Instant::now();
        let limit = talk.cadence().poll_hold + ANSWER;
        let answer = call(limit, client.poll(talk.link.request(request))).await?;
        talk.obey(answer.cadence);
        let nothing = answer.commands.is_empty() && answer.cancels.is_empty();
        executor.cancel(&answer.cancels);
        executor.deliver(answer.commands).await;
        if nothing && begun.elapsed() < REST {
            sleep(REST).await;
        }
    }
    Ok(())
}
