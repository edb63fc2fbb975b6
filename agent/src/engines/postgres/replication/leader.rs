//! What a leader says of its history, asked by a member that is to follow it.

use std::time::Duration;

use tokio_postgres::{Client, config::SslMode};
use windlass_core::{Error, id::MemberId};

use super::{
    Barrier, Lsn, Position,
    lineage::{Shared, history_file, parse_history},
    tls::MemberTls,
};
use crate::engines::{
    Server,
    postgres::{HOME_DATABASE, access::REPLICATION_ROLE, run::refused},
};

/// Longer than a healthy network takes; shorter than what makes a person impatient.
const LIMIT: Duration = Duration::from_secs(3);

/// Where a member is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// The member.
    pub member: MemberId,
    /// Host name or IP address.
    pub address: String,
    /// Port.
    pub port: u16,
}

/// What a leader says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Whether it is a standby.
    pub recovering: bool,
    /// Its history and the end of its log.
    pub position: Position,
    /// Timeline of its last checkpoint; a rewind believes this one.
    pub checkpoint_timeline: u32,
    /// The epoch that it leads.
    pub epoch: Option<u64>,
    /// Whether it has the asker's newest barrier row.
    pub shared: Shared,
    /// Whether it still has the log from the asker's end on; None if the asker has no log yet.
    pub has_log: Option<bool>,
}

/// Asks the leader. `newest` is the asker's newest barrier row, `from` the end of its log and its timeline.
///
/// # Errors
/// `UNAVAILABLE` if it cannot be reached, `DATABASE_REFUSED` with what it said.
pub async fn look(
    server: &Server,
    remote: &Remote,
    newest: Option<Barrier>,
    from: Option<(u32, Lsn)>,
) -> Result<Leader, Error> {
    let looked = tokio::time::timeout(LIMIT, ask(server, remote, newest, from)).await;
    looked.map_err(|_| {
        Error::unavailable(format!("{}:{} did not answer within {} s", remote.address, remote.port, LIMIT.as_secs()))
    })?
}

async fn ask(
    server: &Server,
    remote: &Remote,
    newest: Option<Barrier>,
    from: Option<(u32, Lsn)>,
) -> Result<Leader, Error> {
    const STATE: &str = "select (select system_identifier::text from pg_control_system()), \
        pg_is_in_recovery(), \
        case when pg_is_in_recovery() then (select timeline_id from pg_control_checkpoint())::int8 \
            else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int8 end, \
        (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end - '0/0')::int8, \
        (select timeline_id from pg_control_checkpoint())::int8, \
        (select bytes_per_wal_segment from pg_control_init())::int8, \
        current_setting('windlass.epoch', true)";
    const ROW: &str = "select nonce::text from windlass.barrier where epoch = $1 and rev = $2";
    let client = connect(server, remote).await?;
    let state = client.query_one(STATE, &[]).await.map_err(refused)?;
    let number = |index: usize| u32::try_from(state.get::<_, i64>(index)).unwrap_or_default();
    let timeline = number(2);
    let history = match timeline {
        0 | 1 => Vec::new(),
        _ => parse_history(&read_file(&client, &format!("pg_wal/{}", history_file(timeline))).await?),
    };
    let shared = match newest {
        None => Shared::Yes,
        Some(own) => {
            let row =
                client.query_opt(ROW, &[&own.epoch.cast_signed(), &own.rev.cast_signed()]).await.map_err(refused)?;
            if row.is_some_and(|row| row.get::<_, &str>(0) == own.nonce.to_string()) { Shared::Yes } else { Shared::No }
        }
    };
    let segment = state.get::<_, i64>(5).unsigned_abs();
    let end = Lsn(state.get::<_, Option<i64>>(3).unwrap_or_default().unsigned_abs());
    let has_log = match from {
        None => None,
        // There is nothing more to send, and perhaps no segment for it yet.
        Some((_, own)) if own >= end => Some(true),
        Some((timeline, end)) => Some(has_segment(&client, timeline, end, segment, &history).await?),
    };
    Ok(Leader {
        recovering: state.get(1),
        position: Position { system: state.get::<_, &str>(0).to_owned(), timeline, history, end },
        checkpoint_timeline: number(4),
        epoch: state.get::<_, Option<&str>>(6).and_then(|text| text.parse().ok()).filter(|epoch| *epoch > 0),
        shared,
        has_log,
    })
}

/// Whether the leader has the segment from which the asker goes on: on its own timeline or, where that ended, on one of
/// those after it.
async fn has_segment(
    client: &Client,
    timeline: u32,
    end: Lsn,
    segment: u64,
    history: &[super::Ancestor],
) -> Result<bool, Error> {
    // The segment with the next byte.
    let name = super::lineage::segment_name(Lsn(end.0 + 1), segment);
    let later = history.iter().map(|ancestor| ancestor.timeline).filter(|other| *other >= timeline);
    let newest = history.last().map_or(timeline, |parent| parent.timeline + 1);
    for candidate in later.chain([timeline, newest]) {
        let path = format!("pg_wal/{candidate:08X}{name}");
        let row = client.query_one("select size from pg_stat_file($1, true)", &[&path]).await.map_err(refused)?;
        if row.get::<_, Option<i64>>(0).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn read_file(client: &Client, path: &str) -> Result<String, Error> {
    let row =
        client.query_one("select convert_from(pg_read_binary_file($1), 'UTF8')", &[&path]).await.map_err(refused)?;
    Ok(row.get(0))
}

async fn connect(server: &Server, remote: &Remote) -> Result<Client, Error> {
    let mut config = tokio_postgres::Config::new();
    config
        .host(&remote.address)
        .port(remote.port)
        .user(REPLICATION_ROLE)
        .dbname(HOME_DATABASE)
        .ssl_mode(SslMode::Require)
        .application_name("windlass-agent")
        .options("-c search_path=pg_catalog -c statement_timeout=10s")
        .connect_timeout(LIMIT);
    let (client, connection) = config.connect(MemberTls::read(&server.site.tls)?).await.map_err(refused)?;
    tokio::spawn(connection);
    Ok(client)
}
