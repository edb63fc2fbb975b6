//! Heartbeats: facts of the host and its members, at the pace set and early when something changed.
//!
//! The first one of a connection goes out at once: one that was sent into a dying connection may have been lost.

use std::{convert::Infallible, time::Duration};

use tokio::time::sleep;
use windlass_core::Error;
use windlass_kit::random;
use windlass_proto::agent::v1 as pb;

use super::{
    call::{ANSWER, call},
    hello::{self, Engines},
    session::Conversation,
};

/// Changes within this go into one heartbeat.
const GATHER: Duration = Duration::from_millis(100);

/// Sends for ever; ends only with the connection. Says hello again when the engines are no longer those that were told:
/// one was installed, or its catalogue became known.
pub(super) async fn run(talk: &Conversation<'_>, mut told: Engines) -> Result<Infallible, Error> {
    let (link, mut client) = (talk.link, talk.client.clone());
    let mut changed = link.target().changed();
    changed.mark_changed();
    loop {
        // Engines carry their catalogues: they are looked at only when something changed.
        if changed.has_changed().unwrap_or(false) {
            changed.mark_unchanged();
            let engines = hello::engines(link);
            if engines != told {
                let cadence = hello::hello(link, &mut client).await?;
                talk.obey(Some(cadence));
                told = engines;
            }
        }
        let request = pb::HeartbeatRequest {
            session_id: link.session_id().to_owned(),
            sequence: link.next_heartbeat(),
            host: Some(link.load()),
            members: link.target().facts(),
            orphans: link.target().orphans(),
            happenings: link.happenings().batch(),
        };
        let sent = request.happenings.len();
        let answer = call(ANSWER, client.heartbeat(link.request(request))).await?;
        talk.obey(answer.cadence);
        link.happenings().stored(answer.happenings_stored);
        if sent > 0 && !link.happenings().batch().is_empty() {
            // More than one heartbeat's worth, or not stored: soon again, but not at once.
            sleep(GATHER * 10).await;
            continue;
        }
        // Jitter keeps a fleet that started together from beating together.
        let pause = talk.cadence().heartbeat_every.mul_f64(0.9 + 0.2 * random::unit());
        tokio::select! {
            () = sleep(pause) => {}
            Ok(()) = changed.changed() => {
                // Seen only when it is looked at, above.
                changed.mark_changed();
                sleep(GATHER).await;
            }
            () = link.happenings().added() => sleep(GATHER).await,
        }
    }
}
