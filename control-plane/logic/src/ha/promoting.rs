//! A leader was told to lead and is awaited: at founding, after an election, a switchover, a stop (rows 1, 9, 10, 17).
//!
//! Its gate opens by itself once its barrier is acknowledged. Here the ack set may only shrink, so that a follower that
//! died meanwhile does not hold it up, and a leader that dies is replaced by the next epoch.

use std::time::Duration;

use windlass_core::replication::ReplicaState;

use super::{
    acks::{self, Joining},
    decide::Draft,
    happened::Happened,
    phase::{Intent, Phase, Promotion, RestStep},
    steady,
    verdict::{Verdict, verdict},
};

/// How long the old primary of two members is awaited as a follower before the new one goes on alone.
const OLD_PRIMARY: Duration = Duration::from_millis(500);

pub(super) fn step(draft: &mut Draft<'_>, why: Promotion) {
    draft.look_again(Duration::from_millis(100));
    steady::watch_silence(draft);
    if let Intent::Rest { .. } = draft.now.intent {
        draft.next.phase = Phase::Resting(RestStep::Leader);
        return;
    }
    if let Intent::Failover { .. } = draft.now.intent {
        return steady::by_operator(draft);
    }
    match verdict(draft.now, draft.observed) {
        Verdict::Alive => {}
        Verdict::Doubt(doubt) => draft.wait(doubt),
        Verdict::Down(evidence) if why == Promotion::Founding => draft.wait(evidence.cause()),
        Verdict::Down(evidence) => return steady::fail_over(draft, &evidence),
    }
    let leader = draft.now.reign.leader;
    let name = draft.now.name(leader);
    let Some(facts) = steady::leading(draft.now, draft.observed).cloned() else {
        return draft.wait(format!("waiting for {name} to lead epoch {}", draft.now.epoch));
    };
    steady::learn(draft, &facts);
    let told = draft.now.members.get(&leader).is_some_and(|member| facts.applied_rev >= member.order_rev);
    if told && facts.state == ReplicaState::Open {
        return opened(draft, why);
    }
    let patience = match why {
        Promotion::Switchover => OLD_PRIMARY,
        Promotion::Founding | Promotion::Failover | Promotion::Reopening | Promotion::Adoption => {
            Duration::from_millis(draft.now.timings().shrink_ms.into())
        }
    };
    acks::follow(draft, &facts, Joining::Later, patience);
    steady::care(draft);
    let because = if facts.reason.is_empty() { String::new() } else { format!(": {}", facts.reason) };
    draft.wait(format!("waiting for {name} to open, which is {}{because}", facts.state));
}

fn opened(draft: &mut Draft<'_>, why: Promotion) {
    let wall = draft.observed.wall;
    let timeline = draft.next.timeline.take();
    let rto_ms = timeline
        .as_ref()
        .map(|timeline| u64::try_from(wall.duration_since(timeline.lost).as_millis()).unwrap_or(0))
        .filter(|_| matches!(why, Promotion::Failover | Promotion::Switchover));
    draft.next.phase = Phase::Steady;
    draft.next.previous = None;
    let (epoch, leader) = (draft.now.epoch, draft.now.reign.leader);
    draft.happened.push(Happened::Opened { epoch, leader, rto_ms, timeline });
}
