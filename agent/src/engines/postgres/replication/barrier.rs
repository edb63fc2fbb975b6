//! The barrier row: what a leader commits before anybody may enter.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::ToSql;
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

/// Commits the row and gives a position behind it. Waits for as long as the receipts take. A row that is there is
/// written again: a transaction without a change waits for nobody, and the first may have been cut short. A wait that
/// somebody cancelled looks like success here, so the caller compares the followers' positions with the result. The
/// position is one on disk, as the commit is: what is only inserted is sent when somebody flushes it, a fifth of a second
/// later.
///
/// # Errors
/// `DATABASE_REFUSED` by a standby, `UNAVAILABLE` when the connection is gone.
pub async fn commit(server: &Server, row: Barrier) -> Result<Lsn, Error> {
    const WRITE: &str = "insert into windlass.barrier (epoch, rev, member, nonce) \
        values ($1, $2, $3::text::uuid, $4::text::uuid) \
        on conflict (epoch, rev) do update set member = excluded.member, nonce = excluded.nonce, at = clock_timestamp()";
    let client = open(server, HOME_DATABASE).await?;
    let (epoch, rev) = (row.epoch.cast_signed(), row.rev.cast_signed());
    let (member, nonce) = (row.member.to_string(), row.nonce.to_string());
    let values: [&(dyn ToSql + Sync); 4] = [&epoch, &rev, &member, &nonce];
    client.execute(WRITE, &values).await.map_err(refused)?;
    let end = client.query_one("select (pg_current_wal_flush_lsn() - '0/0')::int8", &[]).await.map_err(refused)?;
    Ok(Lsn(end.get::<_, i64>(0).unsigned_abs()))
}
