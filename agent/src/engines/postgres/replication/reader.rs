//! Facts of a running server, several times a second: one statement on a connection that is kept.

use std::collections::BTreeMap;

use serde::Deserialize;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;
use windlass_core::Error;

use super::{Barrier, Lsn, SlotState};
use crate::engines::{
    Server,
    postgres::{
        HOME_DATABASE,
        run::{accepts, open, refused},
    },
};

/// What a server says of itself.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Live {
    /// System identifier.
    pub system: String,
    /// Whether it is a standby, or recovers.
    pub recovering: bool,
    /// Bytes of a segment of the log.
    pub segment: u64,
    /// Timeline of the last checkpoint.
    pub checkpoint_timeline: u32,
    /// Where a crash restart would begin.
    pub redo: Lsn,
    /// A primary's timeline; 0 of a standby.
    pub timeline: u32,
    /// A primary's end of the log, in memory.
    pub inserted: Option<Lsn>,
    /// A primary's end of the log on disk, or what a standby received since its start.
    pub flushed: Option<Lsn>,
    /// How far a standby replayed.
    pub replayed: Option<Lsn>,
    /// What a standby's startup process waits for.
    pub startup: Option<String>,
    /// A standby's connection.
    pub receiver: Option<Receiver>,
    /// A primary's followers.
    pub senders: Vec<Sender>,
    /// `synchronous_standby_names` in effect.
    pub names: String,
    /// `windlass.epoch` in effect.
    pub epoch: Option<String>,
    /// `primary_conninfo` in effect.
    pub conninfo: String,
    /// Sessions of clients, without the agent's and other members'.
    pub clients: u64,
    /// Physical slots that belong to members.
    pub slots: BTreeMap<String, SlotState>,
    /// Newest barrier row in its data.
    #[serde(skip)]
    pub barrier: Option<Barrier>,
}

/// A standby's connection to its upstream.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Receiver {
    /// Its process.
    pub pid: i32,
    /// `streaming` once it does.
    pub status: String,
    /// Its timeline.
    pub timeline: Option<u32>,
    /// The connection string that it uses.
    pub conninfo: Option<String>,
    /// Seconds since the last message.
    pub silent: Option<f64>,
}

/// A follower of a primary.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Sender {
    /// The streaming name.
    pub name: String,
    /// `streaming` once it does.
    pub state: Option<String>,
    /// `quorum` or `sync` if commits may wait for it.
    pub sync_state: Option<String>,
    /// On the follower's disk.
    pub flushed: Option<Lsn>,
    /// Replayed by the follower.
    pub replayed: Option<Lsn>,
}

impl Live {
    /// The newest end of the log that is on disk here.
    pub fn end(&self) -> Lsn {
        self.flushed.unwrap_or_default().max(self.replayed.unwrap_or_default())
    }

    /// Whether a standby replayed all that it has, and has nobody who sends more.
    pub fn is_exhausted(&self) -> bool {
        let waits = matches!(
            self.startup.as_deref(),
            Some("RecoveryWalStream" | "RecoveryRetrieveRetryInterval" | "RecoveryWalAll")
        );
        let replayed = self.replayed.unwrap_or_default();
        self.receiver.is_none()
            && replayed > Lsn(0)
            && (waits || self.flushed.is_some_and(|flushed| flushed <= replayed))
    }

    /// Whether a standby will receive nothing more, though it may still replay.
    pub fn is_sealed(&self) -> bool {
        self.recovering
            && self.conninfo.is_empty()
            && self.receiver.is_none()
            && (self.flushed.is_some() || self.is_exhausted())
    }
}

impl Sender {
    /// Whether its receipts release commits.
    pub fn counts(&self) -> bool {
        matches!(self.sync_state.as_deref(), Some("quorum" | "sync"))
    }
}

impl Receiver {
    /// A value of its connection string.
    pub fn value(&self, key: &str) -> Option<String> {
        let conninfo = self.conninfo.as_deref()?;
        let start = conninfo.find(&format!("{key}="))? + key.len() + 1;
        let value = &conninfo[start..];
        Some(match value.strip_prefix('\'') {
            Some(rest) => rest[..rest.find('\'')?].to_owned(),
            None => value.split(' ').next().unwrap_or_default().to_owned(),
        })
    }
}

