//! What a member does that is ordered to lead: it is promoted, or goes on; then what it enforces, the barrier, the gate.
//! Nobody is let in before a follower whose receipt counts has the barrier of this epoch, or none is needed.

use std::time::Duration;

use super::{Chores, Confirmed, Prepared, Step, View, again, configuration, leading, settled, soon};
use crate::{
    engines::postgres::replication::{Barrier, Configuration, Gate, Live, Recovering, Sender, Slots},
    ha::{
        fence::{has_follower, is_cut_off},
        order::{Goal, Lead, Order},
        restart::{self, Ended, Successors},
        sight::Sight,
        state::{Opened, Promoting, Record, Role},
    },
};

/// A leader that is not open after this long writes its checkpoint first: its follower may have to be rewound, and a
/// rewind believes the control file. Until then the disk is the barrier's.
const CHECKPOINT_AFTER: Duration = Duration::from_millis(300);

pub(super) fn found(view: &View<'_>, order: &Order) -> Step {
    match view.standing.sight {
        Sight::NoData => settled("it has no data to lead with"),
        Sight::Down(_) | Sight::Starting(_) | Sight::Silent(_) => Step::Become(Role::Leader(order.epoch)),
        Sight::Live(live) if live.recovering => {
            Step::Distrust("it has no role, and its data is a standby's".to_owned())
        }
        Sight::Live(_) => Step::Become(Role::Leader(order.epoch)),
    }
}

pub(super) fn hold(view: &View<'_>, order: &Order) -> Step {
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
    let record = view.standing.record;
    // Whoever shuts itself does so again until the gate is shut: what came between left it open.
    let gate = if view.standing.fenced { Gate::Shut } else { view.standing.gate };
    let wanted = leading(lead);
    let in_force = view.applied == Some(&wanted)
        && live.names == wanted.standby_names()
        && live.epoch.as_deref() == Some(wanted.epoch_text().as_str());
    if !in_force || gate != view.standing.gate {
        return Step::Configure { configuration: wanted, gate };
    }
    match view.prepared {
        Prepared::Nothing => return Step::Prepare,
        Prepared::Database(since) if since >= CHECKPOINT_AFTER => return Step::Checkpoint,
        Prepared::Database(_) | Prepared::Checkpoint => {}
    }
    let slots = Slots::to_connect(&live.slots, &lead.others);
    if view.chores == Chores::Due && !slots.is_empty() {
        return Step::Slots(slots);
    }
    let left = |sender: &&Sender| sender.counts() && !wanted.names.contains(&sender.name);
    if let Some(sender) = live.senders.iter().find(left) {
        return soon(&format!("commits are still released by {}, which left the set", sender.name));
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
        Some(opened) if opened.barrier_rev == lead.barrier_rev && gate == Gate::Open => afterwards(view, lead, live),
        Some(opened) if opened.barrier_rev == lead.barrier_rev => {
            Step::Configure { configuration: wanted, gate: Gate::Open }
        }
        Some(_) | None => barrier_of(view, lead),
    }
}

/// What nobody waits for.
fn afterwards(view: &View<'_>, lead: &Lead, live: &Live) -> Step {
    if view.prepared != Prepared::Checkpoint {
        return Step::Checkpoint;
    }
    let slots = Slots::to_lead(&live.slots, &lead.others);
    if view.chores == Chores::Due && !slots.is_empty() { Step::Slots(slots) } else { settled("") }
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

pub(super) fn promote(view: &View<'_>, order: &Order) -> Step {
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
            let sealed = Configuration::standby(lead.others.clone());
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

pub(super) fn resume(view: &View<'_>, order: &Order) -> Step {
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
