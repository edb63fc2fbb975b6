//! Replacing a healthy leader in order, while proxies hold the clients (rows 16, 17).
//!
//! Checkpoint, pause, drain, compare end positions, promote. Until the new epoch is stored everything can be taken back by ordering
//! the old leader to lead again; after that only forward. No seals are needed: the old leader has stopped for good and
//! said where its log ends, and the candidate has all of it. The pause never outlives its budget.

use std::{collections::BTreeSet, time::Duration};

use uuid::Uuid;
use windlass_core::{
    id::{MemberId, OperationId},
    replication::ReplicaState,
};

use super::{
    cluster::HandedOver,
    decide::Draft,
    election,
    facts::Facts,
    happened::{Happened, Timeline},
    observed::Observed,
    phase::{Outcome, Patience, Phase, Promotion, Switch, SwitchStep},
    steady,
    verdict::{Verdict, verdict},
};

/// A candidate further behind in replay would keep clients waiting.
pub(super) const READY_LAG_BYTES: u64 = 4 << 20;
/// How long proxies get to end running transactions.
pub(super) const PAUSE_GRACE: Duration = Duration::from_millis(300);
/// How long a checkpoint before the pause is waited for, and the candidate until it has caught up with it.
const CHECKPOINT: Duration = Duration::from_secs(10);
/// A proxy that was not heard of for so long is not waited for.
const PROXY_SILENT: Duration = Duration::from_secs(1);

/// Looks first; pauses the clients when the candidate is ready.
pub(super) fn begin(draft: &mut Draft<'_>, leader: &Facts, id: OperationId, to: Option<MemberId>, patience: Patience) {
    draft.look_again(Duration::from_millis(100));
    match ready(draft, leader, to) {
        Ok(to) => {
            let (checkpoint_rev, step) = (draft.rev(), SwitchStep::Preparing);
            draft.next.phase = Phase::Switchover(Switch { id, to, patience, checkpoint_rev, pause_rev: 0, step });
        }
        Err(why) if draft.observed.intent_for >= budget(draft) => {
            steady::give_up_switchover(draft, &why);
        }
        Err(why) => draft.wait(format!("the switchover has not begun: {why}")),
    }
}

fn budget(draft: &Draft<'_>) -> Duration {
    Duration::from_millis(draft.now.timings().switchover_ms.into())
}

/// Who may take over now.
fn ready(draft: &Draft<'_>, leader: &Facts, to: Option<MemberId>) -> Result<MemberId, String> {
    let cluster = &draft.next;
    if leader.state != ReplicaState::Open {
        return Err(format!("the primary is {}", leader.state));
    }
    if cluster.reign.sets.len() > 1 {
        return Err("a change of the acknowledging members is under way".to_owned());
    }
    if cluster.reign.ordered().is_alone() {
        return Err("no replica acknowledges commits".to_owned());
    }
    let candidates = cluster.candidates();
    let unfit = |id: &MemberId| unfit(draft, leader, *id);
    if let Some(to) = to {
        return if to == cluster.reign.leader {
            Err(format!("{} leads already", cluster.name(to)))
        } else if !candidates.contains(&to) {
            Err(format!("{} does not acknowledge commits", cluster.name(to)))
        } else {
            unfit(&to).map_or(Ok(to), Err)
        };
    }
    let rank = |id: &MemberId| {
        let flushed = leader.downstream_of(*id).map_or(0, |down| down.replayed);
        (cluster.members.get(id).map_or(0, |member| member.priority), flushed, *id)
    };
    let best = candidates.iter().filter(|id| unfit(id).is_none()).max_by_key(|id| rank(id));
    best.copied().ok_or_else(|| {
        candidates.iter().find_map(unfit).unwrap_or_else(|| "no replica acknowledges commits".to_owned())
    })
}

fn unfit(draft: &Draft<'_>, leader: &Facts, id: MemberId) -> Option<String> {
    let name = draft.now.name(id);
    let detect = Duration::from_millis(draft.now.timings().detect_ms.into());
    let Some(facts) = draft.observed.fresh(id, detect) else {
        return Some(format!("the agent of {name} does not answer"));
    };
    if facts.state != ReplicaState::Standby {
        return Some(format!("{name} is {}", facts.state));
    }
    if !leader.downstream_of(id).is_some_and(|down| down.streaming) {
        return Some(format!("{name} does not stream"));
    }
    let behind = leader.flushed.saturating_sub(facts.replayed);
    (behind > READY_LAG_BYTES).then(|| format!("{name} is {} MiB behind", behind >> 20))
}

pub(super) fn step(draft: &mut Draft<'_>, switch: &Switch, nonce: Uuid) {
    draft.look_again(Duration::from_millis(20));
    if let Verdict::Down(evidence) = verdict(draft.now, draft.observed) {
        return take_back(draft, switch, evidence.cause());
    }
    let detect = Duration::from_millis(draft.now.timings().detect_ms.into());
    if draft.observed.fresh(switch.to, detect).is_none() {
        return take_back(draft, switch, "the replica that was to take over no longer answers");
    }
    match switch.step {
        SwitchStep::Preparing => preparing(draft, switch),
        SwitchStep::Pausing => pausing(draft, switch),
        SwitchStep::Draining => draining(draft, switch, nonce),
    }
}

