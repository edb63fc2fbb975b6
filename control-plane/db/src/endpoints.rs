//! Where clients reach instances, kept for listing and for naming services. Derived from routes and proxies; may be lost
//! and written anew at any time.

use sqlx::PgConnection;
use uuid::Uuid;
use windlass_core::{Error, id::InstanceId};

use crate::error::DbResult as _;

/// One address of an instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointRow {
    /// Whose.
    pub instance_id: InstanceId,
    /// `primary` or `replica`.
    pub role: String,
    /// `proxy` or `direct`.
    pub via: String,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Makes these the only endpoints of these instances. Instances that are gone are left out.
///
/// # Errors
/// Those of the database.
pub async fn endpoints_replace_tx(
    tx: &mut PgConnection,
    instances: &[InstanceId],
    endpoints: &[EndpointRow],
) -> Result<(), Error> {
    let instances: Vec<Uuid> = instances.iter().map(|id| id.0).collect();
    let owners: Vec<Uuid> = endpoints.iter().map(|e| e.instance_id.0).collect();
    let roles: Vec<String> = endpoints.iter().map(|e| e.role.clone()).collect();
    let vias: Vec<String> = endpoints.iter().map(|e| e.via.clone()).collect();
    let hosts: Vec<String> = endpoints.iter().map(|e| e.host.clone()).collect();
    let ports: Vec<i32> = endpoints.iter().map(|e| e.port.into()).collect();
    sqlx::query!(
        "delete from endpoint e
          where e.instance_id = any($1)
            and not exists (select from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::int[])
                                     as w (instance_id, role, via, host, port)
                             where (w.instance_id, w.role, w.via, w.host, w.port)
                                 = (e.instance_id, e.role, e.via, e.host, e.port))",
        &instances,
        &owners,
        &roles,
        &vias,
        &hosts,
        &ports
    )
    .execute(&mut *tx)
    .await
    .db()?;
    sqlx::query!(
        "insert into endpoint (instance_id, role, via, host, port)
         select w.instance_id, w.role, w.via, w.host, w.port
           from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int[])
                  as w (instance_id, role, via, host, port)
           join instance i on i.id = w.instance_id
             on conflict do nothing",
        &owners,
        &roles,
        &vias,
        &hosts,
        &ports
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// The endpoints of these instances, by instance, those of primaries first.
///
/// # Errors
/// Those of the database.
pub async fn endpoints_of_tx(tx: &mut PgConnection, instances: &[InstanceId]) -> Result<Vec<EndpointRow>, Error> {
    let ids: Vec<Uuid> = instances.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"select instance_id as "instance_id: InstanceId", role, via, host, port
             from endpoint where instance_id = any($1)
            order by instance_id, role, via desc, host, port"#,
        &ids
    )
    .fetch_all(tx)
    .await
    .db()?;
    Ok(rows
        .into_iter()
        .map(|row| EndpointRow {
            instance_id: row.instance_id,
            role: row.role,
            via: row.via,
            host: row.host,
            port: u16::try_from(row.port).unwrap_or(0),
        })
        .collect())
}
