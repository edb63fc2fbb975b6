//! Leases: who may act, proved by a term (epoch) that rises at every acquisition.
//!
//! Invariants:
//! 1. Only the database's clock decides whether a lease has expired.
//! 2. An epoch is never given out twice: acquiring raises it, whoever acquires.
//! 3. A writer that holds [`guard_tx`]'s KEY SHARE lock delays a takeover until it has committed; a renewal, which
//!    changes no key column, is not delayed by it. `unique (name, epoch)` is what makes this so.
//!
//! A crash of the owner leaves the row; anybody takes it over once it has expired, the owner itself at once.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::PgConnection;
use windlass_core::{Error, Reason, error::ErrorKind};

use crate::{Db, error::DbResult as _};

/// Proof of ownership, named in every write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Name of the lease.
    pub name: String,
    /// The term under which it is held.
    pub epoch: i64,
}

/// A lease as stored.
#[derive(Debug, Clone)]
pub struct LeaseRow {
    /// Node id of the holder.
    pub owner: String,
    /// The current term.
    pub epoch: i64,
    /// When it may be taken over, by the database's clock.
    pub expires_at: Timestamp,
}

impl Guard {
    fn fenced(&self) -> Error {
        Error::new(
            ErrorKind::Aborted,
            Reason::Fenced,
            format!("this node no longer holds the lease {} under epoch {}", self.name, self.epoch),
        )
    }
}

/// Proves the guard and keeps it true until the transaction ends.
///
/// # Errors
/// `FENCED` when the lease is not held under this epoch.
pub async fn guard_tx(tx: &mut PgConnection, guard: &Guard) -> Result<(), Error> {
    sqlx::query_scalar!(
        r#"select 1 as "one!" from lease where name = $1 and epoch = $2 for key share"#,
        guard.name,
        guard.epoch
    )
    .fetch_optional(tx)
    .await
    .db()?
    .map(drop)
    .ok_or_else(|| guard.fenced())
}

impl Db {
    /// Takes the lease if it is free, expired, or held by `owner` itself (a restart after a crash). None when somebody
    /// else holds it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn lease_acquire(&self, name: &str, owner: &str, ttl: Duration) -> Result<Option<Guard>, Error> {
        let epoch = sqlx::query_scalar!(
            "insert into lease (name, owner, epoch, expires_at)
             values ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
             on conflict (name) do update
                set owner = excluded.owner, epoch = lease.epoch + 1,
                    expires_at = clock_timestamp() + make_interval(secs => $3)
              where lease.expires_at < clock_timestamp() or lease.owner = excluded.owner
             returning epoch",
            name,
            owner,
            ttl.as_secs_f64()
        )
        .fetch_optional(self.pool())
        .await
        .db()?;
        Ok(epoch.map(|epoch| Guard { name: name.to_owned(), epoch }))
    }

    /// Extends the lease by `ttl` from now, for exactly this owner and term.
    ///
    /// # Errors
    /// `FENCED` when the term is over.
    pub async fn lease_renew(&self, guard: &Guard, owner: &str, ttl: Duration) -> Result<(), Error> {
        let done = sqlx::query!(
            "update lease set expires_at = clock_timestamp() + make_interval(secs => $4)
              where name = $1 and owner = $2 and epoch = $3",
            guard.name,
            owner,
            guard.epoch,
            ttl.as_secs_f64()
        )
        .execute(self.pool())
        .await
        .db()?;
        if done.rows_affected() == 0 { Err(guard.fenced()) } else { Ok(()) }
    }

    /// Gives the lease up at once, if it is still held under this term.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn lease_release(&self, guard: &Guard, owner: &str) -> Result<(), Error> {
        sqlx::query!(
            "update lease set expires_at = '-infinity' where name = $1 and owner = $2 and epoch = $3",
            guard.name,
            owner,
            guard.epoch
        )
        .execute(self.pool())
        .await
        .db()
        .map(drop)
    }

    /// The lease as it stands.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn lease_by_name(&self, name: &str) -> Result<Option<LeaseRow>, Error> {
        let row = sqlx::query!(
            "select owner, epoch, greatest(expires_at, '1970-01-01Z') as \"expires_at!\" from lease where name = $1",
            name
        )
        .fetch_optional(self.pool())
        .await
        .db()?;
        Ok(row.map(|r| LeaseRow { owner: r.owner, epoch: r.epoch, expires_at: r.expires_at.to_jiff() }))
    }
}

