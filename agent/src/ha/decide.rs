//! What a member does next. Pure: from what it remembers, what is seen and what is ordered follows one step, and after
//! the step everything is looked at again. So a step that was cut short, done twice or overtaken by an order needs no
//! repair of its own.

use std::time::Duration;

use windlass_core::{
    id::MemberId,
    replication::{ReplicaState, catchup_name, epoch_name},
};

use super::{
    fence::{Isolation, has_follower, is_cut_off},
    order::{Data, Follow, Goal, Lead, Order, Receipts},
    rejoin::Rejoin,
    restart::{self, Ended, Successors},
    sight::{Down, Sight, Standing, Start},
    state::{Opened, Promoting, Record, Role},
    table::{self, Deed},
};
use crate::engines::postgres::replication::{Barrier, Configuration, Gate, Live, Recovering, Slots, Upstream};

/// A follower that does not stream for this long asks the leader whether it still can.
const STALLED: Duration = Duration::from_secs(1);

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
    /// Whether this server process has what the database needs, and was asked for a checkpoint.
    pub(super) prepared: bool,
    /// Whether it is time again for what may fail for a while, such as dropping a slot in use.
    pub(super) chores: Chores,
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
    /// Makes what the database needs and asks for a checkpoint.
    Prepare,
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
    Rewind { upstream: Upstream, fork: crate::engines::postgres::replication::Lsn },
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
    match table::deed(state, order.goal.word()) {
        Deed::Found => found(view, order),
        Deed::Hold => hold(view, order),
        Deed::Promote => promote(view, order),
        Deed::Resume => resume(view, order),
        Deed::Trail => trail(view, order),
        Deed::Rejoin => rejoin(view, order),
        Deed::Copy => copy(view, order, state),
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
    let plain = |members: &[MemberId]| Configuration { members: members.to_vec(), ..Configuration::default() };
    match (record.role, order.map(|order| (order.epoch, &order.goal))) {
        (Role::Leader(epoch), Some((ordered, Goal::Lead(lead)))) if epoch == ordered => leading(lead),
        (
            Role::Sealed(_) | Role::Demoted(_) | Role::Follower(_) | Role::Proven(_),
            Some((ordered, Goal::Lead(lead))),
        ) if promotes(ordered) => leading(lead),
        // What it enforces outlives the order to lead.
        (Role::Leader(epoch), _) => match record.lead.as_ref().filter(|lead| lead.epoch == epoch) {
            Some(lead) => leading(lead),
            None => Configuration::default(),
        },
        (Role::Follower(epoch) | Role::Proven(epoch), Some((ordered, Goal::Follow(follow)))) if epoch == ordered => {
            let counts = record.role == Role::Proven(epoch) && follow.receipts == Receipts::MayCount;
            let name = if counts { epoch_name(record.member, epoch) } else { catchup_name(record.member) };
            let upstream = Upstream::new(&follow.leader.address, follow.leader.port, name, record.member);
            Configuration { upstream: Some(upstream), ..plain(&follow.others) }
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
    }
}

fn found(view: &View<'_>, order: &Order) -> Step {
    match view.standing.sight {
        Sight::NoData => settled("it has no data to lead with"),
        Sight::Down(_) | Sight::Starting(_) | Sight::Silent(_) => Step::Become(Role::Leader(order.epoch)),
        Sight::Live(live) if live.recovering => {
            Step::Distrust("it has no role, and its data is a standby's".to_owned())
        }
        Sight::Live(_) => Step::Become(Role::Leader(order.epoch)),
    }
}

fn hold(view: &View<'_>, order: &Order) -> Step {
    let record = view.standing.record;
    let (Role::Leader(epoch), Goal::Lead(lead)) = (record.role, &order.goal) else {
        return promote(view, order);
    };
    if epoch != order.epoch {
        // The same server goes on in a higher epoch: its history is its own.
        return Step::Become(Role::Leader(order.epoch));
    }
    match view.standing.sight {
        Sight::NoData => settled("its data is gone"),
        Sight::Down(_) => resume(view, order),
        Sight::Starting(_) => soon("its server starts"),
        Sight::Silent(since) => settled(&format!("its server does not answer for {:.1} s", since.as_secs_f64())),
        Sight::Live(live) if live.recovering => promote(view, order),
        Sight::Live(live) => lead_on(view, order, lead, live),
    }
}

/// A primary that leads the ordered epoch.
fn lead_on(view: &View<'_>, order: &Order, lead: &Lead, live: &Live) -> Step {
    let (record, gate) = (view.standing.record, view.standing.gate);
    let wanted = leading(lead);
    let in_force = view.applied == Some(&wanted)
        && live.names == wanted.standby_names()
        && live.epoch.as_deref() == Some(wanted.epoch_text().as_str());
    if !in_force {
        return Step::Configure { configuration: wanted, gate };
    }
    if !view.prepared {
        return Step::Prepare;
    }
    let slots = Slots::difference(&live.slots, &lead.others);
    if view.chores == Chores::Due && !slots.is_empty() {
        return Step::Slots(slots);
    }
    if view.standing.fenced {
        if has_follower(view.isolation) || lead.acks.is_empty() {
            return barrier_of(view, lead);
        }
        return settled("it shut itself: it hears neither the control plane nor a follower whose receipt counts");
    }
    if !lead.acks.is_empty() && is_cut_off(view.isolation, order.fence_after) {
        return Step::Fence;
    }
    let opened =
        record.opened.filter(|opened| Some(opened.process) == view.standing.process && opened.epoch == lead.epoch);
    match opened {
        Some(opened) if opened.barrier_rev == lead.barrier_rev && gate == Gate::Open => settled(""),
        Some(opened) if opened.barrier_rev == lead.barrier_rev => {
            Step::Configure { configuration: wanted, gate: Gate::Open }
        }
        Some(_) | None => barrier_of(view, lead),
    }
}

/// The barrier, and what follows once it is acknowledged.
fn barrier_of(view: &View<'_>, lead: &Lead) -> Step {
    let record = view.standing.record;
    let Some(process) = view.standing.process else { return soon("its server just ended") };
    if lead.acks.is_empty() && !lead.others.is_empty() && view.confirmed == Confirmed::No && !view.same_boot {
        return settled("it led alone before the machine started again; it waits for the control plane's word");
    }
    let row = Barrier { epoch: lead.epoch, rev: lead.barrier_rev, member: record.member.0, nonce: lead.nonce };
    if view.acknowledged == Some(row) {
        return Step::Admit(Opened { epoch: lead.epoch, barrier_rev: lead.barrier_rev, process });
    }
    Step::Barrier(row)
}

fn promote(view: &View<'_>, order: &Order) -> Step {
    let record = view.standing.record;
    let Goal::Lead(lead) = &order.goal else { return settled("it is not ordered to lead") };
    let promoting = record.promoting.filter(|promoting| promoting.epoch == order.epoch);
    match view.standing.sight {
        Sight::NoData => settled("it has no data to lead with"),
        Sight::Down(down) => {
            again(view, down).unwrap_or_else(|| Step::Launch(Recovering::Yes, configuration(record, None)))
        }
        Sight::Starting(_) => soon("its server starts"),
        Sight::Silent(since) => settled(&format!("its server does not answer for {:.1} s", since.as_secs_f64())),
        Sight::Live(live) if !live.recovering => match promoting {
            Some(_) => Step::Become(Role::Leader(order.epoch)),
            // Promoted by nobody's order.
            None => Step::Kill,
        },
        Sight::Live(_) if view.confirmed == Confirmed::No => {
            soon("it was to be promoted when the agent stopped; it waits for the control plane to say so again")
        }
        Sight::Live(live) if !live.is_sealed() && live.receiver.is_some() => {
            // Nothing may arrive while it turns into a primary.
            let sealed = Configuration { members: lead.others.clone(), ..Configuration::default() };
            if view.applied == Some(&sealed) {
                soon("its connection ends")
            } else {
                Step::Configure { configuration: sealed, gate: view.standing.gate }
            }
        }
        Sight::Live(live) => {
            let timeline = promoting.map_or(live_timeline(record, live), |promoting| promoting.timeline);
            Step::Promote(Promoting { epoch: order.epoch, nonce: lead.nonce, timeline }, leading(lead))
        }
    }
}

/// A standby's timeline, as it was looked up last.
fn live_timeline(record: &Record, live: &Live) -> u32 {
    if record.timeline > 0 { record.timeline } else { live.checkpoint_timeline }
}

fn resume(view: &View<'_>, order: &Order) -> Step {
    let record = view.standing.record;
    let Role::Leader(epoch) = record.role else { return promote(view, order) };
    if epoch != order.epoch {
        return Step::Become(Role::Leader(order.epoch));
    }
    let (Sight::Down(down), Goal::Lead(lead)) = (view.standing.sight, &order.goal) else {
        return match view.standing.sight {
            Sight::Live(live) if !view.standing.stuck => match &order.goal {
                Goal::Lead(lead) => lead_on(view, order, lead, live),
                Goal::Follow(_) | Goal::Seal | Goal::Drain | Goal::Rest => settled("its server runs"),
            },
            Sight::Live(_) => settled("its log does not get to disk"),
            Sight::Silent(since) => settled(&format!("its server does not answer for {:.1} s", since.as_secs_f64())),
            Sight::NoData | Sight::Down(_) | Sight::Starting(_) => soon("its server starts"),
        };
    };
    if record.stopped_at.is_none() {
        let successors = if lead.acks.is_empty() { Successors::None } else { Successors::Some };
        let pause = restart::pause(Ended {
            since: down.since,
            redo: down.redo,
            crashes: view.crashes,
            incurable: down.incurable.is_some(),
            successors,
        });
        if !pause.is_zero() {
            let why = down.incurable.unwrap_or("it ended before, or has much to redo");
            return soon(&format!(
                "{}; {why}: it starts in {:.1} s unless ordered otherwise",
                down.how,
                pause.as_secs_f64()
            ));
        }
    }
    Step::Launch(Recovering::No, leading(lead))
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

fn trail(view: &View<'_>, order: &Order) -> Step {
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
    let known = if proven { Role::Proven(order.epoch) } else { Role::Follower(order.epoch) };
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
    let slots = Slots::difference(&live.slots, &[]);
    let streams = live.receiver.as_ref().is_some_and(|receiver| receiver.status == "streaming");
    match (streams, proven) {
        (false, _) => soon("it connects to the leader"),
        (true, false) => soon("it has not replayed the barrier of the epoch yet"),
        // What it kept as a leader, for followers of its own, can wait until it follows.
        (true, true) if view.chores == Chores::Due && !slots.is_empty() => Step::Slots(slots),
        (true, true) => settled(""),
    }
}

fn rejoin(view: &View<'_>, order: &Order) -> Step {
    let record = view.standing.record;
    match record.role {
        Role::Leader(epoch) if epoch < order.epoch => return step_down(view),
        Role::Leader(_) => return settled("it leads this very epoch; only a higher one makes it follow"),
        Role::Unborn | Role::Follower(_) | Role::Proven(_) | Role::Sealed(_) | Role::Demoted(_) => {}
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
            Step::Become(Role::Follower(order.epoch))
        }
        Sight::Down(down) => again(view, down).unwrap_or_else(|| {
            let configuration = if known(record, order) { configuration(record, view.order) } else { alone(follow) };
            Step::Launch(Recovering::Yes, configuration)
        }),
        Sight::Starting(Start::Astray(why)) => {
            Step::SetAside { why: format!("it cannot become consistent: {why}"), ordered: None }
        }
        Sight::Starting(_) => soon("its server starts"),
        Sight::Silent(since) if *since > super::sight::STUCK => Step::Kill,
        Sight::Silent(_) => soon("its server does not answer"),
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

/// Whether it is known to be a part of the ordered leader's history.
fn known(record: &Record, order: &Order) -> bool {
    matches!(record.role, Role::Follower(epoch) | Role::Proven(epoch) if epoch == order.epoch)
}

/// A standby of nobody.
fn alone(follow: &Follow) -> Configuration {
    Configuration { members: follow.others.clone(), ..Configuration::default() }
}

fn copy(view: &View<'_>, order: &Order, state: ReplicaState) -> Step {
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
        Role::Unborn | Role::Follower(_) | Role::Proven(_) | Role::Sealed(_) | Role::Demoted(_) => {}
    }
    let wanted = Configuration { members: others(view), ..Configuration::default() };
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

#[cfg(test)]
mod tests;
