//! What a member does that is ordered to follow: it streams if its history is known to be a part of the leader's, and
//! else finds out whether it follows as it is, rewinds, or copies anew. Data that may hold an acknowledged write which the
//! leader lacks is put aside and never deleted here.

use std::time::Duration;

use windlass_core::replication::{ReplicaState, catchup_name};

use super::{Chores, Step, View, again, configuration, settled, soon, step_down, woken};
use crate::{
    engines::postgres::replication::{Configuration, Gate, Recovering, Slots, Upstream},
    ha::{
        order::{Data, Follow, Goal, Order},
        rejoin::Rejoin,
        sight::{Down, STUCK, Sight, Start},
        state::{Record, Role},
    },
};

/// A follower that does not stream for this long asks the leader whether it still can.
const STALLED: Duration = Duration::from_secs(1);

fn follow_of(order: &Order) -> Option<&Follow> {
    match &order.goal {
        Goal::Follow(follow) => Some(follow),
        Goal::Lead(_) | Goal::Seal | Goal::Drain | Goal::Rest => None,
    }
}

/// Whether its data is to be copied anew, by order or because a rewind was cut short.
fn must_copy(view: &View<'_>, order: &Order, follow: &Follow) -> Option<Step> {
    if follow.data == Data::CopyAnew && view.standing.record.copied_anew < order.rev {
        return Some(Step::SetAside { why: "ordered to copy anew".to_owned(), ordered: Some(order.rev) });
    }
    view.marker.then(|| Step::SetAside { why: "a rewind was not finished".to_owned(), ordered: None })
}

pub(super) fn trail(view: &View<'_>, order: &Order) -> Step {
    let record = view.standing.record;
    let Some(follow) = follow_of(order) else { return settled("it is not ordered to follow") };
    if let Some(step) = must_copy(view, order, follow) {
        return step;
    }
    let live = match view.standing.sight {
        Sight::Live(live) => live,
        Sight::NoData | Sight::Down(_) | Sight::Starting(_) | Sight::Silent(_) => return rejoin(view, order),
    };
    if !known(record, order) || !live.recovering {
        return rejoin(view, order);
    }
    let proven = live.barrier.is_some_and(|row| row.epoch == order.epoch && row.nonce == follow.nonce);
    let known = match record.role {
        _ if proven => Role::Proven(order.epoch),
        Role::HandedOver(_) => record.role,
        Role::Unborn | Role::Leader(_) | Role::Follower(_) | Role::Proven(_) | Role::Sealed(_) | Role::Demoted(_) => {
            Role::Follower(order.epoch)
        }
    };
    if record.role != known {
        return Step::Become(known);
    }
    if let Some(Rejoin::Ahead(why)) = view.comparison {
        return match view.applied {
            Some(applied) if *applied == alone(follow) => settled(why),
            Some(_) | None => Step::Configure { configuration: alone(follow), gate: view.standing.gate },
        };
    }
    let wanted = configuration(record, view.order);
    let gate = if proven { Gate::Open } else { view.standing.gate };
    if view.applied != Some(&wanted) || view.standing.gate != gate {
        return Step::Configure { configuration: wanted, gate };
    }
    if view.stalled >= STALLED {
        return match view.comparison {
            Some(Rejoin::Copy(why)) => Step::SetAside { why: why.clone(), ordered: None },
            Some(Rejoin::Wait(why) | Rejoin::Ahead(why)) => settled(why),
            Some(Rejoin::Point | Rejoin::Rewind { .. } | Rejoin::Foreign(_)) => {
                settled("it does not get a connection to the leader")
            }
            None => Step::Compare,
        };
    }
    let slots = Slots::to_follow(&live.slots, &follow.others);
    let handed_over = matches!(record.role, Role::HandedOver(_));
    let streams = live.receiver.as_ref().is_some_and(|receiver| receiver.status == "streaming");
    match (streams, proven) {
        // Nobody waits for what it is by its own knowledge: its receipts count already.
        (false, _) if handed_over => woken("it connects to the leader"),
        (true, false) if handed_over => woken("it has not replayed the barrier of the epoch yet"),
        (false, _) => soon("it connects to the leader"),
        (true, false) => soon("it has not replayed the barrier of the epoch yet"),
        // What it kept as a leader, for followers of its own, can wait until it follows.
        (true, true) if view.chores == Chores::Due && !slots.is_empty() => Step::Slots(slots),
        (true, true) => settled(""),
    }
}

