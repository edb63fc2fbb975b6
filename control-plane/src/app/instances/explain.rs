//! Why an instance is where and how it is, in lines for people, most important first.

use std::time::Duration;

use jiff::Timestamp;
use windlass_core::{
    Error,
    host::HostState,
    instance::{Health, Lifecycle, Power},
    operation::StepState,
    role::Permission,
    size::format_bytes,
};
use windlass_db::{
    instances::InstanceRow,
    members::{MemberRow, members_of_tx},
    operations::{OperationRow, StepRow},
};
use windlass_logic::placement::Verdict;

use super::{
    model::{InstanceName, Named, find},
    read::clusters,
};
use crate::{
    app::{Caller, Context},
    ha::ClusterView,
    sagas::observe,
};

/// Facts of replication that are younger are called fresh.
const QUIET: Duration = Duration::from_secs(2);

/// What is known of an instance's state and why.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// Lines for people.
    pub summary: Vec<String>,
    /// What the scheduler said of each host at the last placement.
    pub verdicts: Vec<Verdict>,
}

/// Explains an instance.
///
/// # Errors
/// `NOT_FOUND`, `PERMISSION_MISSING`.
pub async fn explain(cx: &Context, caller: &Caller, name: &InstanceName) -> Result<Explanation, Error> {
    let mut tx = cx.db.begin().await?;
    let row = find(&mut tx, caller, name, Permission::ProjectRead, Named::Present).await?;
    let members = members_of_tx(&mut tx, &[row.id]).await?;
    let cluster = clusters(cx, &mut tx, &[row.id]).await?.remove(&row.id);
    tx.commit().await?;
    let operation = match row.last_operation_id {
        Some(id) => cx.db.operation_by_id(id).await.ok(),
        None => None,
    };
    let steps = match &operation {
        Some(operation) => cx.db.operation_steps(&[operation.id]).await?,
        None => Vec::new(),
    };
    let mut summary = standing(&row);
    summary.extend(operation.iter().map(|operation| work(operation, &steps)));
    summary.extend(cluster.iter().flat_map(replication));
    let now = Timestamp::now();
    summary.extend(members.iter().map(|member| member_line(&row, member, cluster.as_ref(), now)));
    summary.extend(generations(&row));
    let verdicts: Vec<Verdict> = serde_json::from_value(row.placement.clone()).unwrap_or_default();
    summary.extend(placed(&verdicts));
    Ok(Explanation { summary, verdicts })
}

fn standing(row: &InstanceRow) -> Vec<String> {
    let mut lines = vec![format!("{} is {}, health {}", row.path(), row.lifecycle, row.health)];
    lines.extend(row.error.iter().map(|error| format!("it is in ERROR because {error}")));
    if row.health != Health::Healthy && row.lifecycle != Lifecycle::Deleted {
        lines.extend(row.health_reasons.iter().map(|reason| format!("health: {reason}")));
    }
    if let Some(purge) = row.purge_time {
        lines.push(format!("deleted; its data is removed at {purge:.0}; undelete it before then"));
    }
    if !row.pending_restart.is_empty() {
        lines.push(format!("waits for a restart to take effect: {}", row.pending_restart.join(", ")));
    }
    if row.spec.deletion_protection {
        lines.push("protected from deletion".to_owned());
    }
    lines
}

fn work(operation: &OperationRow, steps: &[StepRow]) -> String {
    let what = format!("operation {} ({})", operation.kind, operation.id);
    if operation.state.done() {
        let error = operation.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        return format!("last {what} {}{error}", operation.state);
    }
    let step = steps.iter().rfind(|step| match step.state {
        StepState::Running | StepState::Waiting | StepState::Undoing | StepState::Failed => true,
        StepState::Done | StepState::Undone => false,
    });
    match step {
        Some(step) if step.detail.is_empty() => format!("{what} is {}: {}", operation.state, step.title),
        Some(step) => format!("{what} is {}: {} — {}", operation.state, step.title, step.detail),
        None => format!("{what} is {}", operation.state),
    }
}

