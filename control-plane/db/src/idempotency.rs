//! Stored answers of mutations, so that a repeat of a request has one effect.
//!
//! The row is inserted before the effect, in the effect's transaction: a twin that comes at the same time waits on the
//! unique index until that transaction ends, and then finds the answer, or its own turn if it was rolled back.

use jiff::SignedDuration;
use sqlx::PgConnection;
use windlass_core::Error;

use crate::{Db, error::DbResult as _};

/// What an earlier request with the same id left.
#[derive(Debug, Clone)]
pub struct StoredAnswer {
    /// Full method name.
    pub method: String,
    /// Sealed answer.
    pub answer: Vec<u8>,
}

/// Takes the id for this request, kept for `retention` from now; false when an earlier request has it, see
/// [`idempotency_find_tx`]. Waits for a transaction that is just taking the same id.
///
/// # Errors
/// `CONFLICT` when that transaction takes too long; others of the database.
pub async fn idempotency_take_tx(
    tx: &mut PgConnection,
    principal: &str,
    request_id: &str,
    method: &str,
    retention: SignedDuration,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        "insert into idempotency (principal, request_id, method, expire_time)
         values ($1, $2, $3, now() + make_interval(secs => $4))
         on conflict (principal, request_id) do update
            set method = excluded.method, answer = '', expire_time = excluded.expire_time
          where idempotency.expire_time < now()",
        principal,
        request_id,
        method,
        retention.as_secs_f64()
    )
    .execute(tx)
    .await
    .db()?;
    Ok(done.rows_affected() == 1)
}

/// What an earlier request with this id left.
///
/// # Errors
/// Those of the database.
pub async fn idempotency_find_tx(
    tx: &mut PgConnection,
    principal: &str,
    request_id: &str,
) -> Result<Option<StoredAnswer>, Error> {
    sqlx::query_as!(
        StoredAnswer,
        "select method, answer from idempotency where principal = $1 and request_id = $2",
        principal,
        request_id
    )
    .fetch_optional(tx)
    .await
    .db()
}

/// Stores the answer of the request that took the id in this transaction.
///
/// # Errors
/// Those of the database.
pub async fn idempotency_answer_tx(
    tx: &mut PgConnection,
    principal: &str,
    request_id: &str,
    answer: &[u8],
) -> Result<(), Error> {
    sqlx::query!(
        "update idempotency set answer = $3 where principal = $1 and request_id = $2",
        principal,
        request_id,
        answer
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

impl Db {
    /// Forgets answers whose time is over; at most `limit` at a time. Gives how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn idempotency_expire(&self, limit: i64) -> Result<u64, Error> {
        let done = sqlx::query!(
            "delete from idempotency where (principal, request_id) in
                (select principal, request_id from idempotency where expire_time < now() limit $1)",
            limit
        )
        .execute(self.pool())
        .await
        .db()?;
        Ok(done.rows_affected())
    }
}