/// Clients are not held yet, so there is time; a checkpoint that takes too long is left to the stop and its budget.
fn preparing(draft: &mut Draft<'_>, switch: &Switch) {
    let leader = draft.now.reign.leader;
    let detect = Duration::from_millis(draft.now.timings().detect_ms.into());
    let written = draft.observed.fresh(leader, detect).filter(|facts| facts.checkpoint_rev >= switch.checkpoint_rev);
    // What the checkpoint wrote to the log has to be there too.
    let waits = match written {
        None => Some(format!("waiting for a checkpoint of {}", draft.now.name(leader))),
        Some(facts) => unfit(draft, facts, switch.to),
    };
    if let Some(why) = waits.filter(|_| draft.observed.step_for < CHECKPOINT) {
        return draft.wait(why);
    }
    let wall = draft.observed.wall;
    let step = SwitchStep::Pausing;
    draft.next.phase = Phase::Switchover(Switch { pause_rev: draft.rev(), step, ..switch.clone() });
    draft.next.timeline = Some(Timeline { lost: wall, detected: wall, sealed: None, promoted: None });
    draft.happened.push(Happened::SwitchoverStarted { to: switch.to });
}

fn pausing(draft: &mut Draft<'_>, switch: &Switch) {
    let open = not_paused(draft.observed, switch.pause_rev);
    let paused = draft.observed.pause_for;
    // A share of the budget, so that enough is left for the rest.
    let patience = match switch.patience {
        Patience::EndTransactions => PAUSE_GRACE,
        Patience::GiveUp => (budget(draft) / 3).max(PAUSE_GRACE),
    };
    if open == 0 || (paused >= patience && switch.patience == Patience::EndTransactions) {
        draft.next.phase = Phase::Switchover(Switch { step: SwitchStep::Draining, ..switch.clone() });
    } else if paused >= patience {
        let why = format!("transactions did not end within {patience:.1?} at {open} proxies");
        take_back(draft, switch, &why);
    } else {
        draft.look_again(patience.saturating_sub(paused).min(Duration::from_millis(20)));
        draft.wait(format!("waiting for {open} proxies to end their transactions"));
    }
}

/// Proxies that answer and still have transactions.
fn not_paused(observed: &Observed, rev: u64) -> usize {
    let open = |proxy: &&super::observed::ProxySeen| {
        proxy.age < PROXY_SILENT && proxy.paused_rev.is_none_or(|paused| paused < rev)
    };
    observed.proxies.iter().filter(open).count()
}

fn draining(draft: &mut Draft<'_>, switch: &Switch, nonce: Uuid) {
    let leader = draft.now.reign.leader;
    let detect = Duration::from_millis(draft.now.timings().detect_ms.into());
    let told = draft.now.members.get(&leader).map_or(u64::MAX, |member| member.order_rev);
    let end = draft
        .observed
        .fresh(leader, detect)
        .filter(|facts| facts.state == ReplicaState::CleanStop && facts.applied_rev >= told)
        .map(|facts| facts.flushed);
    let has = draft.observed.fresh(switch.to, detect).map_or(0, |facts| facts.flushed);
    let name = draft.now.name(switch.to);
    match end {
        Some(end) if end > 0 && has >= end => return take_over(draft, switch, end, nonce),
        Some(end) => draft.wait(format!("the old primary ended at {end:#x}; {name} has {has:#x}")),
        None => draft.wait("waiting for the old primary to stop in order"),
    }
    if draft.observed.pause_for >= budget(draft) {
        take_back(draft, switch, "it took longer than its budget");
    }
}

/// Proven: the new leader has everything.
fn take_over(draft: &mut Draft<'_>, switch: &Switch, end: u64, nonce: Uuid) {
    let detect = Duration::from_millis(draft.now.timings().detect_ms.into());
    let old = draft.now.reign.leader;
    let follows = |id: &MemberId| {
        draft.observed.fresh(*id, detect).is_some_and(|facts| {
            matches!(facts.state, ReplicaState::Standby | ReplicaState::Catchup | ReplicaState::CleanStop)
        })
    };
    let acks: BTreeSet<MemberId> = draft
        .now
        .members
        .iter()
        .filter(|(id, member)| **id != switch.to && member.counts() && follows(id))
        .filter(|(id, _)| **id == old || draft.now.reign.ordered().members.contains(id))
        .map(|(id, _)| *id)
        .collect();
    draft.next.epoch += 1;
    draft.next.intent = super::phase::Intent::None;
    draft.next.outcome = Some(Outcome { id: switch.id, failure: String::new() });
    let previous = Some(draft.now.reign.clone());
    election::crown(draft, switch.to, acks, previous, Promotion::Switchover, nonce);
    draft.next.reign.handed_over = Some(HandedOver { from: old, end });
}

/// Row 17: the old leader leads again.
fn take_back(draft: &mut Draft<'_>, switch: &Switch, cause: &str) {
    steady::give_up_switchover(draft, cause);
    draft.next.timeline = None;
    draft.next.phase = match switch.step {
        SwitchStep::Preparing | SwitchStep::Pausing => Phase::Steady,
        SwitchStep::Draining => Phase::Promoting(Promotion::Reopening),
    };
}
