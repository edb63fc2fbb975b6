//! Whom each node hears, for the one that judges silence.
//!
//! One unlogged row for each node: a crash of the metadata loses them all, and the next telling is seconds away.

use std::time::Duration;

use uuid::Uuid;
use windlass_core::{Error, id::HostId};

use crate::{Db, error::DbResult as _};

/// What a node told.
#[derive(Debug)]
pub struct Sight {
    /// How long ago, by the database's clock.
    pub age: Duration,
    /// Whom it had heard since the telling before.
    pub hosts: Vec<HostId>,
}

impl Db {
    /// Stores whom a node heard since it last told. Rows of nodes that are gone are dropped on the way.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sight_store(&self, node: Uuid, hosts: &[HostId]) -> Result<(), Error> {
        let hosts: Vec<Uuid> = hosts.iter().map(|host| host.0).collect();
        sqlx::query!(
            "with gone as (delete from node_sight where store_time < now() - interval '1 hour' and node <> $1)
             insert into node_sight (node, hosts) values ($1, $2)
                 on conflict (node) do update set hosts = excluded.hosts, store_time = now()",
            node,
            &hosts
        )
        .execute(self.pool())
        .await
        .db()
        .map(drop)
    }

    /// What nodes told within this time.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sights(&self, within: Duration) -> Result<Vec<Sight>, Error> {
        let rows = sqlx::query!(
            r#"select hosts, (extract(epoch from now() - store_time) * 1000)::bigint as "age_ms!"
                 from node_sight where store_time > now() - make_interval(secs => $1)"#,
            within.as_secs_f64()
        )
        .fetch_all(self.pool())
        .await
        .db()?;
        let sights = rows.into_iter().map(|row| Sight {
            age: Duration::from_millis(row.age_ms.try_into().unwrap_or(0)),
            hosts: row.hosts.into_iter().map(HostId).collect(),
        });
        Ok(sights.collect())
    }
}
