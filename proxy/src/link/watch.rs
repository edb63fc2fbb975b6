//! Hearing of routes: a poll that the control plane holds until something changed.
//!
//! Order: into the table first, because a paused client must wait at once, then to disk. A crash between the two starts
//! from the older route, whose primary proves an older epoch only if the newer one never served; the next poll brings it
//! up to date.

use std::{collections::HashSet, convert::Infallible};

use windlass_core::Error;
use windlass_kit::call::{ANSWER, call};
use windlass_proto::proxy::v1 as pb;

use super::session::Talk;
use crate::routes::{Route, State};

/// Follows routes until the connection breaks.
pub(super) async fn run(talk: &Talk<'_>) -> Result<Infallible, Error> {
    let mut client = talk.client.clone();
    let mut cursor = String::new();
    loop {
        let request = pb::WatchRoutesRequest { session_id: talk.link.hello.session_id.clone(), cursor: cursor.clone() };
        let answer = call(talk.hold + ANSWER, client.watch_routes(request)).await?;
        cursor.clone_from(&answer.cursor);
        take(talk, answer).await;
    }
}

async fn take(talk: &Talk<'_>, answer: pb::WatchRoutesResponse) {
    let (link, table) = (talk.link, &talk.link.shared.routes);
    let ca_pem = link.identity.ca_pem();
    let mut there = HashSet::new();
    let mut changes = Vec::new();
    for wire in answer.routes {
        let route = match Route::read(&wire, &ca_pem) {
            Ok(route) => route,
            Err(error) => {
                tracing::warn!(instance = wire.instance_id, error = error.chain(), "a route makes no sense; skipped");
                continue;
            }
        };
        there.insert(route.instance);
        if let Some(instance) = table.put(route) {
            tracing::debug!(
                instance = wire.instance,
                project = wire.project,
                epoch = wire.epoch,
                rev = wire.rev,
                "route"
            );
            if matches!(instance.route().state, State::Paused(_)) {
                link.pauses.follow(instance);
            }
            changes.push(crate::routes::Change::Put(Box::new(wire)));
        }
    }
    let gone: Vec<_> = if answer.full {
        table.all().iter().map(|instance| instance.id()).filter(|id| !there.contains(id)).collect()
    } else {
        answer.removed.iter().filter_map(|id| id.parse().ok()).collect()
    };
    for id in gone {
        table.remove(id);
        changes.push(crate::routes::Change::Remove(id));
    }
    if let Err(error) = link.log.append(changes).await {
        tracing::error!(error = error.chain(), "routes are not stored; a restart would begin with older ones");
    }
}
