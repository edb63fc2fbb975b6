//! What a member does next. Pure: from what it remembers, what is seen and what is ordered follows one step, and after
//! the step everything is looked at again. So a step that was cut short, done twice or overtaken by an order needs no
//! repair of its own.

mod follow;
mod lead;

use std::time::Duration;

use windlass_core::{
    id::MemberId,
    replication::{ReplicaGoal, catchup_name, epoch_name},
};

use super::{
    fence::Isolation,
    order::{Goal, Lead, Order, Receipts},
    rejoin::Rejoin,
    restart::{self, Ended, Successors},
    sight::{Down, Sight, Standing},
    state::{Opened, Promoting, Record, Role},
    table::{self, Deed},
};
use crate::engines::postgres::replication::{Barrier, Configuration, Gate, Lsn, Recovering, Segments, Slots, Upstream};

/// Everything that a decision rests on.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) standing: Standing<'a>,
    pub(super) order: Option<&'a Order>,
    /// The highest epoch heard of, perhaps not on disk yet.
    pub(super) challenged: u64,
    /// Whether the order came, or came again, since the agent started.
    pub(super) confirmed: Confirmed,
    /// What the running server has read, and with which gate; None after a start of the server or the agent.
    pub(super) applied: Option<&'a Configuration>,
    /// The newest barrier that was acknowledged, by this server process.
    pub(super) acknowledged: Option<Barrier>,
    /// The outcome of comparing with the leader of the present order.
    pub(super) comparison: Option<&'a Rejoin>,
    pub(super) isolation: Isolation,
    /// Ends of the server within the last minute.
    pub(super) crashes: u32,
    /// A rewind was not finished.
    pub(super) marker: bool,
    /// How long a follower has not streamed.
    pub(super) stalled: Duration,
    /// Whether this boot is the one in which the gate was opened last.
    pub(super) same_boot: bool,
    /// What this server process has of what a leader's needs.
    pub(super) prepared: Prepared,
    /// Whether it is time again for what may fail for a while, such as dropping a slot in use.
    pub(super) chores: Chores,
}

/// What a leader's server process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prepared {
    /// Nothing, as far as is known.
    Nothing,
    /// What replication and proxies need in the database, for so long.
    Database(Duration),
    /// A checkpoint was asked for too.
    Checkpoint,
}

/// Whether it is time for what need not be tried again at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chores {
    Due,
    Done,
}

/// Whether an order is known to hold still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirmed {
    Yes,
    /// It was read from disk.
    No,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Nothing now.
    Wait { why: String, pace: Pace },
    /// The role that it has from now on.
    Become(Role),
    /// Files and a reload.
    Configure { configuration: Configuration, gate: Gate },
    /// Starts the server, its gate shut.
    Launch(Recovering, Configuration),
    /// Ends the server without a word.
    Kill,
    /// Stops the server in order; a leader shuts its gate first.
    Stop,
    /// Looks whether the server was stopped in order, and where its log ends.
    Examine,
    /// Stops a standby for a rewind.
    Halt,
    /// Makes the standby a primary.
    Promote(Promoting, Configuration),
    /// Makes what the database needs.
    Prepare,
    /// Asks for a checkpoint.
    Checkpoint,
    /// Slots of followers.
    Slots(Slots),
    /// Commits the barrier and waits for it beside everything else.
    Barrier(Barrier),
    /// Proof that this process may let sessions in.
    Admit(Opened),
    /// Shuts itself.
    Fence,
    /// Compares with the leader.
    Compare,
    /// Copies the leader's data.
    Copy(Upstream),
    /// Rewinds.
    Rewind { upstream: Upstream, fork: Lsn },
    /// Puts the data aside, and why; the rev by whose order, if it was ordered.
    SetAside { why: String, ordered: Option<u64> },
    /// Does not trust the data any more.
    Distrust(String),
}

/// How soon to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Something is about to change.
    Soon,
    /// Something is about to change, and wakes who waits for it, or nobody waits.
    Woken,
    /// All is as it shall be.
    Settled,
}