#[cfg(test)]
mod tests {
    use windlass_core::error::Result;

    use super::*;
    use crate::testing::TestDb;

    const NAME: &str = "orchestrator";
    const TTL: Duration = Duration::from_secs(60);
    /// Long enough to say that something waits for a lock.
    const MOMENT: Duration = Duration::from_millis(200);

    async fn acquire(test: &TestDb, owner: &str) -> Option<Guard> {
        test.db.lease_acquire(NAME, owner, TTL).await.expect("acquire")
    }

    fn is_fenced<T: std::fmt::Debug>(outcome: Result<T>) -> bool {
        outcome.expect_err("fenced").reason == Reason::Fenced
    }

    #[tokio::test]
    async fn only_the_holder_renews_and_only_its_own_term() {
        let test = TestDb::create().await;
        let first = acquire(&test, "a").await.expect("free");
        assert_eq!(first.epoch, 1);
        assert_eq!(acquire(&test, "b").await, None, "held");
        test.db.lease_renew(&first, "a", TTL).await.expect("renew");
        assert!(is_fenced(test.db.lease_renew(&first, "b", TTL).await), "another node does not extend it");
        let held = test.db.lease_by_name(NAME).await.expect("read").expect("row");
        assert_eq!((held.owner.as_str(), held.epoch), ("a", 1));
        assert!(held.expires_at > Timestamp::now());
    }

    #[tokio::test]
    async fn the_epoch_rises_at_every_acquisition() {
        let test = TestDb::create().await;
        let first = acquire(&test, "a").await.expect("free");
        let again = acquire(&test, "a").await.expect("its own, after a crash");
        assert_eq!(again.epoch, 2);
        assert!(is_fenced(test.db.lease_renew(&first, "a", TTL).await), "the old term is over");
        test.expire_lease(NAME).await;
        assert_eq!(acquire(&test, "b").await.expect("expired").epoch, 3);
        let guard = acquire(&test, "b").await.expect("its own");
        test.db.lease_release(&guard, "b").await.expect("release");
        assert_eq!(acquire(&test, "c").await.expect("given up").epoch, 5);
        test.db.lease_release(&guard, "b").await.expect("a late release");
        assert_eq!(acquire(&test, "d").await, None, "does not take it from the new holder");
    }

    #[tokio::test]
    async fn a_guarded_writer_delays_a_takeover_but_not_a_renewal() {
        let test = TestDb::create().await;
        let guard = acquire(&test, "a").await.expect("free");
        let writer = test.db.guarded(&guard).await.expect("held");
        tokio::time::timeout(MOMENT, test.db.lease_renew(&guard, "a", TTL))
            .await
            .expect("not blocked")
            .expect("renewed");
        test.expire_lease(NAME).await;
        let db = test.db.clone();
        let takeover = tokio::spawn(async move { db.lease_acquire(NAME, "b", TTL).await });
        tokio::time::sleep(MOMENT).await;
        assert!(!takeover.is_finished(), "the takeover waits for the writer");
        writer.commit().await.expect("the writer was still the owner");
        let next = takeover.await.expect("no panic").expect("acquire").expect("expired");
        assert_eq!(next.epoch, guard.epoch + 1);
        assert!(is_fenced(test.db.guarded(&guard).await), "the old owner writes nothing any more");
        test.db.guarded(&next).await.expect("the new one does");
    }

    #[tokio::test]
    async fn of_many_who_want_it_at_once_one_gets_it() {
        let test = TestDb::create().await;
        let wanting: Vec<_> = (0..8)
            .map(|n| {
                let db = test.db.clone();
                tokio::spawn(async move { db.lease_acquire(NAME, &format!("node-{n}"), TTL).await })
            })
            .collect();
        let mut holders = 0;
        for want in wanting {
            holders += usize::from(want.await.expect("no panic").expect("acquire").is_some());
        }
        assert_eq!(holders, 1);
    }
}
