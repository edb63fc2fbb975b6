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

/// Its server does not run any more and its agent knows that it shall not; or its host does not answer, so that it
/// cannot be told.
fn is_at_rest(draft: &Draft<'_>, id: MemberId) -> bool {
    let detect = Duration::from_millis(draft.now.timings().detect_ms.into());
    let Some(facts) = draft.observed.fresh(id, detect) else { return draft.observed.step_for >= detect * 2 };
    let told = draft.now.members.get(&id).is_some_and(|member| facts.applied_rev >= member.order_rev);
    match facts.state {
        ReplicaState::Resting => true,
        // Stopped already, or nothing that could run.
        ReplicaState::CleanStop
        | ReplicaState::Demoted
        | ReplicaState::Crashed
        | ReplicaState::New
        | ReplicaState::Quarantine => told && draft.observed.step_for >= detect,
        ReplicaState::Cloning
        | ReplicaState::Catchup
        | ReplicaState::Standby
        | ReplicaState::Sealed
        | ReplicaState::Promoting
        | ReplicaState::Gated
        | ReplicaState::Open
        | ReplicaState::Fenced
        | ReplicaState::Draining
        | ReplicaState::Rejoining => false,
    }
}