/// Decides.
pub(super) fn decide(view: &View<'_>) -> Step {
    let state = view.standing.state();
    let Some(order) = view.order else {
        return settled("no order yet");
    };
    let record = view.standing.record;
    // Row 14, whatever the newest order of its own says: somebody showed a higher epoch.
    let highest = record.max_epoch.max(view.challenged);
    if matches!(record.role, Role::Leader(epoch) if epoch < highest && order.epoch < highest) {
        return step_down(view);
    }
    if order.goal.word() == ReplicaGoal::Lead && order.epoch < highest {
        return overtaken(view);
    }
    match table::deed(state, order.goal.word()) {
        Deed::Found => lead::found(view, order),
        Deed::Hold => lead::hold(view, order),
        Deed::Promote => lead::promote(view, order),
        Deed::Resume => lead::resume(view, order),
        Deed::Trail => follow::trail(view, order),
        Deed::Rejoin => follow::rejoin(view, order),
        Deed::Copy => follow::copy(view, order, state),
        Deed::StepDown if record.role == Role::Leader(order.epoch) => {
            settled("it leads this very epoch; only a higher one makes it follow")
        }
        Deed::StepDown => step_down(view),
        Deed::Hush => hush(view, order),
        Deed::Promise => settled("it has nothing that could be sealed; it promised not to follow a lower epoch"),
        Deed::Stop => stop(view),
        Deed::Stay => stay(view, order),
        Deed::Refuse if !record.distrust.is_empty() => settled(&record.distrust),
        Deed::Refuse => settled("it cannot: its data is being copied"),
    }
}

/// What a server in this role does with others.
pub(super) fn configuration(record: &Record, order: Option<&Order>) -> Configuration {
    let promotes = |epoch: u64| record.promoting.is_some_and(|promoting| promoting.epoch == epoch);
    let plain = |members: &[MemberId]| Configuration::standby(members.to_vec());
    match (record.role, order.map(|order| (order.epoch, &order.goal))) {
        (Role::Leader(epoch), Some((ordered, Goal::Lead(lead)))) if epoch == ordered => leading(lead),
        (
            Role::Sealed(_) | Role::Demoted(_) | Role::Follower(_) | Role::HandedOver(_) | Role::Proven(_),
            Some((ordered, Goal::Lead(lead))),
        ) if promotes(ordered) => leading(lead),
        // What it enforces outlives the order to lead.
        (Role::Leader(epoch), _) => match record.lead.as_ref().filter(|lead| lead.epoch == epoch) {
            Some(lead) => leading(lead),
            None => Configuration::default(),
        },
        (
            Role::Follower(epoch) | Role::HandedOver(epoch) | Role::Proven(epoch),
            Some((ordered, Goal::Follow(follow))),
        ) if epoch == ordered => {
            let proven = record.role != Role::Follower(epoch);
            let counts = proven && follow.receipts == Receipts::MayCount;
            let name = if counts { epoch_name(record.member, epoch) } else { catchup_name(record.member) };
            let upstream = Upstream::new(&follow.leader.address, follow.leader.port, name, record.member);
            let segments = if record.role == Role::HandedOver(epoch) { Segments::Sparse } else { Segments::Written };
            Configuration { upstream: Some(upstream), segments, ..plain(&follow.others) }
        }
        (_, Some((_, Goal::Follow(follow)))) => plain(&follow.others),
        (_, Some((_, Goal::Lead(lead)))) => plain(&lead.others),
        (_, Some((_, Goal::Seal | Goal::Drain | Goal::Rest)) | None) => {
            plain(record.lead.as_ref().map(|lead| lead.others.as_slice()).unwrap_or_default())
        }
    }
}

/// What a leader enforces.
pub(super) fn leading(lead: &Lead) -> Configuration {
    Configuration {
        epoch: Some(lead.epoch),
        names: lead.acks.iter().map(|member| epoch_name(*member, lead.epoch)).collect(),
        needed: lead.needed,
        upstream: None,
        members: lead.others.clone(),
        segments: Segments::Written,
    }
}

/// How long a standby that ended waits for its next start, if at all; never if it was stopped in order.
fn again(view: &View<'_>, down: &Down) -> Option<Step> {
    let pause = restart::pause(Ended {
        since: down.since,
        redo: 0,
        crashes: view.crashes,
        incurable: down.incurable.is_some(),
        successors: Successors::None,
    });
    let waits = view.standing.record.stopped_at.is_none() && !pause.is_zero();
    waits.then(|| soon(&format!("{}; it starts in {:.1} s", down.how, pause.as_secs_f64())))
}

