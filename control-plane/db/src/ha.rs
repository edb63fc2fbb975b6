//! Replicated instances: one row each with who leads, whose receipts count and what each member is ordered.
//!
//! The state is JSON of `windlass_logic::ha::Cluster`; this crate does not look inside.
//!
//! Invariants:
//! 1. `(epoch, rev)` only grows, and every change is a compare-and-set on it, so that of two deciders one wins.
//! 2. A row exists exactly while its instance is replicated.
//! 3. Locks: instance, project, host, member, `ha_cluster`. A decision locks no instance, so that nothing that hangs
//!    on one can hold up a failover.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;
use windlass_core::{
    Error,
    id::{HostId, InstanceId, MemberId, ProjectId},
    member::MemberRole,
};

use crate::{Db, error::DbResult as _};

/// A cluster as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterRow {
    /// Whose it is.
    pub instance: InstanceId,
    /// The epoch.
    pub epoch: i64,
    /// Grows with each change.
    pub rev: i64,
    /// `windlass_logic::ha::Cluster`.
    pub state: Value,
}

/// Whose cluster it is, for events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterOwner {
    /// Its project.
    pub project: ProjectId,
    /// Full name of the instance.
    pub target: String,
}

/// A host as its peers need to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerHost {
    /// The host.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Where other hosts reach it.
    pub address: String,
    /// Port of its agent for other agents; 0 if it has none.
    pub peer_port: u16,
    /// Region, empty if unset.
    pub region: String,
    /// Zone, empty if unset.
    pub zone: String,
}

