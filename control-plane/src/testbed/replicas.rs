//! Stand-ins for replicated databases: each member does at once what it is ordered, and its agent reports that.
//!
//! Faithful in what the state machine relies on: barriers reach followers, a leader reads back what it was told to
//! enforce, positions of a stopped leader are those that its followers have.

use std::collections::{BTreeMap, HashMap};

use windlass_core::id::HostId;
use windlass_db::{Db, Guard};
use windlass_proto::agent::v1::{self as pb, replication_order::Goal};

use super::Agents;
use crate::ha::Ha;

/// More rounds than any change takes.
const MOST: usize = 40;
/// Where every log ends.
const END: u64 = 0x0100_0000;

/// The replicated members of all hosts.
#[derive(Debug, Default)]
pub(crate) struct Replicas {
    sequence: u64,
    /// The order that each member took last.
    taken: BTreeMap<String, pb::ReplicationOrder>,
    /// The newest barrier of each instance, which all its members have: epoch, rev and nonce.
    barriers: BTreeMap<String, (u64, u64, String)>,
}

impl Replicas {
    /// Lets agents report and obey, and the driver decide, until nothing changes any more.
    pub(crate) async fn settle(&mut self, ha: &Ha, db: &Db, guard: &Guard, agents: &Agents) {
        let hosts = db.hosts_alive().await.expect("hosts");
        let hosts: Vec<_> = hosts.iter().map(|host| host.id).filter(|id| !agents.silent.contains(id)).collect();
        let mut before = String::new();
        for _ in 0..MOST {
            ha.turn(guard).await.expect("decides");
            self.round(ha, &hosts, agents);
            ha.turn(guard).await.expect("decides");
            let now = format!("{:?} {:?}", self.taken, db.clusters().await.expect("clusters"));
            if now == before {
                return;
            }
            before = now;
        }
    }

    /// Every agent reports what is true, and takes the orders of the answer.
    fn round(&mut self, ha: &Ha, hosts: &[HostId], agents: &Agents) {
        let mut orders = HashMap::new();
        for host in hosts {
            let answer = self.report(ha, *host, Vec::new());
            orders.insert(*host, answer.orders);
        }
        for order in orders.values().flatten() {
            if let Some(Goal::Lead(lead)) = &order.goal {
                let barrier = (order.epoch, lead.barrier_rev, lead.nonce.clone());
                let known = self.barriers.entry(order.instance_id.clone()).or_default();
                *known = barrier.max(known.clone());
            }
            self.taken.insert(order.member_id.clone(), order.clone());
        }
        self.taken.retain(|member, _| agents.members.get(member).is_some_and(|kept| kept.goal.is_some()));
        for host in hosts {
            let mine = orders.get(host).into_iter().flatten();
            let members =
                mine.filter(|order| self.taken.contains_key(&order.member_id)).map(|o| self.facts(o)).collect();
            self.report(ha, *host, members);
        }
    }

    fn report(&mut self, ha: &Ha, host: HostId, members: Vec<pb::ReplicaFacts>) -> pb::ReplicationOrders {
        self.sequence += 1;
        let (session_id, sequence) = ("session".to_owned(), self.sequence);
        ha.report(host, pb::ReplicationReport { session_id, sequence, members, ..Default::default() }).expect("taken")
    }

    fn facts(&self, order: &pb::ReplicationOrder) -> pb::ReplicaFacts {
        let known = pb::ReplicaFacts {
            instance_id: order.instance_id.clone(),
            member_id: order.member_id.clone(),
            max_epoch: order.epoch,
            applied_rev: order.rev,
            role_epoch: order.epoch,
            flushed_lsn: END,
            replayed_lsn: END,
            progress_percent: -1,
            ..Default::default()
        };
        let (barrier_epoch, barrier_rev, nonce) = self.barriers.get(&order.instance_id).cloned().unwrap_or_default();
        let lineage = Some(pb::Lineage { system: "1".to_owned(), timeline: 1, fork_lsn: 0, nonce });
        let known = pb::ReplicaFacts { barrier_epoch, barrier_rev, lineage, ..known };
        match order.goal.as_ref().expect("a goal") {
            Goal::Lead(lead) => pb::ReplicaFacts {
                enforced: Some(pb::Enforced {
                    rev: order.rev,
                    acks: lead.acks.clone(),
                    acks_needed: lead.acks_needed,
                    barrier_rev: lead.barrier_rev,
                }),
                downstream: self.downstream(order, &lead.acks),
                checkpoint_rev: lead.checkpoint_rev,
                ..state(known, pb::ReplicaState::Open)
            },
            Goal::Follow(follow) => pb::ReplicaFacts {
                upstream: follow.leader.as_ref().map(|leader| pb::Upstream {
                    member_id: leader.member_id.clone(),
                    streaming: true,
                    ..Default::default()
                }),
                ..state(known, pb::ReplicaState::Standby)
            },
            Goal::Seal(_) => state(known, pb::ReplicaState::Sealed),
            Goal::Drain(_) => state(known, pb::ReplicaState::CleanStop),
            Goal::Rest(_) => state(known, pb::ReplicaState::Resting),
        }
    }

    fn downstream(&self, leader: &pb::ReplicationOrder, acks: &[String]) -> Vec<pb::Downstream> {
        let follows = |order: &&pb::ReplicationOrder| {
            order.instance_id == leader.instance_id
                && order.epoch == leader.epoch
                && matches!(order.goal, Some(Goal::Follow(_)))
        };
        let down = |order: &pb::ReplicationOrder| pb::Downstream {
            member_id: order.member_id.clone(),
            epoch: order.epoch,
            streaming: true,
            acknowledges: acks.contains(&order.member_id),
            flushed_lsn: END,
            replayed_lsn: END,
        };
        self.taken.values().filter(follows).map(down).collect()
    }
}

fn state(known: pb::ReplicaFacts, state: pb::ReplicaState) -> pb::ReplicaFacts {
    pb::ReplicaFacts { state: state.into(), ..known }
}
