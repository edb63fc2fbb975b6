//! Reading instances, and what the hosts offer for new ones.

use std::collections::HashMap;

use windlass_core::{Error, id::InstanceId, role::Permission};
use windlass_db::{
    PgConnection,
    endpoints::endpoints_of_tx,
    ha::clusters_of_tx,
    instances::{InstanceFilter, instance_by_id_tx, instances_list_tx},
    members::members_of_tx,
    supply::{self, OfferedVersion},
};

use super::model::{InstanceName, InstanceView, Named, find};
use crate::{
    app::{Caller, Context},
    ha::ClusterView,
};

/// The instance of this name, or of this uid (which also finds deleted ones).
///
/// # Errors
/// `PERMISSION_MISSING`, `NOT_FOUND`.
pub async fn get(cx: &Context, caller: &Caller, name: &InstanceName) -> Result<InstanceView, Error> {
    let mut tx = cx.db.begin().await?;
    let row = find(&mut tx, caller, name, Permission::ProjectRead, Named::Present).await?;
    let members = members_of_tx(&mut tx, &[row.id]).await?;
    let endpoints = endpoints_of_tx(&mut tx, &[row.id]).await?;
    let cluster = clusters(cx, &mut tx, &[row.id]).await?.remove(&row.id);
    Ok(InstanceView { row, members, cluster, endpoints })
}

/// The instance as this transaction sees it; the answer of a dry run.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn view_tx(tx: &mut PgConnection, id: InstanceId) -> Result<InstanceView, Error> {
    let row = instance_by_id_tx(tx, id).await?.ok_or_else(|| Error::not_found("instance", id))?;
    let members = members_of_tx(tx, &[id]).await?;
    let endpoints = endpoints_of_tx(tx, &[id]).await?;
    Ok(InstanceView { row, members, cluster: None, endpoints })
}

/// A page of the instances of a project, or (`project` None) of all that the caller may see, by id.
///
/// # Errors
/// `PERMISSION_MISSING`, `NOT_FOUND` for the project.
pub async fn list(
    cx: &Context,
    caller: &Caller,
    project: Option<&str>,
    filter: InstanceFilter,
    after: Option<InstanceId>,
    limit: i64,
) -> Result<Vec<InstanceView>, Error> {
    let mut tx = cx.db.begin().await?;
    let project = match project {
        Some(name) => Some(caller.project_tx(&mut tx, name, Permission::ProjectRead).await?.id),
        None => {
            caller.check(Permission::ProjectRead, caller.own_project())?;
            caller.own_project()
        }
    };
    let rows = instances_list_tx(&mut tx, &InstanceFilter { project, ..filter }, after, limit).await?;
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let mut clusters = clusters(cx, &mut tx, &ids).await?;
    let mut members = members_of_tx(&mut tx, &ids).await?.into_iter().peekable();
    let mut endpoints = endpoints_of_tx(&mut tx, &ids).await?.into_iter().peekable();
    Ok(rows
        .into_iter()
        .map(|row| {
            let mut own = Vec::new();
            while let Some(member) = members.next_if(|member| member.instance_id == row.id) {
                own.push(member);
            }
            let mut reached = Vec::new();
            while let Some(endpoint) = endpoints.next_if(|endpoint| endpoint.instance_id == row.id) {
                reached.push(endpoint);
            }
            let cluster = clusters.remove(&row.id);
            InstanceView { row, members: own, cluster, endpoints: reached }
        })
        .collect())
}

/// Where these instances stand as clusters: as this node hears it, else as it is stored, with what the node that decides
/// says of it.
pub(super) async fn clusters(
    cx: &Context,
    tx: &mut PgConnection,
    ids: &[InstanceId],
) -> Result<HashMap<InstanceId, ClusterView>, Error> {
    let (mut found, mut elsewhere) = (HashMap::new(), Vec::new());
    for row in clusters_of_tx(tx, ids).await? {
        let view = match cx.ha.heard(row.instance) {
            Some(heard) => heard,
            None => {
                elsewhere.push(row.instance);
                ClusterView::stored(&row)?
            }
        };
        found.insert(row.instance, view);
    }
    if !elsewhere.is_empty() {
        for (instance, waits) in cx.db.waits(&elsewhere).await? {
            found.entry(instance).and_modify(|view| view.waits = waits);
        }
    }
    Ok(found)
}

/// Engines and versions that the hosts have, for anybody with a key.
///
/// # Errors
/// Those of the database.
pub async fn engine_versions(cx: &Context) -> Result<Vec<OfferedVersion>, Error> {
    let mut tx = cx.db.begin().await?;
    supply::offered_versions_tx(&mut tx).await
}
