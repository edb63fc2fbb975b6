//! Where a replicated instance stands, for people: what is stored, and, on the node that decides, what is heard.

use std::{collections::BTreeMap, time::Duration};

use windlass_core::{
    Error,
    id::{InstanceId, MemberId},
};
use windlass_db::ha::ClusterRow;
use windlass_logic::ha::{Cluster, Facts};

use super::handle::{Ha, read};

/// A member that was not heard for so long is shown as lost.
const LOST: Duration = Duration::from_secs(5);

/// Where an instance stands.
#[derive(Debug, Clone)]
pub struct ClusterView {
    /// As stored.
    pub cluster: Cluster,
    /// What the state machine waits for, most important first; a few seconds old where another node decides.
    pub waits: Vec<String>,
    /// What was heard of its members.
    pub members: BTreeMap<MemberId, ReplicaView>,
}

/// What was heard of a member.
#[derive(Debug, Clone)]
pub struct ReplicaView {
    /// Its newest facts.
    pub facts: Facts,
    /// How old they are.
    pub age: Duration,
}

impl ClusterView {
    /// Where an instance stands as it is stored, where another node decides. What that one waits for is not in the row.
    ///
    /// # Errors
    /// `INTERNAL` when this version cannot read it.
    pub fn stored(row: &ClusterRow) -> Result<Self, Error> {
        Ok(Self { cluster: read(row)?, waits: Vec::new(), members: BTreeMap::new() })
    }

    /// How many bytes a member's durable end is behind the leader's, as far as both are known.
    pub fn lag(&self, member: MemberId) -> Option<u64> {
        let leader = self.cluster.primary().filter(|leader| *leader != member)?;
        let (leader, own) = (self.members.get(&leader)?, self.members.get(&member)?);
        Some(leader.facts.flushed.saturating_sub(own.facts.flushed))
    }

    /// The word for where a member stands: of `ReplicaState`, or LOST when its agent was not heard for a while. Empty
    /// if it never was.
    pub fn state(&self, member: MemberId) -> &'static str {
        match self.members.get(&member) {
            Some(heard) if heard.age > LOST => "LOST",
            Some(heard) => heard.facts.state.as_str(),
            None => "",
        }
    }

    /// What a member is doing, for the progress of an operation: `cloning 40 %`, `catching up, 12 MiB behind`.
    pub fn doing(&self, member: MemberId) -> String {
        let Some(heard) = self.members.get(&member) else { return "not heard yet".to_owned() };
        let state = self.state(member).to_lowercase();
        match (heard.facts.progress_percent, self.lag(member)) {
            (Some(percent), _) => format!("{state} {percent} %"),
            (None, Some(lag)) if lag > 0 => format!("{state}, {} behind", windlass_core::size::format_bytes(lag)),
            (None, _) if !heard.facts.reason.is_empty() => format!("{state}: {}", heard.facts.reason),
            (None, _) => state,
        }
    }
}

impl Ha {
    /// Where an instance stands, as this node knows it; None when it does not decide, or it is not replicated.
    pub fn heard(&self, instance: InstanceId) -> Option<ClusterView> {
        let now = self.now();
        let table = self.table();
        let entry = table.clusters.get(&instance)?;
        let members = entry
            .facts
            .iter()
            .map(|(id, (facts, at))| (*id, ReplicaView { facts: facts.clone(), age: now.saturating_sub(*at) }));
        Some(ClusterView { cluster: entry.cluster.clone(), waits: entry.waits.clone(), members: members.collect() })
    }
}
