//! How commands end: by a report, a cancel, their deadline, or being given up; and how lost ones are queued again.

use std::collections::HashSet;

use jiff::SignedDuration;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;
use windlass_core::{
    Error,
    command::{CommandState, MAX_ATTEMPTS},
    id::{CommandId, HostId, InstanceId, OperationId},
};

use crate::{
    Db,
    error::DbResult as _,
    events::{NewEvent, event_add_tx},
    sagas,
};

/// What an agent says became of a command.
#[derive(Debug, Clone)]
pub struct CommandReport {
    /// The command.
    pub uid: CommandId,
    /// Who says it.
    pub host: HostId,
    /// The delivery it speaks of.
    pub attempt: i32,
    /// SUCCEEDED, FAILED or CANCELLED.
    pub state: CommandState,
    /// Facts or failure.
    pub result: Value,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportVerdict {
    /// Stored.
    Stored,
    /// The command had ended before, or is not known (any more): the agent may forget it.
    Ended,
    /// It speaks of an older delivery: refused.
    Stale,
}

/// One delivery of a command to its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// The command.
    pub uid: CommandId,
    /// Which delivery.
    pub attempt: i32,
}

/// A command that ended, or went back to the queue, without a report.
#[derive(Debug, Clone)]
pub struct EndedCommand {
    /// The command.
    pub uid: CommandId,
    /// Its host.
    pub host: HostId,
    /// Its saga, which is due now if the command ended.
    pub saga: Option<OperationId>,
    /// Where it stands now.
    pub state: CommandState,
}

/// Stores a batch of reports; verdicts are in the order of the reports.
///
/// # Errors
/// Those of the database; then nothing was stored.
pub async fn commands_report_tx(tx: &mut PgConnection, reports: &[CommandReport]) -> Result<Vec<ReportVerdict>, Error> {
    let uids: Vec<Uuid> = reports.iter().map(|r| r.uid.0).collect();
    lock_sagas_of_tx(tx, &uids).await?;
    let hosts: Vec<Uuid> = reports.iter().map(|r| r.host.0).collect();
    let attempts: Vec<i32> = reports.iter().map(|r| r.attempt).collect();
    let states: Vec<String> = reports.iter().map(|r| r.state.as_str().to_owned()).collect();
    let results: Vec<Value> = reports.iter().map(|r| r.result.clone()).collect();
    let stored = sqlx::query!(
        "update command c
            set state = r.state, result = r.result, end_time = now(), lease_until = null
           from unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::jsonb[])
                as r(uid, host_id, attempt, state, result)
          where c.uid = r.uid and c.host_id = r.host_id and c.attempt = r.attempt and c.state = 'LEASED'
      returning c.uid, c.attempt, c.saga_id",
        &uids,
        &hosts,
        &attempts,
        &states,
        &results
    )
    .fetch_all(&mut *tx)
    .await
    .db()?;
    let wake: Vec<Uuid> = stored.iter().filter_map(|row| row.saga_id).collect();
    sagas::sagas_wake_tx(tx, &wake).await?;
    let stored: HashSet<(Uuid, i32)> = stored.into_iter().map(|row| (row.uid, row.attempt)).collect();
    let open = sqlx::query_scalar!("select uid from command where uid = any($1) and end_time is null", &uids)
        .fetch_all(tx)
        .await
        .db()?;
    Ok(reports
        .iter()
        .map(|report| {
            if stored.contains(&(report.uid.0, report.attempt)) {
                ReportVerdict::Stored
            } else if open.contains(&report.uid.0) {
                ReportVerdict::Stale
            } else {
                ReportVerdict::Ended
            }
        })
        .collect())
}

/// Cancels what the saga has in the queue; asks agents to cancel what they carry out. Gives the hosts to tell.
///
/// # Errors
/// Those of the database.
pub async fn commands_cancel_tx(tx: &mut PgConnection, saga: OperationId) -> Result<Vec<HostId>, Error> {
    sqlx::query_scalar!(
        r#"update command
              set cancel_requested = true,
                  state = case state when 'QUEUED' then 'CANCELLED' else state end,
                  end_time = case state when 'QUEUED' then now() end
            where saga_id = $1 and state in ('QUEUED', 'LEASED')
        returning host_id as "host: HostId""#,
        saga.0
    )
    .fetch_all(tx)
    .await
    .db()
}

impl Db {
    /// Stores a batch of reports in a transaction of its own; see [`commands_report_tx`].
    ///
    /// # Errors
    /// Those of the database; then nothing was stored, or all was.
    pub async fn commands_report(&self, reports: &[CommandReport]) -> Result<Vec<ReportVerdict>, Error> {
        let mut tx = self.begin().await?;
        let verdicts = commands_report_tx(&mut tx, reports).await?;
        tx.commit().await?;
        Ok(verdicts)
    }

