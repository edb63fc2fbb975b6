//! What a host is answered: its orders, its pace, whom to probe.

use std::{collections::HashMap, time::Duration};

use windlass_core::id::{HostId, InstanceId, MemberId};
use windlass_logic::ha::{Cluster, orders};
use windlass_proto::agent::v1 as pb;

use super::{
    orders::{duration, write},
    table::{Pace, Table},
};

/// How long an answer lets a leader go on without another.
const LEASE: Duration = Duration::from_secs(3);
/// From report to report.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// From probe to probe.
const PROBE_EVERY: Duration = Duration::from_millis(300);

/// The answer of the node that decides.
pub(super) fn answer(table: &Table, host: HostId, epoch: i64) -> (pb::ReplicationOrders, Pace) {
    let pace = table.pace(host);
    let clusters = table.on_host(host).map(|(id, entry)| (id, &entry.cluster));
    let orders = clusters.flat_map(|(id, cluster)| of_host(id, cluster, host)).collect();
    (compose(orders, &pace, epoch), pace)
}

/// The answer of a node that does not decide: orders as they are stored; pace and peers stay as they were.
pub(super) fn stored(
    clusters: &[(InstanceId, Cluster)],
    host: HostId,
    pace: &Pace,
    epoch: i64,
) -> pb::ReplicationOrders {
    let orders = clusters.iter().flat_map(|(id, cluster)| of_host(*id, cluster, host)).collect();
    compose(orders, pace, epoch)
}

fn of_host(id: InstanceId, cluster: &Cluster, host: HostId) -> Vec<pb::ReplicationOrder> {
    let here = |member: &MemberId| cluster.members.get(member).is_some_and(|known| known.host == host);
    orders(cluster).iter().filter(|(member, _)| here(member)).map(|(member, order)| write(id, *member, order)).collect()
}

fn compose(orders: Vec<pb::ReplicationOrder>, pace: &Pace, epoch: i64) -> pb::ReplicationOrders {
    let every = |on: bool, every: Duration| Some(duration(if on { every } else { Duration::ZERO }));
    pb::ReplicationOrders {
        lease: Some(duration(LEASE)),
        report_every: every(pace.reports || !orders.is_empty(), REPORT_EVERY),
        probe_every: every(!pace.peers.is_empty(), PROBE_EVERY),
        orders,
        peers: pace.peers.clone(),
        owner_epoch: epoch.unsigned_abs(),
    }
}

/// The orders that an agent has taken.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<String, (u64, u64)>);

impl Known {
    pub(super) fn read(known: Vec<pb::KnownOrder>) -> Self {
        Self(known.into_iter().map(|order| (order.member_id, (order.epoch, order.rev))).collect())
    }

    /// Whether an answer has an order that the agent has not taken.
    pub(super) fn lacks(&self, answer: &pb::ReplicationOrders) -> bool {
        answer
            .orders
            .iter()
            .any(|order| self.0.get(&order.member_id).is_none_or(|known| (order.epoch, order.rev) > *known))
    }
}
