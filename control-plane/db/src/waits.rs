//! What replicated instances wait for, as the node that decides says: so that every node can tell people.
//!
//! One unlogged row, which a crash of the metadata loses and the next telling, seconds later, brings back.

use std::collections::BTreeMap;

use serde_json::Value;
use windlass_core::{Error, id::InstanceId};

use crate::{Db, error::DbResult as _};

/// Sentences of each instance that waits for anything, most important first.
pub type Waits = BTreeMap<InstanceId, Vec<String>>;

impl Db {
    /// Stores what is waited for now.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn waits_store(&self, waits: &Waits) -> Result<(), Error> {
        let by_id: BTreeMap<String, &Vec<String>> = waits.iter().map(|(id, waits)| (id.0.to_string(), waits)).collect();
        let waits = serde_json::to_value(by_id)
            .map_err(|error| Error::internal("what is waited for is no JSON").with_source(error))?;
        sqlx::query!(
            "insert into ha_waits (waits) values ($1)
                 on conflict (one) do update set waits = excluded.waits, store_time = now()",
            waits
        )
        .execute(self.pool())
        .await
        .db()
        .map(drop)
    }

    /// What was waited for within the last ten seconds by one of these instances.
    ///
    /// # Errors
    /// Those of the database; `INTERNAL` for what this version cannot read.
    pub async fn waits(&self, instances: &[InstanceId]) -> Result<Waits, Error> {
        let found: Option<Value> =
            sqlx::query_scalar!("select waits from ha_waits where store_time > now() - interval '10 seconds'")
                .fetch_optional(self.pool())
                .await
                .db()?;
        let Some(Value::Object(found)) = found else { return Ok(Waits::new()) };
        let read = |id: &InstanceId| {
            let waits = found.get(&id.0.to_string())?.clone();
            let unreadable = |error| Error::internal("what an instance waits for cannot be read").with_source(error);
            Some(serde_json::from_value(waits).map(|waits| (*id, waits)).map_err(unreadable))
        };
        instances.iter().filter_map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDb;

    #[tokio::test]
    async fn what_is_told_is_known_until_it_is_old() {
        let test = TestDb::create().await;
        let (one, other) = (InstanceId::new(), InstanceId::new());
        let waits = Waits::from([(one, vec!["waiting for a replica".to_owned()])]);
        test.db.waits_store(&waits).await.expect("store");
        assert_eq!(test.db.waits(&[one, other]).await.expect("read"), waits);
        assert!(test.db.waits(&[other]).await.expect("read").is_empty());
        test.execute("update ha_waits set store_time = now() - interval '1 minute'").await;
        assert!(test.db.waits(&[one]).await.expect("read").is_empty());
    }
}