const LIVE: &str = "select json_build_object(\
    'system', (select system_identifier::text from pg_control_system()), \
    'recovering', r, \
    'segment', (select bytes_per_wal_segment from pg_control_init()), \
    'checkpoint_timeline', c.timeline_id, \
    'redo', (c.redo_lsn - '0/0')::int8, \
    'timeline', case when r then 0 else \
        ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int8 end, \
    'inserted', case when not r then (pg_current_wal_insert_lsn() - '0/0')::int8 end, \
    'flushed', case when r then (pg_last_wal_receive_lsn() - '0/0')::int8 \
        else (pg_current_wal_flush_lsn() - '0/0')::int8 end, \
    'replayed', case when r then (pg_last_wal_replay_lsn() - '0/0')::int8 end, \
    'startup', (select wait_event from pg_stat_activity where backend_type = 'startup'), \
    'receiver', (select json_build_object('pid', pid, 'status', status, 'timeline', received_tli, \
        'conninfo', conninfo, 'silent', extract(epoch from clock_timestamp() - last_msg_receipt_time)) \
        from pg_stat_wal_receiver), \
    'senders', (select coalesce(json_agg(json_build_object('name', application_name, 'state', state, \
        'sync_state', sync_state, 'flushed', (flush_lsn - '0/0')::int8, 'replayed', (replay_lsn - '0/0')::int8)), '[]') \
        from pg_stat_replication), \
    'names', current_setting('synchronous_standby_names'), \
    'epoch', current_setting('windlass.epoch', true), \
    'conninfo', current_setting('primary_conninfo'), \
    'clients', (select count(*) from pg_stat_activity where backend_type = 'client backend' \
        and usename not in ('windlass', 'windlass_replication')), \
    'slots', (select coalesce(json_object_agg(slot_name, \
        case when wal_status = 'lost' then 'lost' when restart_lsn is null then 'empty' else 'keeps' end), '{}') \
        from pg_replication_slots where slot_type = 'physical' and slot_name ~ '^m[0-9a-f]{12}$')\
    )::text from (select pg_is_in_recovery() as r) s, pg_control_checkpoint() c";

const BARRIER: &str =
    "select epoch, rev, member::text, nonce::text from windlass.barrier order by epoch desc, rev desc limit 1";

const SETTINGS: &str = "select current_setting('synchronous_standby_names') = $1 \
    and current_setting('windlass.epoch', true) is not distinct from $2 and current_setting('primary_conninfo') = $3";

const RECOVERING: &str = "select pg_is_in_recovery()";

/// A connection for facts.
pub struct Reader {
    client: Client,
    live: Statement,
    settings: Statement,
    recovering: Statement,
    /// None until the table is there.
    barrier: Option<Statement>,
}

impl Reader {
    /// Whether the server of this pid accepts connections.
    pub fn is_welcome(server: &Server, pid: i32) -> bool {
        accepts(server, pid)
    }

    /// Connects.
    ///
    /// # Errors
    /// `UNAVAILABLE` while the server does not accept connections.
    pub async fn connect(server: &Server) -> Result<Self, Error> {
        let client = open(server, HOME_DATABASE).await?;
        let (live, settings, recovering) =
            tokio::try_join!(client.prepare(LIVE), client.prepare(SETTINGS), client.prepare(RECOVERING))
                .map_err(refused)?;
        Ok(Self { client, live, settings, recovering, barrier: None })
    }

