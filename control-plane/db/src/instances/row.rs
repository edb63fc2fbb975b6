//! Instances as they are stored, found and observed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use windlass_core::{
    Error,
    engine::Engine,
    id::{InstanceId, OperationId, ProjectId},
    instance::{Health, InstanceSpec, Lifecycle},
};

/// An instance as stored.
#[derive(Debug, Clone)]
pub struct InstanceRow {
    /// Id.
    pub id: InstanceId,
    /// Its project.
    pub project_id: ProjectId,
    /// Name of its project.
    pub project_name: String,
    /// Name, unique in the project among those that are not deleted.
    pub name: String,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// What is wanted.
    pub spec: InstanceSpec,
    /// Grows with each change of the spec.
    pub generation: i64,
    /// The generation that every member has reached.
    pub observed_generation: i64,
    /// What the control plane does with it.
    pub lifecycle: Lifecycle,
    /// What the hosts report.
    pub health: Health,
    /// Why the health is not HEALTHY.
    pub health_reasons: Vec<String>,
    /// Parameters whose change waits for a restart.
    pub pending_restart: Vec<String>,
    /// Why the lifecycle is ERROR.
    pub error: Option<Error>,
    /// The scheduler's verdicts at the last placement.
    pub placement: Value,
    /// Which shard of the control plane's work it belongs to.
    pub shard: i16,
    /// Grows with each change; the etag.
    pub revision: i64,
    /// The operation under way, or the last one.
    pub last_operation_id: Option<OperationId>,
    /// When it was asked for.
    pub create_time: Timestamp,
    /// When what is wanted or the lifecycle changed last.
    pub update_time: Timestamp,
    /// When it was deleted.
    pub delete_time: Option<Timestamp>,
    /// When a deleted one's data is removed for good.
    pub purge_time: Option<Timestamp>,
}

impl InstanceRow {
    /// Full name in the API.
    pub fn path(&self) -> String {
        format!("projects/{}/instances/{}", self.project_name, self.name)
    }
}

/// An instance to be stored, as PENDING and of generation 1.
#[derive(Debug)]
pub struct NewInstance<'a> {
    /// Id.
    pub id: InstanceId,
    /// Its project.
    pub project_id: ProjectId,
    /// Name.
    pub name: &'a str,
    /// The user's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// What is wanted.
    pub spec: &'a InstanceSpec,
    /// Which shard of the control plane's work it belongs to.
    pub shard: i16,
}

/// Which instances a list gives.
#[derive(Debug, Clone, Default)]
pub struct InstanceFilter {
    /// Only those of this project.
    pub project: Option<ProjectId>,
    /// Only those that carry all these labels.
    pub labels: BTreeMap<String, String>,
    /// Only those in this state.
    pub lifecycle: Option<Lifecycle>,
    /// Only those of this engine.
    pub engine: Option<Engine>,
    /// Also deleted ones within their undelete window.
    pub show_deleted: bool,
}

/// What was observed of an instance as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceObservation {
    /// Health.
    pub health: Health,
    /// Why it is not HEALTHY.
    pub health_reasons: Vec<String>,
    /// The generation that every member has reached.
    pub observed_generation: i64,
    /// Parameters whose change waits for a restart.
    pub pending_restart: Vec<String>,
}
