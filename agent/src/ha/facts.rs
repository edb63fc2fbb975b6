//! What is told of a member. Pure.

use std::time::Duration;

use windlass_core::{
    id::MemberId,
    replication::{ReplicaState, epoch_of_name},
};
use windlass_proto::agent::v1::{self as pb};

use super::{
    decide::{View, leading},
    order::{Goal, Order},
    sight::Sight,
    state::{Record, Role},
};
use crate::{
    engines::postgres::replication::{Barrier, Live, Sender},
    link::to_wire,
};

/// What the machine adds to what is seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) why: &'a str,
    /// Where the present timeline left its parent.
    pub(super) fork: u64,
    pub(super) progress: i32,
    /// What a crash restart has to redo, in bytes.
    pub(super) redo: u64,
    /// rev of the order whose set the server has read.
    pub(super) enforced_rev: u64,
    /// rev of the newest checkpoint that was asked for and written.
    pub(super) checkpointed: u64,
}

/// The facts.
pub(super) fn facts(view: &View<'_>, told: Told<'_>) -> pb::ReplicaFacts {
    let (standing, record) = (&view.standing, view.standing.record);
    let state = standing.state();
    let mut facts = pb::ReplicaFacts {
        instance_id: record.instance.to_string(),
        member_id: record.member.to_string(),
        max_epoch: record.max_epoch,
        applied_rev: record.applied_rev,
        state: wire_state(state).into(),
        role_epoch: if state == ReplicaState::Promoting {
            record.promoting.map_or(0, |promoting| promoting.epoch)
        } else {
            record.role.epoch()
        },
        reason: told.why.to_owned(),
        starts: record.starts,
        crashes: view.crashes,
        lost_writes: record.lost_writes.clone(),
        progress_percent: told.progress,
        checkpoint_rev: told.checkpointed,
        lineage: Some(pb::Lineage {
            system: record.system.clone(),
            timeline: record.timeline,
            fork_lsn: told.fork,
            nonce: String::new(),
        }),
        ..pb::ReplicaFacts::default()
    };
    match standing.sight {
        Sight::Live(live) => of_live(&mut facts, view, live, told.enforced_rev),
        Sight::Down(down) => {
            facts.flushed_lsn = record.stopped_at.unwrap_or_default().0;
            facts.redo_bytes = down.redo;
            facts.must_not_restart = down.incurable.is_some();
        }
        Sight::Silent(_) => facts.must_not_restart = matches!(record.role, Role::Leader(_)),
        Sight::Starting(_) => facts.redo_bytes = told.redo,
        Sight::NoData => {}
    }
    facts
}

fn of_live(facts: &mut pb::ReplicaFacts, view: &View<'_>, live: &Live, enforced_rev: u64) {
    let record = view.standing.record;
    let leads = !live.recovering;
    // A leader vouches only for a barrier that was acknowledged.
    let barrier = if leads { acknowledged(view) } else { live.barrier };
    if let Some(row) = barrier {
        (facts.barrier_epoch, facts.barrier_rev) = (row.epoch, row.rev);
        if let Some(lineage) = &mut facts.lineage {
            lineage.nonce = row.nonce.to_string();
        }
    }
    facts.flushed_lsn = live.end().0;
    facts.replayed_lsn = live.replayed.unwrap_or_default().0;
    facts.redo_bytes = live.inserted.map_or(0, |inserted| inserted.0.saturating_sub(live.redo.0));
    facts.must_not_restart = view.standing.stuck;
    facts.upstream = upstream(view.order, live);
    if leads {
        let known = members(record, view.order);
        facts.downstream = live.senders.iter().filter_map(|sender| downstream(&known, sender)).collect();
        let (rev, barrier_rev) = in_force(view).unwrap_or((enforced_rev, 0));
        facts.enforced = Some(pb::Enforced { rev, barrier_rev, ..enforced(&known, record, live) });
    }
}

/// rev of the order and of its barrier, if the server has read all of it. One that asks for what is in force already,
/// because the orders in between were overtaken, takes no step.
fn in_force(view: &View<'_>) -> Option<(u64, u64)> {
    let order = view.order?;
    match &order.goal {
        Goal::Lead(lead) => (view.applied == Some(&leading(lead))).then_some((order.rev, lead.barrier_rev)),
        Goal::Follow(_) | Goal::Seal | Goal::Drain | Goal::Rest => None,
    }
}

