//! From what agents report to what is stored: members' facts and the instance's health.

use serde_json::Value;
use windlass_core::{Error, host::HostState, id::InstanceId, member::Process};
use windlass_db::{
    PgConnection,
    instances::{InstanceObservation, instance_observed_tx, instances_by_ids_tx},
    members::{MemberObservation, MemberRow, members_observed_tx, members_of_tx},
};
use windlass_logic::health::{MemberView, assess};
use windlass_proto::agent::v1 as pb;

/// What a report says of the process.
pub fn process(facts: &pb::MemberFacts) -> Process {
    match facts.process() {
        pb::member_facts::Process::Unspecified => Process::Unknown,
        pb::member_facts::Process::Absent => Process::Absent,
        pb::member_facts::Process::Stopped => Process::Stopped,
        pb::member_facts::Process::Starting => Process::Starting,
        pb::member_facts::Process::Running => Process::Running,
        pb::member_facts::Process::Failed => Process::Failed,
    }
}

/// The stored facts of a member; what cannot be read counts as never reported.
pub fn stored_facts(member: &MemberRow) -> pb::MemberFacts {
    serde_json::from_value(member.facts.clone()).unwrap_or_default()
}

/// Stores one report about a member and what follows for its instance. An empty report (of a host of another version)
/// changes nothing.
pub(super) async fn facts_tx(tx: &mut PgConnection, member: &MemberRow, facts: &pb::MemberFacts) -> Result<(), Error> {
    if facts.member_id.is_empty() {
        return Ok(());
    }
    let seen = MemberObservation {
        member_id: member.id,
        process: process(facts),
        generation: i64::try_from(facts.generation).unwrap_or(i64::MAX),
        facts: serde_json::to_value(facts).unwrap_or(Value::Null),
    };
    members_observed_tx(tx, member.host_id, &[seen]).await?;
    refresh_tx(tx, &[member.instance_id]).await
}

/// Works out the health of these instances from what is stored of their members, and stores it where it differs.
///
/// # Errors
/// Those of the database.
pub async fn refresh_tx(tx: &mut PgConnection, instances: &[InstanceId]) -> Result<(), Error> {
    let members = members_of_tx(tx, instances).await?;
    for instance in instances_by_ids_tx(tx, instances).await? {
        let own: Vec<_> = members.iter().filter(|member| member.instance_id == instance.id).collect();
        let facts: Vec<_> = own.iter().map(|member| stored_facts(member)).collect();
        let views: Vec<_> = own
            .iter()
            .zip(&facts)
            .map(|(member, facts)| MemberView {
                host: &member.host_name,
                role: member.role,
                online: member.host_state == HostState::Online,
                process: member.process,
                problem: &facts.problem,
            })
            .collect();
        let (health, health_reasons) = assess(instance.spec.power, &views);
        let mut pending_restart: Vec<_> = facts.iter().flat_map(|facts| facts.pending_restart.clone()).collect();
        pending_restart.sort();
        pending_restart.dedup();
        let observed_generation = own.iter().map(|member| member.observed_generation).min().unwrap_or(0);
        let seen = InstanceObservation { health, health_reasons, observed_generation, pending_restart };
        instance_observed_tx(tx, instance.id, &seen).await?;
    }
    Ok(())
}