fn member_line(row: &InstanceRow, member: &MemberRow, cluster: Option<&ClusterView>, now: Timestamp) -> String {
    let facts = observe::stored_facts(member);
    let mut line = format!("{} on host {}", member.role, member.host_name);
    if let Some(port) = member.port {
        line.push_str(&format!(" ({}:{port})", member.host_address));
    }
    line.push_str(&format!(": {}", member.process));
    line.extend(cluster.map(|cluster| replica_part(cluster, member)));
    if facts.pid > 0 {
        line.push_str(&format!(", pid {}", facts.pid));
    }
    if facts.disk_used_bytes > 0 {
        let (used, quota) = (format_bytes(facts.disk_used_bytes), format_bytes(row.spec.resources.disk_bytes));
        line.push_str(&format!(", {used} of {quota} disk used"));
    }
    if facts.connections > 0 {
        line.push_str(&format!(", {} connections", facts.connections));
    }
    match member.observed_time {
        Some(seen) => line.push_str(&format!(", reported {} s ago", (now - seen).get_seconds())),
        None => line.push_str(", not reported yet"),
    }
    if member.host_state != HostState::Online {
        line.push_str(&format!("; the host is {}, so this may be old", member.host_state));
    }
    if !facts.problem.is_empty() {
        line.push_str(&format!("; {}", facts.problem));
    }
    line
}

/// Who leads, what commits wait for, who may take over, and what the state machine waits for or why it does not act.
fn replication(view: &ClusterView) -> Vec<String> {
    let cluster = &view.cluster;
    let leader =
        cluster.primary().map_or_else(|| "nobody leads".to_owned(), |id| format!("{} leads", cluster.name(id)));
    let mut lines = vec![format!("replication is {}, epoch {}: {leader}", cluster.phase.word(), cluster.epoch)];
    let acks = cluster.acks();
    lines.push(if acks.is_empty() {
        let why = if cluster.members.len() > 1 { "no synchronous replica is in step" } else { "it has no replica" };
        format!("commits wait for nobody: {why}")
    } else {
        format!("commits wait for {} of {}", cluster.acks_needed(), cluster.names(&acks))
    });
    if cluster.members.len() > 1 {
        let candidates = cluster.candidates();
        lines.push(if candidates.is_empty() {
            "nobody could be promoted without risk of loss now".to_owned()
        } else {
            format!("may be promoted without loss: {}", cluster.names(&candidates))
        });
    }
    lines.extend(view.waits.iter().map(|wait| format!("waits: {wait}")));
    if view.members.is_empty() {
        lines.push("another node of the control plane hears the members; ask that one for their lag".to_owned());
    }
    lines
}

fn replica_part(view: &ClusterView, member: &MemberRow) -> String {
    let Some(heard) = view.members.get(&member.id) else {
        return ", its agent has not reported on replication".to_owned();
    };
    let mut part = format!(", {}", view.doing(member.id));
    if member.asynchronous {
        part.push_str(", asynchronous");
    }
    if heard.age > QUIET {
        part.push_str(&format!(", heard {:.1} s ago", heard.age.as_secs_f64()));
    }
    if !heard.facts.lost_writes.is_empty() {
        part.push_str(&format!(", left behind when it rejoined: {}", heard.facts.lost_writes));
    }
    part
}

fn generations(row: &InstanceRow) -> Option<String> {
    let rests = matches!(row.lifecycle, Lifecycle::Deleted) || row.spec.power == Power::Off;
    (row.observed_generation < row.generation && !rests).then(|| {
        format!(
            "its members have reached generation {} of {}; they are brought to it as soon as their host answers",
            row.observed_generation, row.generation
        )
    })
}

fn placed(verdicts: &[Verdict]) -> Option<String> {
    let chosen: Vec<_> = verdicts.iter().filter(|verdict| verdict.chosen).collect();
    if chosen.len() > 1 {
        let names: Vec<_> = chosen.iter().map(|verdict| verdict.name.as_str()).collect();
        return Some(format!("placed on {}, each on a host of its own", names.join(", ")));
    }
    let chosen = chosen.first()?;
    let (fit, not): (Vec<_>, Vec<_>) = verdicts.iter().partition(|verdict| verdict.rejections.is_empty());
    Some(format!(
        "placed on {} with score {:.2}, the best of {} hosts that fitted; {} did not fit",
        chosen.name,
        chosen.score,
        fit.len(),
        not.len()
    ))
}