fn acknowledged(view: &View<'_>) -> Option<Barrier> {
    let record = view.standing.record;
    let lead = record.lead.as_ref()?;
    let opened = record.opened.filter(|opened| {
        Some(opened.process) == view.standing.process
            && opened.epoch == lead.epoch
            && record.role == Role::Leader(lead.epoch)
    })?;
    Some(Barrier { epoch: opened.epoch, rev: opened.barrier_rev, member: record.member.0, nonce: lead.nonce })
}

fn upstream(order: Option<&Order>, live: &Live) -> Option<pb::Upstream> {
    let receiver = live.receiver.as_ref()?;
    let (host, port) = (receiver.value("host").unwrap_or_default(), receiver.value("port").unwrap_or_default());
    let leader = order.and_then(|order| match &order.goal {
        Goal::Follow(follow) => Some(&follow.leader),
        Goal::Lead(_) | Goal::Seal | Goal::Drain | Goal::Rest => None,
    });
    let leader = leader.filter(|leader| leader.address == host && leader.port.to_string() == port);
    Some(pb::Upstream {
        member_id: leader.map(|leader| leader.member.to_string()).unwrap_or_default(),
        streaming: receiver.status == "streaming",
        application_name: receiver.value("application_name").unwrap_or_default(),
        silent_for: receiver.silent.map(|seconds| to_wire(Duration::from_secs_f64(seconds.max(0.0)))),
    })
}

/// The members whose names may show up.
fn members(record: &Record, order: Option<&Order>) -> Vec<MemberId> {
    let lead = order.and_then(|order| match &order.goal {
        Goal::Lead(lead) => Some(lead),
        Goal::Follow(_) | Goal::Seal | Goal::Drain | Goal::Rest => None,
    });
    let lead = lead.or(record.lead.as_ref());
    let mut members = lead.map(|lead| [lead.others.clone(), lead.acks.clone()].concat()).unwrap_or_default();
    members.sort();
    members.dedup();
    members
}

fn downstream(known: &[MemberId], sender: &Sender) -> Option<pb::Downstream> {
    let member = known.iter().find(|member| sender.name.starts_with(&format!("m{}_", member.short())))?;
    let streaming = sender.state.as_deref() == Some("streaming");
    Some(pb::Downstream {
        member_id: member.to_string(),
        epoch: epoch_of_name(*member, &sender.name).unwrap_or(0),
        streaming,
        acknowledges: streaming && sender.counts(),
        flushed_lsn: sender.flushed.unwrap_or_default().0,
        replayed_lsn: sender.replayed.unwrap_or_default().0,
    })
}

/// What the server really waits for.
fn enforced(known: &[MemberId], record: &Record, live: &Live) -> pb::Enforced {
    let epoch = record.role.epoch();
    let names: Vec<&str> = live.names.split('"').skip(1).step_by(2).collect();
    let acks = known.iter().filter(|member| names.iter().any(|name| epoch_of_name(**member, name) == Some(epoch)));
    let needed = live.names.strip_prefix("ANY ").and_then(|rest| rest.split(' ').next()?.parse().ok());
    let acks = acks.map(ToString::to_string).collect();
    pb::Enforced { acks, acks_needed: needed.unwrap_or(0), ..pb::Enforced::default() }
}

fn wire_state(state: ReplicaState) -> pb::ReplicaState {
    match state {
        ReplicaState::New => pb::ReplicaState::New,
        ReplicaState::Cloning => pb::ReplicaState::Cloning,
        ReplicaState::Catchup => pb::ReplicaState::Catchup,
        ReplicaState::Standby => pb::ReplicaState::Standby,
        ReplicaState::Sealed => pb::ReplicaState::Sealed,
        ReplicaState::Promoting => pb::ReplicaState::Promoting,
        ReplicaState::Gated => pb::ReplicaState::Gated,
        ReplicaState::Open => pb::ReplicaState::Open,
        ReplicaState::Fenced => pb::ReplicaState::Fenced,
        ReplicaState::Draining => pb::ReplicaState::Draining,
        ReplicaState::CleanStop => pb::ReplicaState::CleanStop,
        ReplicaState::Crashed => pb::ReplicaState::Crashed,
        ReplicaState::Demoted => pb::ReplicaState::Demoted,
        ReplicaState::Rejoining => pb::ReplicaState::Rejoining,
        ReplicaState::Quarantine => pb::ReplicaState::Quarantine,
        ReplicaState::Resting => pb::ReplicaState::Resting,
    }
}
