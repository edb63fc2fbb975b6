//! Facts of a running PostgreSQL server, and reloading it.

use std::time::Duration;

use async_trait::async_trait;
use windlass_core::{Error, ErrorKind, Reason, parameter::Catalogue};

use super::{
    catalogue, objects,
    run::{self, Connection, refused},
};
use crate::engines::{Change, Probe, Session, object::Object};

const POLL: Duration = Duration::from_millis(2);
/// The postmaster reads its files within milliseconds of the signal.
const RELOAD_LIMIT: Duration = Duration::from_secs(5);

const PROBE: &str = "select (select system_identifier::text from pg_control_system()), \
    (select count(*) from pg_stat_activity where backend_type = 'client backend' and application_name <> 'windlass-agent'), \
    pg_is_in_recovery(), \
    case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end::text";

#[async_trait]
impl Session for Connection {
    async fn probe(&mut self) -> Result<Probe, Error> {
        if run::stopping(&self.server) {
            return Err(Error::unavailable("PostgreSQL is shutting down and waits for its clients to leave"));
        }
        let row = self.client.query_one(PROBE, &[]).await.map_err(refused)?;
        Ok(Probe {
            identity: row.get(0),
            connections: u64::try_from(row.get::<_, i64>(1)).unwrap_or(0),
            in_recovery: row.get(2),
            position: row.get::<_, Option<String>>(3).unwrap_or_default(),
        })
    }

    async fn apply(&mut self, object: &Object) -> Result<(), Error> {
        objects::apply(self, object).await
    }

    /// `pg_reload_conf` only signals; the load time of this session changes when it has read the files too.
    async fn reload(&mut self, _change: &Change<'_>) -> Result<(), Error> {
        let loaded = "select pg_conf_load_time()::text";
        let before: String = self.client.query_one(loaded, &[]).await.map_err(refused)?.get(0);
        self.client.execute("select pg_reload_conf()", &[]).await.map_err(refused)?;
        let wait = async {
            while self.client.query_one(loaded, &[]).await.map_err(refused)?.get::<_, String>(0) == before {
                tokio::time::sleep(POLL).await;
            }
            Ok::<_, Error>(())
        };
        tokio::time::timeout(RELOAD_LIMIT, wait)
            .await
            .map_err(|_| Error::unavailable("PostgreSQL did not reload its configuration in time"))??;
        let wrong = "select string_agg(format('%s: %s', coalesce(name, sourcefile), error), '; ') from pg_file_settings \
            where error is not null and error <> 'setting could not be applied'";
        let wrong: Option<String> = self.client.query_one(wrong, &[]).await.map_err(refused)?.get(0);
        match wrong {
            None => Ok(()),
            Some(wrong) => Err(Error::new(
                ErrorKind::InvalidArgument,
                Reason::ParameterInvalid,
                format!("PostgreSQL refuses the parameters: {wrong}"),
            )),
        }
    }

    async fn pending_restart(&mut self, _since_start: &Change<'_>) -> Result<Vec<String>, Error> {
        let names = "select name from pg_settings where pending_restart order by name";
        let rows = self.client.query(names, &[]).await.map_err(refused)?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn catalogue(&mut self) -> Result<Catalogue, Error> {
        catalogue::read(&self.client).await
    }
}
