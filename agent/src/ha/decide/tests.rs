//! Every role, sight and goal at once: whatever comes together, the rules hold.

use uuid::Uuid;
use windlass_core::{id::InstanceId, replication::epoch_of_name};

use super::*;
use crate::{
    engines::postgres::replication::{Live, Lsn, Receiver, Remote},
    ha::{
        order::{Data, Follow},
        sight::{Busy, Start},
        state::ProcessId,
    },
};

/// Where the leader is known to have everything up to.
const END: Lsn = Lsn(100);
const PROCESS: ProcessId = ProcessId { pid: 7, second: 7 };

struct Case {
    record: Record,
    order: Order,
    sight: Sight,
    gate: Gate,
    applied: Option<Configuration>,
    acknowledged: Option<Barrier>,
    comparison: Option<Rejoin>,
    confirmed: Confirmed,
    fenced: bool,
    challenged: u64,
    isolation: Isolation,
    busy: Option<Busy>,
}

impl Case {
    fn view(&self) -> View<'_> {
        View {
            standing: Standing {
                record: &self.record,
                sight: &self.sight,
                process: matches!(self.sight, Sight::Live(_)).then_some(PROCESS),
                gate: self.gate,
                busy: self.busy,
                fenced: self.fenced,
                stuck: false,
                resting: self.order.goal == Goal::Rest,
            },
            order: Some(&self.order),
            challenged: self.challenged,
            confirmed: self.confirmed,
            applied: self.applied.as_ref(),
            acknowledged: self.acknowledged,
            comparison: self.comparison.as_ref(),
            isolation: self.isolation,
            crashes: 0,
            marker: false,
            stalled: Duration::ZERO,
            same_boot: true,
            prepared: Prepared::Checkpoint,
            chores: Chores::Due,
        }
    }
}

fn goals(other: MemberId) -> Vec<Goal> {
    let lead = |acks: &[MemberId]| {
        Goal::Lead(Lead {
            epoch: 7,
            rev: 9,
            nonce: Uuid::from_u128(7),
            acks: acks.to_vec(),
            needed: u32::from(!acks.is_empty()),
            barrier_rev: 9,
            others: vec![other],
            checkpoint_rev: 0,
        })
    };
    let follow = |receipts, data| {
        Goal::Follow(Follow {
            nonce: Uuid::from_u128(7),
            leader: Remote { member: other, address: "h".into(), port: 1 },
            receipts,
            data,
            others: vec![other],
            common: Some(END),
        })
    };
    vec![
        lead(&[]),
        lead(&[other]),
        follow(Receipts::MayCount, Data::Keep),
        follow(Receipts::DoNotCount, Data::Keep),
        follow(Receipts::MayCount, Data::CopyAnew),
        Goal::Seal,
        Goal::Drain,
        Goal::Rest,
    ]
}

fn sights() -> Vec<Sight> {
    let live = |recovering, conninfo: &str, streams: bool, barrier: Option<u128>| {
        Sight::Live(Box::new(Live {
            recovering,
            conninfo: conninfo.to_owned(),
            flushed: Some(Lsn(100)),
            inserted: (!recovering).then_some(Lsn(100)),
            replayed: recovering.then_some(Lsn(100)),
            receiver: streams.then(|| Receiver {
                pid: 9,
                status: "streaming".into(),
                timeline: Some(1),
                conninfo: Some(conninfo.to_owned()),
                silent: Some(0.0),
            }),
            barrier: barrier.map(|nonce| Barrier {
                epoch: 7,
                rev: 9,
                member: Uuid::nil(),
                nonce: Uuid::from_u128(nonce),
            }),
            ..Live::default()
        }))
    };
    vec![
        Sight::NoData,
        Sight::Down(Down::default()),
        Sight::Down(Down { hopeless: Some("so"), ..Down::default() }),
        Sight::Starting(Start::Plain),
        Sight::Starting(Start::AfterCrash),
        Sight::Starting(Start::Astray("so")),
        Sight::Silent(Duration::from_secs(9)),
        live(false, "", false, None),
        live(false, "", false, Some(7)),
        live(true, "", false, None),
        live(true, "", false, Some(7)),
        live(true, "host=h port=1", true, None),
        live(true, "host=h port=1", true, Some(6)),
        live(true, "host=h port=1", true, Some(7)),
    ]
}