pub(super) fn rejoin(view: &View<'_>, order: &Order) -> Step {
    let record = view.standing.record;
    match record.role {
        Role::Leader(epoch) if epoch < order.epoch => return step_down(view),
        Role::Leader(_) => return settled("it leads this very epoch; only a higher one makes it follow"),
        Role::Unborn
        | Role::Follower(_)
        | Role::HandedOver(_)
        | Role::Proven(_)
        | Role::Sealed(_)
        | Role::Demoted(_) => {}
    }
    let Some(follow) = follow_of(order) else { return settled("it is not ordered to follow") };
    if let Some(step) = must_copy(view, order, follow) {
        return step;
    }
    let upstream =
        || Upstream::new(&follow.leader.address, follow.leader.port, catchup_name(record.member), record.member);
    match view.standing.sight {
        Sight::NoData => Step::Copy(upstream()),
        Sight::Down(_) if matches!(view.comparison, Some(Rejoin::Rewind { .. })) => match view.comparison {
            Some(Rejoin::Rewind { fork }) => Step::Rewind { upstream: upstream(), fork: *fork },
            Some(Rejoin::Point | Rejoin::Copy(_) | Rejoin::Wait(_) | Rejoin::Ahead(_) | Rejoin::Foreign(_)) | None => {
                Step::Compare
            }
        },
        Sight::Down(Down { hopeless: Some(why), .. }) => {
            Step::SetAside { why: format!("it cannot start: {why}"), ordered: None }
        }
        Sight::Down(_)
            if record.stopped_at.is_some() && record.stopped_at == follow.common && !known(record, order) =>
        {
            Step::Become(Role::HandedOver(order.epoch))
        }
        Sight::Down(down) => again(view, down).unwrap_or_else(|| {
            let configuration = if known(record, order) { configuration(record, view.order) } else { alone(follow) };
            Step::Launch(Recovering::Yes, configuration)
        }),
        Sight::Starting(Start::Astray(why)) => {
            Step::SetAside { why: format!("it cannot become consistent: {why}"), ordered: None }
        }
        // It may need more log before it answers, and from somebody who is gone.
        Sight::Starting(_) if follows_another(view, follow) => Step::Kill,
        Sight::Starting(_) => soon("its server starts"),
        Sight::Silent(since) if *since > STUCK => Step::Kill,
        Sight::Silent(_) => soon("its server does not answer"),
        // Nobody's order made it a primary. What it wrote then may be on the leader's own timeline, where no comparison
        // tells it apart.
        Sight::Live(live) if !live.recovering && known(record, order) => {
            Step::SetAside { why: "its server ran as a primary, which nobody ordered".to_owned(), ordered: None }
        }
        Sight::Live(live) if !live.recovering => Step::Kill,
        Sight::Live(live) => match view.comparison {
            _ if !live.is_sealed() || !live.is_exhausted() => match view.applied {
                Some(applied) if *applied == alone(follow) => {
                    soon("its former connection ends, and it replays what it has")
                }
                Some(_) | None => Step::Configure { configuration: alone(follow), gate: view.standing.gate },
            },
            None => Step::Compare,
            Some(Rejoin::Wait(why)) => soon(why),
            Some(Rejoin::Ahead(why)) => settled(why),
            Some(Rejoin::Point) => Step::Become(Role::Follower(order.epoch)),
            Some(Rejoin::Rewind { .. }) => Step::Halt,
            Some(Rejoin::Copy(why)) => Step::SetAside { why: why.clone(), ordered: None },
            Some(Rejoin::Foreign(why)) => Step::Distrust(why.clone()),
        },
    }
}

/// Whether the running server was started to follow somebody else than it is ordered to.
fn follows_another(view: &View<'_>, follow: &Follow) -> bool {
    let upstream = view.applied.and_then(|applied| applied.upstream.as_ref());
    upstream.is_some_and(|upstream| {
        (upstream.address.as_str(), upstream.port) != (&follow.leader.address, follow.leader.port)
    })
}

/// Whether it is known to be a part of the ordered leader's history.
fn known(record: &Record, order: &Order) -> bool {
    matches!(
        record.role,
        Role::Follower(epoch) | Role::HandedOver(epoch) | Role::Proven(epoch) if epoch == order.epoch
    )
}

/// A standby of nobody.
fn alone(follow: &Follow) -> Configuration {
    Configuration::standby(follow.others.clone())
}

pub(super) fn copy(view: &View<'_>, order: &Order, state: ReplicaState) -> Step {
    let record = view.standing.record;
    let Some(follow) = follow_of(order) else { return settled("it is not ordered to follow") };
    match state {
        ReplicaState::Quarantine if follow.data == Data::CopyAnew && record.copied_anew < order.rev => {
            Step::SetAside { why: record.distrust.clone(), ordered: Some(order.rev) }
        }
        ReplicaState::Quarantine => settled(&record.distrust),
        _ if *view.standing.sight != Sight::NoData => {
            if let Some(step) = must_copy(view, order, follow) {
                return step;
            }
            Step::Distrust("it has data of its own and no role; to follow it has to be copied anew".to_owned())
        }
        ReplicaState::New
        | ReplicaState::Cloning
        | ReplicaState::Catchup
        | ReplicaState::Standby
        | ReplicaState::Sealed
        | ReplicaState::Promoting
        | ReplicaState::Gated
        | ReplicaState::Open
        | ReplicaState::Fenced
        | ReplicaState::Draining
        | ReplicaState::CleanStop
        | ReplicaState::Crashed
        | ReplicaState::Demoted
        | ReplicaState::Rejoining
        | ReplicaState::Resting => rejoin(view, order),
    }
}
