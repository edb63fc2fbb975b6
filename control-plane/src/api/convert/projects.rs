//! Projects.

use windlass_core::Error;
use windlass_db::projects::{Amount, ProjectRow};
use windlass_proto::api::v1 as pb;

use super::{resources, time};
use crate::{
    api::mask::Mask,
    app::projects::{ProjectUpdate, QuotaUpdate, full},
};

/// Paths that an update may name.
pub(in crate::api) const PATHS: &[&str] = &[
    "labels",
    "quota",
    "quota.instances",
    "quota.resources",
    "quota.resources.cpu_millis",
    "quota.resources.memory_bytes",
    "quota.resources.disk_bytes",
];

/// A project for the wire.
pub(in crate::api) fn project(row: ProjectRow) -> pb::Project {
    pb::Project {
        name: full(&row.name),
        uid: row.id.to_string(),
        labels: row.labels,
        quota: Some(pb::Quota { instances: row.quota.instances, resources: Some(resources(row.quota.resources)) }),
        usage: Some(usage(&row.used)),
        etag: row.revision.to_string(),
        create_time: Some(time(row.create_time)),
        update_time: Some(time(row.update_time)),
    }
}

fn usage(used: &Amount) -> pb::Usage {
    pb::Usage { instances: used.instances, resources: Some(resources(used.resources)) }
}

/// The quota of a new project: parts that are 0 take the default.
pub(in crate::api) fn first_quota(given: Option<&pb::Quota>) -> QuotaUpdate {
    let size = given.and_then(|quota| quota.resources.as_ref());
    let set = |value: u64| (value != 0).then_some(value);
    QuotaUpdate {
        instances: given.and_then(|quota| set(quota.instances)),
        cpu_millis: size.and_then(|size| set(size.cpu_millis)),
        memory_bytes: size.and_then(|size| set(size.memory_bytes)),
        disk_bytes: size.and_then(|size| set(size.disk_bytes)),
    }
}

/// What an update sets.
///
/// # Errors
/// `INVALID_FIELD` on `update_mask`.
pub(in crate::api) fn update(
    given: &pb::Project,
    mask: Option<pbjson_types::FieldMask>,
) -> Result<ProjectUpdate, Error> {
    let mut set = Vec::new();
    if !given.labels.is_empty() {
        set.push("labels");
    }
    let quota = given.quota.unwrap_or_default();
    let size = quota.resources.unwrap_or_default();
    let parts = [
        ("quota.instances", quota.instances),
        ("quota.resources.cpu_millis", size.cpu_millis),
        ("quota.resources.memory_bytes", size.memory_bytes),
        ("quota.resources.disk_bytes", size.disk_bytes),
    ];
    set.extend(parts.iter().filter(|(_, value)| *value != 0).map(|(path, _)| *path));
    let mask = Mask::read(mask, PATHS, &set)?;
    let part = |path: &str, value: u64| mask.has(path).then_some(value);
    Ok(ProjectUpdate {
        labels: mask.has("labels").then(|| given.labels.clone()),
        quota: QuotaUpdate {
            instances: part("quota.instances", quota.instances),
            cpu_millis: part("quota.resources.cpu_millis", size.cpu_millis),
            memory_bytes: part("quota.resources.memory_bytes", size.memory_bytes),
            disk_bytes: part("quota.resources.disk_bytes", size.disk_bytes),
        },
    })
}