/// Stores a new cluster.
///
/// # Errors
/// `INTERNAL` when the instance has one.
pub async fn cluster_insert_tx(tx: &mut PgConnection, row: &ClusterRow, shard: i16) -> Result<(), Error> {
    sqlx::query!(
        "insert into ha_cluster (instance_id, shard, epoch, rev, state) values ($1, $2, $3, $4, $5)",
        row.instance.0,
        shard,
        row.epoch,
        row.rev,
        row.state
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// Replaces a cluster if it still stands at `(epoch, rev)`. False when it does not: somebody else decided.
///
/// # Errors
/// Those of the database.
pub async fn cluster_swap_tx(tx: &mut PgConnection, before: (i64, i64), next: &ClusterRow) -> Result<bool, Error> {
    let done = sqlx::query!(
        "update ha_cluster set epoch = $4, rev = $5, state = $6, update_time = now()
          where instance_id = $1 and epoch = $2 and rev = $3",
        next.instance.0,
        before.0,
        before.1,
        next.epoch,
        next.rev,
        next.state
    )
    .execute(tx)
    .await
    .db()?;
    Ok(done.rows_affected() > 0)
}

/// The cluster of an instance, locked until the transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn cluster_lock_tx(tx: &mut PgConnection, instance: InstanceId) -> Result<Option<ClusterRow>, Error> {
    sqlx::query_as!(
        ClusterRow,
        r#"select instance_id as "instance: InstanceId", epoch, rev, state
             from ha_cluster where instance_id = $1 for no key update"#,
        instance.0
    )
    .fetch_optional(tx)
    .await
    .db()
}

/// The clusters of these instances.
///
/// # Errors
/// Those of the database.
pub async fn clusters_of_tx(tx: &mut PgConnection, instances: &[InstanceId]) -> Result<Vec<ClusterRow>, Error> {
    let ids: Vec<Uuid> = instances.iter().map(|id| id.0).collect();
    sqlx::query_as!(
        ClusterRow,
        r#"select instance_id as "instance: InstanceId", epoch, rev, state
             from ha_cluster where instance_id = any($1) order by instance_id"#,
        &ids
    )
    .fetch_all(tx)
    .await
    .db()
}

/// Forgets the cluster of an instance that is not replicated any more.
///
/// # Errors
/// Those of the database.
pub async fn cluster_delete_tx(tx: &mut PgConnection, instance: InstanceId) -> Result<(), Error> {
    sqlx::query!("delete from ha_cluster where instance_id = $1", instance.0).execute(tx).await.db().map(drop)
}

/// Notes who leads an instance: that member is the primary, the others are replicas. Without one, all are replicas.
///
/// # Errors
/// Those of the database.
pub async fn member_roles_tx(
    tx: &mut PgConnection,
    instance: InstanceId,
    primary: Option<MemberId>,
) -> Result<(), Error> {
    sqlx::query!("select id from member where instance_id = $1 order by id for no key update", instance.0)
        .fetch_all(&mut *tx)
        .await
        .db()?;
    sqlx::query!(
        "update member set role = case when id = $2 then $3 else $4 end
          where instance_id = $1 and role is distinct from (case when id = $2 then $3 else $4 end)",
        instance.0,
        primary.map(|id| id.0),
        MemberRole::Primary.as_str(),
        MemberRole::Replica.as_str()
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

impl Db {
    /// Every cluster and whose it is.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn clusters(&self) -> Result<Vec<(ClusterRow, ClusterOwner)>, Error> {
        self.clusters_where(None).await
    }

    /// The cluster of one instance and whose it is.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn cluster(&self, instance: InstanceId) -> Result<Option<(ClusterRow, ClusterOwner)>, Error> {
        Ok(self.clusters_where(Some(instance)).await?.pop())
    }

    async fn clusters_where(&self, instance: Option<InstanceId>) -> Result<Vec<(ClusterRow, ClusterOwner)>, Error> {
        let rows = sqlx::query!(
            r#"select c.instance_id as "instance: InstanceId", c.epoch, c.rev, c.state,
                      i.project_id as "project: ProjectId", p.name as project_name, i.name
                 from ha_cluster c join instance i on i.id = c.instance_id join project p on p.id = i.project_id
                where $1::uuid is null or c.instance_id = $1
                order by c.instance_id"#,
            instance.map(|id| id.0)
        )
        .fetch_all(self.pool())
        .await
        .db()?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let target = format!("projects/{}/instances/{}", row.project_name, row.name);
                let cluster = ClusterRow { instance: row.instance, epoch: row.epoch, rev: row.rev, state: row.state };
                (cluster, ClusterOwner { project: row.project, target })
            })
            .collect())
    }

    /// The clusters that have a member on this host.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn clusters_on_host(&self, host: HostId) -> Result<Vec<ClusterRow>, Error> {
        sqlx::query_as!(
            ClusterRow,
            r#"select instance_id as "instance: InstanceId", epoch, rev, state from ha_cluster
                where instance_id in (select instance_id from member where host_id = $1) order by instance_id"#,
            host.0
        )
        .fetch_all(self.pool())
        .await
        .db()
    }

    /// Notes that the servers of these members run, which their agents said by another way than a heartbeat. Gives the
    /// instances of those of which that was not known.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn members_run(&self, members: &[MemberId]) -> Result<Vec<InstanceId>, Error> {
        let ids: Vec<Uuid> = members.iter().map(|id| id.0).collect();
        let mut tx = self.begin().await?;
        // Instances before members: the order that everybody keeps.
        sqlx::query!(
            "select id from instance where id in (select instance_id from member where id = any($1))
              order by id for no key update",
            &ids
        )
        .fetch_all(&mut *tx)
        .await
        .db()?;
        let changed = sqlx::query_scalar!(
            r#"update member set process = 'RUNNING', observed_time = now()
                where id = any($1) and process <> 'RUNNING' returning instance_id as "instance: InstanceId""#,
            &ids
        )
        .fetch_all(&mut *tx)
        .await
        .db()?;
        tx.commit().await?;
        Ok(changed)
    }

    /// All hosts that are not revoked, as peers know them.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn peer_hosts(&self) -> Result<Vec<PeerHost>, Error> {
        let rows = sqlx::query!(
            r#"select id as "id: HostId", name, address, peer_port, region, zone
                 from host where revoke_time is null order by id"#
        )
        .fetch_all(self.pool())
        .await
        .db()?;
        Ok(rows
            .into_iter()
            .map(|row| PeerHost {
                id: row.id,
                name: row.name,
                address: row.address,
                peer_port: u16::try_from(row.peer_port).unwrap_or(0),
                region: row.region,
                zone: row.zone,
            })
            .collect())
    }

    /// Makes the saga that works on this instance due: what it waits for may have come. In a transaction of its own,
    /// because a saga's row is locked before everything that a decision locks.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn saga_of_instance_wake(&self, instance: InstanceId) -> Result<(), Error> {
        sqlx::query!(
            "update saga set wake_at = clock_timestamp()
              where not done and wake_at is not null
                and id in (select id from operation
                            where instance_id = $1 and state not in ('SUCCEEDED', 'FAILED', 'CANCELLED'))",
            instance.0
        )
        .execute(self.pool())
        .await
        .db()
        .map(drop)
    }
}