/// Every case that can come together, a few hundred thousand.
fn each(mut check: impl FnMut(&Case, &Step)) {
    let (member, other) = (MemberId::new(), MemberId::new());
    let roles = [5, 7].into_iter().flat_map(|epoch| {
        [
            Role::Unborn,
            Role::Leader(epoch),
            Role::Follower(epoch),
            Role::HandedOver(epoch),
            Role::Proven(epoch),
            Role::Sealed(epoch),
            Role::Demoted(epoch),
        ]
    });
    let opened = Opened { epoch: 7, barrier_rev: 9, process: PROCESS };
    let stale = Opened { process: ProcessId { pid: 8, second: 7 }, ..opened };
    let promoting = Promoting { epoch: 7, nonce: Uuid::from_u128(7), timeline: 1 };
    let row = Barrier { epoch: 7, rev: 9, member: member.0, nonce: Uuid::from_u128(7) };
    let cut_off = Isolation { control_plane_silent: Duration::from_secs(60), followers_gone: Duration::from_secs(60) };
    let heard = Isolation { control_plane_silent: Duration::ZERO, followers_gone: Duration::ZERO };
    for role in roles {
        for goal in goals(other) {
            for sight in sights() {
                for (max_epoch, challenged) in [(7, 0), (8, 0), (7, 8)] {
                    for opened in [None, Some(opened), Some(stale)] {
                        for (promoting, acknowledged) in [(None, None), (Some(promoting), Some(row)), (None, Some(row))]
                        {
                            for comparison in [
                                None,
                                Some(Rejoin::Point),
                                Some(Rejoin::Rewind { fork: Lsn(1) }),
                                Some(Rejoin::Copy("so".into())),
                                Some(Rejoin::Wait("so".into())),
                                Some(Rejoin::Ahead("so".into())),
                            ] {
                                for (gate, fenced, confirmed, isolation) in [
                                    (Gate::Shut, false, Confirmed::Yes, heard),
                                    (Gate::Open, false, Confirmed::No, cut_off),
                                    (Gate::Shut, true, Confirmed::Yes, cut_off),
                                    (Gate::Open, true, Confirmed::Yes, cut_off),
                                ] {
                                    let order = Order {
                                        member,
                                        epoch: 7,
                                        rev: 9,
                                        fence_after: Duration::from_secs(5),
                                        goal: goal.clone(),
                                    };
                                    let lead = match &goal {
                                        Goal::Lead(lead) => Some(lead.clone()),
                                        Goal::Follow(_) | Goal::Seal | Goal::Drain | Goal::Rest => None,
                                    };
                                    let record = Record {
                                        max_epoch,
                                        applied_rev: 9,
                                        role,
                                        opened,
                                        promoting,
                                        lead,
                                        ..Record::new(InstanceId::new(), member)
                                    };
                                    let applied = Some(configuration(&record, Some(&order)));
                                    let case = Case {
                                        record,
                                        order,
                                        sight: sight.clone(),
                                        gate,
                                        applied,
                                        acknowledged,
                                        comparison: comparison.clone(),
                                        confirmed,
                                        fenced,
                                        challenged,
                                        isolation,
                                        busy: None,
                                    };
                                    let step = decide(&case.view());
                                    check(&case, &step);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn leads(case: &Case) -> bool {
    case.record.role == Role::Leader(7) && matches!(case.order.goal, Goal::Lead(_))
}

#[test]
fn a_primary_is_started_or_opened_by_its_epochs_order_and_proof_only() {
    each(|case, step| match step {
        Step::Launch(Recovering::No, configuration) => {
            assert!(leads(case), "{:?} {:?}", case.record, case.order);
            assert_eq!(configuration.epoch, Some(7));
        }
        Step::Configure { gate: Gate::Open, configuration }
            if configuration.epoch.is_some() && case.gate == Gate::Shut =>
        {
            let opened = case.record.opened.expect("proof");
            assert!(leads(case) && opened.process == PROCESS && opened.epoch == 7, "{:?}", case.record);
        }
        Step::Admit(opened) => {
            let row = case.acknowledged.expect("acknowledged");
            assert_eq!((row.epoch, row.rev, opened.process), (opened.epoch, opened.barrier_rev, PROCESS));
        }
        Step::Wait { .. }
        | Step::Become(_)
        | Step::Configure { .. }
        | Step::Launch(..)
        | Step::Kill
        | Step::Stop
        | Step::Examine
        | Step::Halt
        | Step::Promote(..)
        | Step::Prepare
        | Step::Checkpoint
        | Step::Slots(_)
        | Step::Barrier(_)
        | Step::Fence
        | Step::Compare
        | Step::Copy(_)
        | Step::Rewind { .. }
        | Step::SetAside { .. }
        | Step::Distrust(_) => {}
    });
}

#[test]
fn whoever_led_a_lower_epoch_ends_its_server_and_does_nothing_else() {
    each(|case, step| {
        let highest = case.record.max_epoch.max(case.challenged);
        if !matches!(case.record.role, Role::Leader(epoch) if epoch < highest) || case.order.epoch == highest {
            return;
        }
        let runs = !matches!(case.sight, Sight::NoData | Sight::Down(_));
        let right = match step {
            Step::Kill => runs,
            Step::Become(role) => !runs && *role == Role::Demoted(highest),
            Step::Wait { .. } => !runs && case.challenged > case.record.max_epoch,
            Step::Configure { .. }
            | Step::Launch(..)
            | Step::Stop
            | Step::Examine
            | Step::Halt
            | Step::Promote(..)
            | Step::Prepare
            | Step::Checkpoint
            | Step::Slots(_)
            | Step::Barrier(_)
            | Step::Admit(_)
            | Step::Fence
            | Step::Compare
            | Step::Copy(_)
            | Step::Rewind { .. }
            | Step::SetAside { .. }
            | Step::Distrust(_) => false,
        };
        assert!(right, "{step:?} by {:?} at {:?}", case.record.role, case.sight);
    });
}

#[test]
fn the_epochs_name_is_used_by_the_proven_only() {
    each(|case, step| {
        let (Step::Configure { configuration, .. } | Step::Launch(_, configuration)) = step else { return };
        let Some(upstream) = &configuration.upstream else { return };
        if epoch_of_name(case.record.member, &upstream.name).is_some() {
            let role = case.record.role;
            assert!(matches!(role, Role::Proven(7) | Role::HandedOver(7)), "{role:?}");
            let counts = matches!(&case.order.goal, Goal::Follow(follow) if follow.receipts == Receipts::MayCount);
            assert!(counts, "{:?}", case.order);
        }
    });
}

#[test]
fn only_the_end_that_was_proven_is_followed_without_a_comparison() {
    each(|case, _| {
        let (Role::Demoted(_), Sight::Down(Down { hopeless: None, .. }), None, Goal::Follow(follow)) =
            (case.record.role, &case.sight, &case.comparison, &case.order.goal)
        else {
            return;
        };
        if follow.data == Data::CopyAnew || case.record.max_epoch != 7 || case.challenged > 7 {
            return;
        }
        for (stopped_at, goes_on) in [(Some(END), true), (Some(Lsn(101)), false), (Some(Lsn(99)), false), (None, false)]
        {
            let record = Record { stopped_at, ..case.record.clone() };
            let mut view = case.view();
            view.standing.record = &record;
            let step = decide(&view);
            let alone =
                matches!(&step, Step::Launch(Recovering::Yes, configuration) if configuration.upstream.is_none());
            let right = if goes_on { step == Step::Become(Role::HandedOver(7)) } else { alone };
            assert!(right, "{step:?} at {stopped_at:?}");
        }
    });
}

#[test]
fn a_follower_that_ran_as_a_primary_is_put_aside() {
    each(|case, step| {
        let (Sight::Live(live), Goal::Follow(follow)) = (&case.sight, &case.order.goal) else { return };
        let known = matches!(case.record.role, Role::Follower(7) | Role::HandedOver(7) | Role::Proven(7));
        let promoted = case.record.promoting.is_some();
        if known && !live.recovering && !promoted && follow.data == Data::Keep && case.challenged <= 7 {
            assert!(matches!(step, Step::SetAside { .. }), "{step:?} by {:?}", case.record.role);
        }
    });
}

#[test]
fn nothing_is_promoted_by_an_order_from_disk_alone_or_without_one() {
    each(|case, step| {
        if let Step::Promote(..) = step {
            assert!(matches!(case.order.goal, Goal::Lead(_)) && case.confirmed == Confirmed::Yes);
            let highest = case.record.max_epoch.max(case.challenged);
            assert!(case.order.epoch >= highest, "{:?}: {highest} was shown", case.order);
        }
    });
}

#[test]
fn a_sealed_member_is_pointed_to_nobody() {
    each(|case, step| {
        if case.order.goal == Goal::Seal
            && let Step::Configure { configuration, .. } | Step::Launch(_, configuration) = step
        {
            assert_eq!(configuration.upstream, None);
        }
    });
}

#[test]
fn who_shut_itself_shuts_the_gate_until_it_is_shut() {
    each(|case, step| {
        let alive = matches!(&case.sight, Sight::Live(live) if !live.recovering);
        let highest = case.record.max_epoch.max(case.challenged);
        if leads(case) && highest == 7 && alive && case.fenced && case.gate == Gate::Open {
            assert!(matches!(step, Step::Configure { gate: Gate::Shut, .. }), "{step:?}");
        }
    });
}

#[test]
fn a_start_that_waits_for_another_leader_than_ordered_is_ended() {
    each(|case, _| {
        let (Sight::Starting(Start::Plain), Goal::Follow(follow)) = (&case.sight, &case.order.goal) else { return };
        let follower = matches!(case.record.role, Role::Follower(5) | Role::Proven(5));
        if !follower || case.record.max_epoch != 7 || case.challenged > 7 || follow.data == Data::CopyAnew {
            return;
        }
        for (port, right) in [(1, false), (2, true)] {
            let upstream = Upstream::new("h", port, "m".to_owned(), case.record.member);
            let applied = Configuration { upstream: Some(upstream), ..Configuration::standby(Vec::new()) };
            let mut view = case.view();
            view.applied = Some(&applied);
            assert_eq!(decide(&view) == Step::Kill, right);
        }
    });
}