    /// Ends queued commands whose deadline is past; at most `limit`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn commands_expire(&self, limit: i64) -> Result<Vec<EndedCommand>, Error> {
        let mut tx = self.begin().await?;
        let uids = sqlx::query_scalar!(
            "select uid from command
              where state = 'QUEUED' and expire_time <= clock_timestamp() order by expire_time limit $1",
            limit
        )
        .fetch_all(&mut *tx)
        .await
        .db()?;
        lock_sagas_of_tx(&mut tx, &uids).await?;
        let ended = sqlx::query_as!(
            EndedCommand,
            r#"update command set state = 'EXPIRED', end_time = now()
                where uid = any($1) and state = 'QUEUED'
            returning uid as "uid: CommandId", host_id as "host: HostId",
                      saga_id as "saga: OperationId", state as "state: CommandState""#,
            &uids
        )
        .fetch_all(&mut *tx)
        .await
        .db()?;
        sagas::sagas_wake_tx(&mut tx, &sagas_of(&ended)).await?;
        tx.commit().await?;
        Ok(ended)
    }

    /// Takes back commands whose lease is past and whose host does not poll here; at most `limit`. They go back to
    /// the queue; those to be cancelled end as CANCELLED, those delivered too often as FAILED, with an event.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn commands_reap(&self, polling: &[HostId], limit: i64) -> Result<Vec<EndedCommand>, Error> {
        let polling: Vec<Uuid> = polling.iter().map(|host| host.0).collect();
        let past = sqlx::query_as!(
            Delivery,
            r#"select uid as "uid: CommandId", attempt from command
                where state = 'LEASED' and lease_until < clock_timestamp() and host_id <> all($1)
                order by lease_until limit $2"#,
            &polling,
            limit
        )
        .fetch_all(self.pool())
        .await
        .db()?;
        self.commands_take_back(&past).await
    }

    /// Takes these deliveries back, in the sense of [`Db::commands_reap`]; those that ended meanwhile are left alone.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn commands_take_back(&self, deliveries: &[Delivery]) -> Result<Vec<EndedCommand>, Error> {
        if deliveries.is_empty() {
            return Ok(Vec::new());
        }
        let uids: Vec<Uuid> = deliveries.iter().map(|d| d.uid.0).collect();
        let attempts: Vec<i32> = deliveries.iter().map(|d| d.attempt).collect();
        let mut tx = self.begin().await?;
        lock_sagas_of_tx(&mut tx, &uids).await?;
        let rows = sqlx::query!(
            r#"update command c
                  set state = case when c.cancel_requested then 'CANCELLED'
                                   when c.attempt >= $3 then 'FAILED' else 'QUEUED' end,
                      end_time = case when c.cancel_requested or c.attempt >= $3 then now() end,
                      lease_until = null
                 from unnest($1::uuid[], $2::int[]) as d(uid, attempt), host h
                where c.uid = d.uid and c.attempt = d.attempt and c.state = 'LEASED' and h.id = c.host_id
            returning c.uid as "uid: CommandId", c.host_id as "host: HostId", c.instance_id as "instance: InstanceId",
                      c.saga_id as "saga: OperationId", c.state as "state: CommandState", c.kind, h.name"#,
            &uids,
            &attempts,
            MAX_ATTEMPTS
        )
        .fetch_all(&mut *tx)
        .await
        .db()?;
        let mut taken = Vec::with_capacity(rows.len());
        for row in rows {
            if row.state == CommandState::Failed {
                event_add_tx(
                    &mut tx,
                    NewEvent {
                        host: Some(row.host),
                        instance: row.instance,
                        operation: row.saga,
                        ..NewEvent::error(
                            "command.poisoned",
                            format!("hosts/{}", row.name),
                            format!(
                                "{} {} was delivered {MAX_ATTEMPTS} times without an answer and is given up",
                                row.kind, row.uid
                            ),
                        )
                    },
                )
                .await?;
            }
            taken.push(EndedCommand { uid: row.uid, host: row.host, saga: row.saga, state: row.state });
        }
        sagas::sagas_wake_tx(&mut tx, &sagas_of(&taken)).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Forgets commands that ended more than `age` ago and whose saga has ended; at most `limit`. Gives how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn commands_forget(&self, age: SignedDuration, limit: i64) -> Result<u64, Error> {
        let done = sqlx::query!(
            "delete from command where id in (
                select c.id from command c
                 where c.end_time < now() - make_interval(secs => $1)
                   and not exists (select 1 from saga s where s.id = c.saga_id and not s.done)
                 order by c.end_time limit $2)",
            age.as_secs_f64(),
            limit
        )
        .execute(self.pool())
        .await
        .db()?;
        Ok(done.rows_affected())
    }
}

async fn lock_sagas_of_tx(tx: &mut PgConnection, commands: &[Uuid]) -> Result<(), Error> {
    let sagas = sqlx::query_scalar!(
        r#"select distinct saga_id as "saga!" from command where uid = any($1) and saga_id is not null"#,
        commands
    )
    .fetch_all(&mut *tx)
    .await
    .db()?;
    sagas::sagas_lock_tx(tx, &sagas).await
}

/// The sagas that wait for an end that came.
fn sagas_of(commands: &[EndedCommand]) -> Vec<Uuid> {
    commands.iter().filter(|c| c.state.done()).filter_map(|c| c.saga).map(|saga| saga.0).collect()
}
