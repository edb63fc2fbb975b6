//! Events: what happened, for people. Append-only.
//!
//! Written in the transaction of the change it tells of, so that there is no change without its event and no event
//! without its change. Ids grow in the order of insertion, not of commit: a reader that follows them may see a lower
//! id appear after a higher one for as long as the slower transaction lasts.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sqlx::{PgConnection, types::Json};
use windlass_core::{
    Error,
    event::Severity,
    id::{HostId, InstanceId, OperationId, ProjectId},
};

use crate::{Db, error::DbResult as _};

/// An event to add. Build it by [`NewEvent::info`], [`NewEvent::warning`] or [`NewEvent::error`] and the fields.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// How much it matters.
    pub severity: Severity,
    /// Dotted word, for example `instance.created`.
    pub kind: String,
    /// Full name of what it is about, for example `projects/p/instances/i` or `hosts/h`.
    pub target: String,
    /// What happened, in one sentence.
    pub message: String,
    /// Uid of an API key, name of a host, or `system`.
    pub actor: String,
    /// The project that may see it; None for the fleet's own events.
    pub project: Option<ProjectId>,
    /// The host, if it is about one.
    pub host: Option<HostId>,
    /// The instance, if it is about one.
    pub instance: Option<InstanceId>,
    /// The operation that caused it.
    pub operation: Option<OperationId>,
    /// Facts for machines.
    pub data: BTreeMap<String, String>,
}

impl NewEvent {
    fn new(severity: Severity, kind: &str, target: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity,
            kind: kind.to_owned(),
            target: target.into(),
            message: message.into(),
            actor: "system".to_owned(),
            project: None,
            host: None,
            instance: None,
            operation: None,
            data: BTreeMap::new(),
        }
    }

    /// Something went as intended. The actor is `system` until another is set.
    pub fn info(kind: &str, target: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Info, kind, target, message)
    }

    /// Something went wrong and is being mended, or may go wrong.
    pub fn warning(kind: &str, target: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, kind, target, message)
    }

    /// Something is broken.
    pub fn error(kind: &str, target: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, kind, target, message)
    }
}

/// An event as stored.
#[derive(Debug, Clone)]
pub struct EventRow {
    /// Grows with each event.
    pub id: i64,
    /// When it was written.
    pub time: Timestamp,
    /// How much it matters.
    pub severity: Severity,
    /// Dotted word.
    pub kind: String,
    /// Full name of what it is about.
    pub target: String,
    /// What happened.
    pub message: String,
    /// Who did it.
    pub actor: String,
    /// The operation that caused it.
    pub operation: Option<OperationId>,
    /// Facts for machines.
    pub data: BTreeMap<String, String>,
}

/// Which events to list.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Only those of this project.
    pub project: Option<ProjectId>,
    /// Only those about this resource.
    pub target: Option<String>,
    /// Only those with a greater id.
    pub after: i64,
    /// At most so many.
    pub limit: i64,
    /// Where to cut when there are more.
    pub end: EventEnd,
}

/// Which end of the matching events to give.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EventEnd {
    /// The oldest.
    #[default]
    Oldest,
    /// The newest.
    Newest,
}

/// Adds an event; gives its id.
///
/// # Errors
/// Those of the database.
pub async fn event_add_tx(tx: &mut PgConnection, event: NewEvent) -> Result<i64, Error> {
    sqlx::query_scalar!(
        "insert into event (severity, kind, target, project_id, host_id, instance_id, operation_id, actor, message, data)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) returning id",
        event.severity.as_str(),
        event.kind,
        event.target,
        event.project.map(|id| id.0),
        event.host.map(|id| id.0),
        event.instance.map(|id| id.0),
        event.operation.map(|id| id.0),
        event.actor,
        event.message,
        Json(&event.data) as _
    )
    .fetch_one(tx)
    .await
    .db()
}

impl Db {
    /// Adds an event in a transaction of its own; see [`event_add_tx`].
    ///
    /// # Errors
    /// Those of the database.
    pub async fn event_add(&self, event: NewEvent) -> Result<i64, Error> {
        let mut tx = self.begin().await?;
        let id = event_add_tx(&mut tx, event).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// The events that match, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn event_list(&self, query: &EventQuery) -> Result<Vec<EventRow>, Error> {
        let after = match query.end {
            EventEnd::Oldest => query.after,
            EventEnd::Newest => self.event_cut(query).await?.max(query.after),
        };
        let rows = sqlx::query!(
            r#"select id, time, severity as "severity: Severity", kind, target, message, actor,
                      operation_id as "operation_id: OperationId", data as "data: Json<BTreeMap<String, String>>"
                 from event
                where ($1::uuid is null or project_id = $1) and ($2::text is null or target = $2) and id > $3
                order by id limit $4"#,
            query.project.map(|id| id.0),
            query.target,
            after,
            query.limit
        )
        .fetch_all(self.pool())
        .await
        .db()?;
        Ok(rows
            .into_iter()
            .map(|row| EventRow {
                id: row.id,
                time: row.time.to_jiff(),
                severity: row.severity,
                kind: row.kind,
                target: row.target,
                message: row.message,
                actor: row.actor,
                operation: row.operation_id,
                data: row.data.0,
            })
            .collect())
    }

    /// The id below the newest `limit` matching events; 0 when there are no more than those.
    async fn event_cut(&self, query: &EventQuery) -> Result<i64, Error> {
        let id = sqlx::query_scalar!(
            "select id from event
              where ($1::uuid is null or project_id = $1) and ($2::text is null or target = $2)
              order by id desc offset $3 limit 1",
            query.project.map(|id| id.0),
            query.target,
            query.limit
        )
        .fetch_optional(self.pool())
        .await
        .db()?;
        Ok(id.unwrap_or(0))
    }

    /// Forgets events older than `age`; at most `limit` at a time. Gives how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn event_expire(&self, age: SignedDuration, limit: i64) -> Result<u64, Error> {
        let done = sqlx::query!(
            "delete from event where id in
                (select id from event where time < now() - make_interval(secs => $1) order by id limit $2)",
            age.as_secs_f64(),
            limit
        )
        .execute(self.pool())
        .await
        .db()?;
        Ok(done.rows_affected())
    }
}
