//! Keeps the stored endpoints true: follows the route book like a proxy does, and writes while this node holds the lease.
//!
//! Not in the way of routes: a failover is told to proxies before it is written here. A crash in the middle leaves rows
//! of before, which the next owner of the lease writes anew, because it begins with everything.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use windlass_core::{Error, id::InstanceId};
use windlass_db::{Db, Guard, endpoints::endpoints_replace_tx, proxies::ProxyRow};

use super::{Routes, address::endpoints, book::Answer};
use crate::lease::Ownership;

/// How long a change of the proxies may go unnoticed.
const LOOK: Duration = Duration::from_secs(5);
/// Pause after trouble with the database.
const TROUBLE: Duration = Duration::from_secs(1);
/// Instances written in one transaction.
const BATCH: usize = 200;

/// Keeps them until shutdown. `silence` is how long a proxy may be quiet before it counts as gone.
///
/// # Errors
/// None: trouble is logged, and everything is written anew.
pub(crate) async fn keep(
    db: Db,
    routes: Routes,
    mut ownership: Ownership,
    silence: Duration,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let keeping = async {
        // What the rows were written with.
        let mut written: Option<(Guard, Vec<ProxyRow>)> = None;
        let mut cursor = String::new();
        loop {
            let guard = ownership.held().await;
            let round = async {
                let proxies = known(db.proxies_alive(silence).await?);
                if written.as_ref().is_none_or(|(of, with)| (of, with) != (&guard, &proxies)) {
                    cursor.clear();
                }
                let answer = routes.watch(&cursor, LOOK).await;
                let next = answer.cursor.clone();
                write(&db, &guard, answer, &proxies).await?;
                written = Some((guard, proxies));
                cursor = next;
                Ok::<(), Error>(())
            };
            if let Err(error) = round.await {
                tracing::warn!(error = error.chain(), "endpoints are not written; trying again");
                written = None;
                tokio::time::sleep(TROUBLE).await;
            }
        }
    };
    shutdown.run_until_cancelled(keeping).await;
    Ok(())
}

/// What of proxies matters here, so that a sign of life is no change.
fn known(proxies: Vec<ProxyRow>) -> Vec<ProxyRow> {
    let quiet = |proxy| ProxyRow { last_seen_time: None, certificate_expire_time: None, ..proxy };
    proxies.into_iter().map(quiet).collect()
}

async fn write(db: &Db, guard: &Guard, answer: Answer, proxies: &[ProxyRow]) -> Result<(), Error> {
    let changed = answer.routes.iter().map(|route| (route.instance, endpoints(route, proxies)));
    let removed = answer.removed.into_iter().map(|instance| (instance, Vec::new()));
    let all: Vec<(InstanceId, Vec<_>)> = changed.chain(removed).collect();
    for batch in all.chunks(BATCH) {
        let instances: Vec<_> = batch.iter().map(|(instance, _)| *instance).collect();
        let rows: Vec<_> = batch.iter().flat_map(|(_, rows)| rows.iter().cloned()).collect();
        let mut tx = db.guarded(guard).await?;
        endpoints_replace_tx(&mut tx, &instances, &rows).await?;
        tx.commit().await?;
    }
    Ok(())
}
