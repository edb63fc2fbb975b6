//! The watcher at the gate: tries to log in at every member every few milliseconds, past the proxy, and remembers each
//! login at a server that takes writes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::session::{Session, Target};
use crate::checkers::gate::Login;
use crate::lab::{Node, Task};

const EVERY: Duration = Duration::from_millis(5);
const LIMIT: Duration = Duration::from_millis(500);

/// Watches one member from a host until told to stop.
///
/// # Errors
/// No thread was to be had.
pub fn watch(from: &Node, member: SocketAddr, target: &Target, stop: &Arc<AtomicBool>) -> Result<Task<Vec<Login>>> {
    let (target, stop) = (target.clone(), Arc::clone(stop));
    from.spawn("watcher", async move |_| {
        let mut logins: Vec<Login> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            // Refusals are what the gate is for.
            if let Ok(Ok(Some(login))) = timeout(LIMIT, look(&target, member)).await {
                let epoch = login.epoch;
                logins.push(login);
                // It is open; what is looked for is the first moment after each start.
                wait_while_open(&target, member, epoch, &stop).await;
            }
            sleep(EVERY).await;
        }
        Ok(logins)
    })
}

async fn open(target: &Target, member: SocketAddr) -> Result<Session> {
    Session::log_in(target, member, TcpStream::connect(member).await?).await
}

/// A login at a server that takes writes.
async fn look(target: &Target, member: SocketAddr) -> Result<Option<Login>> {
    let session = open(target, member).await?;
    let question =
        "select pg_is_in_recovery(), coalesce(nullif(current_setting('windlass.epoch', true), '')::bigint, 0),
                    extract(epoch from backend_start)::float8 from pg_stat_activity where pid = pg_backend_pid()";
    let row = session.client.query_one(question, &[]).await?;
    let login = Login {
        member: member.to_string(),
        epoch: row.try_get::<_, i64>(1)?.cast_unsigned(),
        session_start: row.try_get(2).context("start of the session")?,
    };
    Ok((!row.get::<_, bool>(0)).then_some(login))
}

/// Holds one session for as long as the server keeps it.
async fn wait_while_open(target: &Target, member: SocketAddr, epoch: u64, stop: &AtomicBool) {
    let Ok(Ok(session)) = timeout(LIMIT, open(target, member)).await else { return };
    while !stop.load(Ordering::Relaxed) {
        let now = timeout(LIMIT, session.client.query_one("show windlass.epoch", &[])).await;
        let same = matches!(&now, Ok(Ok(row)) if row.try_get::<_, &str>(0).is_ok_and(|text| text == epoch.to_string()));
        if !same {
            return;
        }
        sleep(EVERY * 4).await;
    }
}
