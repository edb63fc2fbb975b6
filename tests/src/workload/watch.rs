//! The watcher at the gate: tries to log in at a member again and again, past the proxy, and remembers each moment at
//! which a server that takes writes had let it in.
//!
//! A session that was let in by a standby is kept, because it must not outlive the promotion either.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::session::{Session, Target};
use crate::checkers::gate::Login;
use crate::lab::{Node, Task};

/// Between two tries. Each costs the server a process and a handshake, so they are not made as fast as they could be.
const EVERY: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_millis(500);

/// Watches one member from a host until told to stop.
///
/// # Errors
/// No thread was to be had.
pub fn watch(from: &Node, member: SocketAddr, target: &Target, stop: &Arc<AtomicBool>) -> Result<Task<Vec<Login>>> {
    let (target, stop) = (target.clone(), Arc::clone(stop));
    from.spawn("watcher", async move |_| {
        let mut logins = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            // Refusals are what the gate is for.
            if let Ok(Ok(session)) = timeout(LIMIT, open(&target, member)).await {
                stay(&session, &stop, &mut logins).await;
            }
            sleep(EVERY).await;
        }
        Ok(logins)
    })
}

async fn open(target: &Target, member: SocketAddr) -> Result<Session> {
    Session::log_in(target, member, TcpStream::connect(member).await?).await
}

/// Looks around for as long as the server lets it.
async fn stay(session: &Session, stop: &AtomicBool, logins: &mut Vec<Login>) {
    let mut epoch = None;
    while !stop.load(Ordering::Relaxed) {
        let Ok(Ok(login)) = timeout(LIMIT, look(session)).await else { return };
        if login.is_some() && login.as_ref().map(|login| login.epoch) != epoch {
            epoch = login.as_ref().map(|login| login.epoch);
            logins.extend(login);
        }
        sleep(EVERY).await;
    }
}

/// What it sees if the server takes writes.
async fn look(session: &Session) -> Result<Option<Login>> {
    let question =
        "select pg_is_in_recovery(), coalesce(nullif(current_setting('windlass.epoch', true), '')::bigint, 0),
                    extract(epoch from clock_timestamp())::float8";
    let row = session.client.query_one(question, &[]).await?;
    let login = Login {
        member: session.address.to_string(),
        epoch: row.try_get::<_, i64>(1)?.cast_unsigned(),
        at: row.try_get(2)?,
    };
    Ok((!row.try_get::<_, bool>(0)?).then_some(login))
}