    /// The facts now.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the connection is gone.
    pub async fn read(&mut self) -> Result<Live, Error> {
        if self.barrier.is_none() {
            // A fresh copy may not have replayed as far as the table.
            self.barrier = self.client.prepare(BARRIER).await.ok();
        }
        let live = async {
            let row = self.client.query_one(&self.live, &[]).await.map_err(refused)?;
            let live: Live = serde_json::from_str(row.get(0))
                .map_err(|error| Error::internal("the server's facts cannot be read").with_source(error))?;
            Ok::<_, Error>(live)
        };
        let barrier = async {
            match &self.barrier {
                Some(statement) => self.client.query_opt(statement, &[]).await.map_err(refused),
                None => Ok(None),
            }
        };
        let (mut live, row) = tokio::try_join!(live, barrier)?;
        live.barrier = row.map(|row| Barrier {
            epoch: row.get::<_, i64>(0).unsigned_abs(),
            rev: row.get::<_, i64>(1).unsigned_abs(),
            member: row.get::<_, &str>(2).parse().unwrap_or_default(),
            nonce: row.get::<_, &str>(3).parse().unwrap_or_else(|_| Uuid::nil()),
        });
        Ok(live)
    }

    /// Whether the server has read these settings: `synchronous_standby_names`, `windlass.epoch`, `primary_conninfo`.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the connection is gone.
    pub async fn has_read(&self, names: &str, epoch: &str, conninfo: &str) -> Result<bool, Error> {
        let row = self.client.query_one(&self.settings, &[&names, &epoch, &conninfo]).await.map_err(refused)?;
        Ok(row.get(0))
    }

    /// Whether it is a standby still.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the connection is gone.
    pub async fn is_recovering(&self) -> Result<bool, Error> {
        Ok(self.client.query_one(&self.recovering, &[]).await.map_err(refused)?.get(0))
    }

    /// For statements.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Makes the server read its files; does not wait.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the connection is gone.
    pub async fn reload(&self) -> Result<(), Error> {
        self.client.execute("select pg_reload_conf()", &[]).await.map(drop).map_err(refused)
    }

    /// Ends the sessions of clients; those of the agent and of followers stay.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the connection is gone.
    pub async fn end_sessions(&self) -> Result<(), Error> {
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' \
            and usename not in ('windlass', 'windlass_replication')";
        self.client.execute(end, &[]).await.map(drop).map_err(refused)
    }

    /// Asks a standby to become a primary; does not wait.
    ///
    /// # Errors
    /// `DATABASE_REFUSED` by a primary.
    pub async fn promote(&self) -> Result<(), Error> {
        self.client.execute("select pg_promote(false)", &[]).await.map(drop).map_err(refused)
    }

    /// Commits something that waits for nobody. Why: a copy that was begun while a commit waits holds that commit for one
    /// under way until it sees a later one end (its snapshots end before it), and if all wait for the copy, none does.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the connection is gone.
    pub async fn nudge(&self) -> Result<(), Error> {
        let statements = "begin; set local synchronous_commit = local; select pg_current_xact_id(); commit";
        self.client.batch_execute(statements).await.map_err(refused)
    }

    /// Writes everything out now.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the connection is gone.
    pub async fn checkpoint(&self) -> Result<(), Error> {
        self.client.batch_execute("checkpoint").await.map_err(refused)
    }

    /// Leaves little to do for a stop and for who follows afterwards: pages are written out, and the log goes on in a fresh
    /// segment, for a standby that connects is sent its segment from the beginning (`RequestXLogStreaming` in
    /// PostgreSQL's `walreceiverfuncs.c`). The second checkpoint is of what came during the first.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the connection is gone.
    pub async fn prepare_stop(&self) -> Result<(), Error> {
        self.checkpoint().await?;
        self.client.batch_execute("select pg_switch_wal()").await.map_err(refused)?;
        self.checkpoint().await
    }

    /// Makes what replication and proxies need in the database, if it is not there.
    ///
    /// # Errors
    /// `DATABASE_REFUSED`, `UNAVAILABLE`.
    pub async fn ensure_schema(&self) -> Result<(), Error> {
        super::ensure_schema(&self.client).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_a_connection_string() {
        let conninfo = "user=windlass_replication host='10.0.0.1' port=5432 application_name=m1_e7 sslmode=verify-full";
        let receiver =
            Receiver { pid: 1, status: String::new(), timeline: None, conninfo: Some(conninfo.into()), silent: None };
        assert_eq!(receiver.value("host").as_deref(), Some("10.0.0.1"));
        assert_eq!(receiver.value("application_name").as_deref(), Some("m1_e7"));
        assert_eq!(receiver.value("sslkey"), None);
    }
}
