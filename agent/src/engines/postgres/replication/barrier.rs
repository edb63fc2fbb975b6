//! The barrier row: what a leader commits before anybody may enter.

use std::{pin::pin, time::Duration};

use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, types::ToSql};
use uuid::Uuid;
use windlass_core::Error;

use super::Lsn;
use crate::engines::{
    Server,
    postgres::{
        HOME_DATABASE,
        run::{open, refused},
    },
};

/// A row of `windlass.barrier`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// The epoch.
    pub epoch: u64,
    /// rev of the set of members that had to acknowledge it.
    pub rev: u64,
    /// Who led.
    pub member: Uuid,
    /// Drawn for the epoch.
    pub nonce: Uuid,
}

/// Whether commits of a server are known to wait for the names that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// It has had names for as long as it runs, or a commit was seen to wait; or it has none, and none is to wait.
    Proven,
    /// It got its names while it ran.
    Unproven,
}

/// Between commits that did not wait, as far as was seen.
const AGAIN: Duration = Duration::from_millis(5);

/// Commits the row and gives a position behind it. Waits for as long as the receipts take. A row that is there is
/// written again: a transaction without a change waits for nobody, and the first may have been cut short. A wait that
/// somebody cancelled looks like success here, so the caller compares the followers' positions with the result. The
/// position is one on disk, as the commit is: what is only inserted is sent when somebody flushes it, a fifth of a second
/// later. If nothing else proves that this server waits, the row is written only when a commit was seen to wait.
///
/// # Errors
/// `DATABASE_REFUSED` by a standby, `UNAVAILABLE` when the connection is gone.
pub async fn commit(server: &Server, row: Barrier, waits: Waits) -> Result<Lsn, Error> {
    const WRITE: &str = "insert into windlass.barrier (epoch, rev, member, nonce) \
        values ($1, $2, $3::text::uuid, $4::text::uuid) \
        on conflict (epoch, rev) do update set member = excluded.member, nonce = excluded.nonce, at = clock_timestamp()";
    let client = open(server, HOME_DATABASE).await?;
    // Before the row is written: whoever holds it may be elected without the commits that waited for nobody.
    if waits == Waits::Unproven {
        until_seen_to_wait(&open(server, HOME_DATABASE).await?, &client).await?;
    }
    let (epoch, rev) = (row.epoch.cast_signed(), row.rev.cast_signed());
    let (member, nonce) = (row.member.to_string(), row.nonce.to_string());
    let values: [&(dyn ToSql + Sync); 4] = [&epoch, &rev, &member, &nonce];
    client.execute(WRITE, &values).await.map_err(refused)?;
    let end = client.query_one("select (pg_current_wal_flush_lsn() - '0/0')::int8", &[]).await.map_err(refused)?;
    Ok(Lsn(end.get::<_, i64>(0).unsigned_abs()))
}

/// Commits something until a commit was seen to wait. A server that was just told to wait does so only once its
/// checkpointer knows, and until then commits go through that no follower has. Who was seen is left waiting: a follower may
/// have to replay the barrier before its receipts count.
async fn until_seen_to_wait(client: &Client, watcher: &Client) -> Result<(), Error> {
    const COMMIT: &str = "select pg_logical_emit_message(true, 'windlass', 'does it wait')";
    const WAITS: &str = "select 1 from pg_stat_activity where pid = $1 and wait_event = 'SyncRep'";
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await.map_err(refused)?.get(0);
    // Up to version 13 waits are shown only with it.
    client.batch_execute("set track_activities = on").await.map_err(refused)?;
    let waits = watcher.prepare(WAITS).await.map_err(refused)?;
    loop {
        let seen = async {
            while watcher.query_opt(&waits, &[&pid]).await.map_err(refused)?.is_none() {}
            Ok::<_, Error>(())
        };
        let mut written = pin!(client.execute(COMMIT, &[]));
        tokio::select! {
            done = &mut written => done.map(drop).map_err(refused)?,
            seen = seen => return seen,
        }
        tokio::time::sleep(AGAIN).await;
    }
}
