//! Stopping all members: the leader first, so that all it wrote is on the others, then those (instance stop).
//!
//! Epoch, leader and ack sets stay as they are, so a start goes on where the stop left off, by barrier.

use std::time::Duration;

use windlass_core::{id::MemberId, replication::ReplicaState};

use super::{
    decide::Draft,
    happened::Happened,
    phase::{Intent, Outcome, Phase, RestStep},
};

/// How long the others wait for the leader.
const LEADER_FIRST: Duration = Duration::from_secs(60);

pub(super) fn step(draft: &mut Draft<'_>, step: RestStep) {
    match step {
        RestStep::Leader => {
            draft.look_again(Duration::from_millis(500));
            if is_at_rest(draft, draft.now.reign.leader) || draft.observed.step_for >= LEADER_FIRST {
                draft.next.phase = Phase::Resting(RestStep::Followers);
            } else {
                draft.wait(format!("waiting for {} to stop", draft.now.name(draft.now.reign.leader)));
            }
        }
        RestStep::Followers => {
            draft.look_again(Duration::from_millis(500));
            let busy: Vec<_> = draft.now.members.keys().copied().filter(|id| !is_at_rest(draft, *id)).collect();
            if busy.is_empty() {
                draft.next.phase = Phase::Resting(RestStep::Done);
                draft.happened.push(Happened::Rested);
                if let Intent::Rest { id } = draft.now.intent {
                    draft.next.intent = Intent::None;
                    draft.next.outcome = Some(Outcome { id, failure: String::new() });
                }
            } else {
                draft.wait(format!("waiting for {} to stop", draft.now.names(&busy)));
            }
        }
        RestStep::Done => {}
    }
}

/// At rest, or on a host that does not answer and so cannot be told.
fn is_at_rest(draft: &Draft<'_>, id: MemberId) -> bool {
    let detect = Duration::from_millis(draft.now.timings().detect_ms.into());
    match draft.observed.fresh(id, detect) {
        Some(facts) => facts.state == ReplicaState::Resting,
        None => draft.observed.step_for >= detect * 2,
    }
}