/// Ordered to lead an epoch that is over: only the order of a higher one says what it is to be.
fn overtaken(view: &View<'_>) -> Step {
    match view.standing.sight {
        Sight::Live(live) if !live.recovering => Step::Kill,
        Sight::NoData | Sight::Down(_) | Sight::Starting(_) | Sight::Silent(_) | Sight::Live(_) => {
            settled("somebody showed a higher epoch than it is ordered to lead; it waits for an order of that")
        }
    }
}

fn step_down(view: &View<'_>) -> Step {
    let record = view.standing.record;
    match view.standing.sight {
        Sight::NoData | Sight::Down(_) if view.challenged > record.max_epoch => {
            soon("the higher epoch is not on disk yet")
        }
        Sight::NoData | Sight::Down(_) => Step::Become(Role::Demoted(record.max_epoch)),
        Sight::Starting(_) | Sight::Silent(_) | Sight::Live(_) => Step::Kill,
    }
}

fn hush(view: &View<'_>, order: &Order) -> Step {
    let record = view.standing.record;
    match record.role {
        Role::Leader(epoch) if epoch < order.epoch => return step_down(view),
        Role::Leader(_) => return settled("it leads this very epoch; only a higher one seals it"),
        Role::Unborn
        | Role::Follower(_)
        | Role::HandedOver(_)
        | Role::Proven(_)
        | Role::Sealed(_)
        | Role::Demoted(_) => {}
    }
    // A standby goes on having names or none: the change would take effect at some time.
    let wanted = match view.applied {
        Some(applied) if applied.epoch.is_none() => Configuration { upstream: None, ..applied.clone() },
        Some(_) | None => Configuration::standby(others(view)),
    };
    match view.standing.sight {
        Sight::NoData => settled("it has no data"),
        Sight::Down(_) if view.marker => settled("a rewind was not finished; its data cannot be elected"),
        Sight::Down(down) => again(view, down).unwrap_or(Step::Launch(Recovering::Yes, wanted)),
        Sight::Starting(_) => soon("its server starts"),
        Sight::Silent(since) if *since > super::sight::STUCK => Step::Kill,
        Sight::Silent(_) => soon("its server does not answer"),
        Sight::Live(live) if !live.recovering => Step::Kill,
        Sight::Live(_) if view.applied != Some(&wanted) => {
            Step::Configure { configuration: wanted, gate: view.standing.gate }
        }
        Sight::Live(live) if !live.is_sealed() => soon("its connection ends, and it replays what it has"),
        Sight::Live(_) if record.role != Role::Sealed(order.epoch) => Step::Become(Role::Sealed(order.epoch)),
        Sight::Live(_) => settled(""),
    }
}

/// Members that may follow, as they were known last.
fn others(view: &View<'_>) -> Vec<MemberId> {
    view.standing.record.lead.as_ref().map(|lead| lead.others.clone()).unwrap_or_default()
}

/// It does not run. Where its log ends may be unknown, if the agent stopped while it stopped the server.
fn stay(view: &View<'_>, order: &Order) -> Step {
    let unknown = matches!(view.standing.sight, Sight::Down(_)) && view.standing.record.stopped_at.is_none();
    if order.goal == Goal::Drain && unknown && view.chores == Chores::Due {
        return Step::Examine;
    }
    settled("it does not run, as ordered")
}

fn stop(view: &View<'_>) -> Step {
    match view.standing.sight {
        Sight::NoData | Sight::Down(_) => settled("it does not run, as ordered"),
        Sight::Starting(_) | Sight::Silent(_) | Sight::Live(_) => Step::Stop,
    }
}

fn settled(why: &str) -> Step {
    Step::Wait { why: why.to_owned(), pace: Pace::Settled }
}

fn soon(why: &str) -> Step {
    Step::Wait { why: why.to_owned(), pace: Pace::Soon }
}

/// As [`soon`], where looking often would only take the processor from what is waited for.
fn woken(why: &str) -> Step {
    Step::Wait { why: why.to_owned(), pace: Pace::Woken }
}

#[cfg(test)]
mod tests;
