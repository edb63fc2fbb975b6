//! The queue's rules against a real server.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use jiff::SignedDuration;
use serde_json::json;
use windlass_core::{
    command::{CommandKind, CommandState, MAX_ATTEMPTS},
    id::{CommandId, HostId, MemberId, OperationId},
};

use super::*;
use crate::{Db, testing::TestDb};

const LEASE: Duration = Duration::from_secs(60);

async fn host(test: &TestDb) -> HostId {
    let host = HostId::new();
    test.execute(&format!("insert into host (id, name, state) values ('{host}', 'h-{host}', 'ONLINE')")).await;
    host
}

async fn parked_saga(test: &TestDb) -> OperationId {
    let id = OperationId::new();
    test.execute(&format!(
        "insert into operation (id, kind, target, state, actor) values ('{id}', 'k', 't', 'RUNNING', 'a')"
    ))
    .await;
    test.execute(&format!(
        "insert into saga (id, kind, version, shard, data, wake_at) values ('{id}', 'k', 1, 0, '{{}}', null)"
    ))
    .await;
    id
}

async fn is_due(test: &TestDb, saga: OperationId) -> bool {
    test.count(&format!("select count(*) from saga where id = '{saga}' and wake_at <= clock_timestamp()")).await == 1
}

fn command(host: HostId, member: MemberId) -> NewCommand {
    NewCommand {
        uid: CommandId::new(),
        shard: 0,
        host,
        instance: None,
        member: Some(member),
        saga: None,
        epoch: 1,
        generation: 1,
        kind: CommandKind::ApplyObject,
        args: json!({}),
        timeout: SignedDuration::from_secs(10),
        expire: None,
    }
}

async fn enqueue(db: &Db, command: &NewCommand) -> Enqueued {
    let mut tx = db.begin().await.expect("begin");
    let queued = command_enqueue_tx(&mut tx, command).await.expect("enqueue");
    tx.commit().await.expect("commit");
    queued
}

async fn claim(db: &Db, host: HostId, room: u32) -> Vec<ClaimedCommand> {
    db.commands_claim(&[Parked { host, room }], LEASE).await.expect("claim")
}

fn success(command: &ClaimedCommand) -> CommandReport {
    let ClaimedCommand { uid, host, attempt, .. } = *command;
    CommandReport { uid, host, attempt, state: CommandState::Succeeded, result: json!({}) }
}

async fn state(test: &TestDb, uid: CommandId) -> CommandState {
    let mut tx = test.db.begin().await.expect("begin");
    commands_by_uid_tx(&mut tx, &[uid]).await.expect("read")[0].state
}

#[tokio::test]
async fn a_uid_is_queued_once() {
    let test = TestDb::create().await;
    let new = command(host(&test).await, MemberId::new());
    assert_eq!(enqueue(&test.db, &new).await, Enqueued::Fresh);
    assert_eq!(enqueue(&test.db, &new).await, Enqueued::Known);
    assert_eq!(claim(&test.db, new.host, 8).await.len(), 1);
    assert_eq!(enqueue(&test.db, &new).await, Enqueued::Known);
    assert!(claim(&test.db, new.host, 8).await.is_empty());
}

#[tokio::test]
async fn a_newer_generation_takes_the_place_of_queued_older_goals_only() {
    let test = TestDb::create().await;
    let (host, member, saga) = (host(&test).await, MemberId::new(), parked_saga(&test).await);
    let goal = |generation| NewCommand {
        kind: CommandKind::ApplyMember,
        generation,
        saga: Some(saga),
        ..command(host, member)
    };
    let (object, leased) = (command(host, member), goal(1));
    enqueue(&test.db, &leased).await;
    assert_eq!(claim(&test.db, host, 8).await.len(), 1);
    let (old, other) = (goal(2), NewCommand { member: Some(MemberId::new()), ..goal(2) });
    for new in [&object, &old, &other] {
        enqueue(&test.db, new).await;
    }
    assert!(!is_due(&test, saga).await);
    let newer = goal(3);
    enqueue(&test.db, &newer).await;
    assert_eq!(state(&test, old.uid).await, CommandState::Superseded);
    assert!(is_due(&test, saga).await, "its saga is told");
    for kept in [&object, &other, &newer] {
        assert_eq!(state(&test, kept.uid).await, CommandState::Queued);
    }
    assert_eq!(state(&test, leased.uid).await, CommandState::Leased);
}

#[tokio::test]
async fn many_claimers_at_once_give_each_command_once_in_order_and_one_per_member() {
    let test = TestDb::create().await;
    let hosts = [host(&test).await, host(&test).await, host(&test).await];
    let mut order: HashMap<MemberId, Vec<CommandId>> = HashMap::new();
    for host in hosts {
        for _ in 0..5 {
            let member = MemberId::new();
            for _ in 0..6 {
                let new = command(host, member);
                order.entry(member).or_default().push(new.uid);
                enqueue(&test.db, &new).await;
            }
        }
    }
    let total: usize = order.values().map(Vec::len).sum();
    let claimers: Vec<_> = (0..6)
        .map(|_| {
            let db = test.db.clone();
            tokio::spawn(async move {
                let parked = hosts.map(|host| Parked { host, room: 3 });
                let mut done = Vec::new();
                let mut idle = 0;
                while idle < 20 {
                    // Another claimer may have been faster in a way that only the index saw: then it is tried again.
                    let claimed = match db.commands_claim(&parked, LEASE).await {
                        Ok(claimed) => claimed,
                        Err(error) => {
                            assert!(error.retryable(), "{error}");
                            continue;
                        }
                    };
                    let members: HashSet<_> = claimed.iter().map(|c| c.member).collect();
                    assert_eq!(members.len(), claimed.len(), "one per member");
                    idle = if claimed.is_empty() { idle + 1 } else { 0 };
                    let reports: Vec<_> = claimed.iter().map(success).collect();
                    let verdicts = db.commands_report(&reports).await.expect("report");
                    assert!(verdicts.iter().all(|verdict| *verdict == ReportVerdict::Stored));
                    done.extend(claimed.into_iter().map(|c| (c.uid, c.attempt)));
                    tokio::task::yield_now().await;
                }
                done
            })
        })
        .collect();
    let mut done = Vec::new();
    for claimer in claimers {
        done.extend(claimer.await.expect("claimer"));
    }
    assert_eq!(done.len(), total);
    assert!(done.iter().all(|(_, attempt)| *attempt == 1), "delivered once");
    let uids: HashSet<_> = done.iter().map(|(uid, _)| *uid).collect();
    assert_eq!(uids.len(), total);
    let disorder = "select count(*) from command a join command b on a.member_id = b.member_id
                     where a.id < b.id and a.end_time > b.end_time";
    assert_eq!(test.count(disorder).await, 0, "in the order of queueing");
}

#[tokio::test]
async fn a_result_counts_only_for_its_own_delivery_by_its_own_host() {
    let test = TestDb::create().await;
    let (here, there, saga) = (host(&test).await, host(&test).await, parked_saga(&test).await);
    let new = NewCommand { saga: Some(saga), ..command(here, MemberId::new()) };
    enqueue(&test.db, &new).await;
    let first = claim(&test.db, here, 1).await.remove(0);
    let lost = Delivery { uid: first.uid, attempt: first.attempt };
    assert_eq!(test.db.commands_take_back(&[lost]).await.expect("back")[0].state, CommandState::Queued);
    let second = claim(&test.db, here, 1).await.remove(0);
    assert_eq!(second.attempt, 2);
    assert!(test.db.commands_take_back(&[lost]).await.expect("nothing").is_empty(), "an old delivery is over");
    let foreign = CommandReport { host: there, ..success(&second) };
    let reports = [success(&first), foreign, success(&second), success(&second)];
    for (report, expected) in
        reports.iter().zip([ReportVerdict::Stale, ReportVerdict::Stale, ReportVerdict::Stored, ReportVerdict::Ended])
    {
        assert!(is_due(&test, saga).await == (expected == ReportVerdict::Ended));
        assert_eq!(test.db.commands_report(std::slice::from_ref(report)).await.expect("report"), [expected]);
    }
    let unknown = CommandReport { uid: CommandId::new(), ..success(&second) };
    assert_eq!(test.db.commands_report(&[unknown]).await.expect("report"), [ReportVerdict::Ended]);
}

#[tokio::test]
async fn deadlines_end_what_was_not_fetched_and_leave_the_rest() {
    let test = TestDb::create().await;
    let (host, saga) = (host(&test).await, parked_saga(&test).await);
    let due = NewCommand {
        saga: Some(saga),
        expire: Some(SignedDuration::from_millis(-1)),
        ..command(host, MemberId::new())
    };
    let later = NewCommand { expire: Some(SignedDuration::from_hours(1)), ..command(host, MemberId::new()) };
    for new in [&due, &later] {
        enqueue(&test.db, new).await;
    }
    assert_eq!(claim(&test.db, host, 8).await.len(), 1, "what is past its deadline is not given out");
    let ended = test.db.commands_expire(10).await.expect("expire");
    assert_eq!((ended.len(), ended[0].uid, ended[0].state), (1, due.uid, CommandState::Expired));
    assert!(is_due(&test, saga).await);
}

#[tokio::test]
async fn a_command_without_an_answer_goes_back_until_it_is_given_up() {
    let test = TestDb::create().await;
    let (host, saga) = (host(&test).await, parked_saga(&test).await);
    let new = NewCommand { saga: Some(saga), ..command(host, MemberId::new()) };
    enqueue(&test.db, &new).await;
    for attempt in 1..=MAX_ATTEMPTS {
        let claimed = test.db.commands_claim(&[Parked { host, room: 1 }], Duration::ZERO).await.expect("claim");
        assert_eq!(claimed[0].attempt, attempt);
        assert!(test.db.commands_reap(&[host], 10).await.expect("reap").is_empty(), "a host that polls keeps it");
        let reaped = test.db.commands_reap(&[], 10).await.expect("reap");
        let given_up = attempt == MAX_ATTEMPTS;
        let expected = if given_up { CommandState::Failed } else { CommandState::Queued };
        assert_eq!(reaped[0].state, expected);
        assert_eq!(is_due(&test, saga).await, given_up);
    }
    assert!(claim(&test.db, host, 1).await.is_empty());
    assert_eq!(test.count("select count(*) from event where kind = 'command.poisoned'").await, 1);
}

#[tokio::test]
async fn a_lease_that_is_renewed_does_not_pass() {
    let test = TestDb::create().await;
    let (host, other) = (host(&test).await, host(&test).await);
    let new = command(host, MemberId::new());
    enqueue(&test.db, &new).await;
    test.db.commands_claim(&[Parked { host, room: 1 }], Duration::ZERO).await.expect("claim");
    test.db.commands_renew(other, &[new.uid], LEASE).await.expect("renew");
    assert_eq!(test.count("select count(*) from command where lease_until > now()").await, 0, "not by another host");
    test.db.commands_renew(host, &[new.uid], LEASE).await.expect("renew");
    assert!(test.db.commands_reap(&[], 10).await.expect("reap").is_empty());
    assert_eq!(test.db.commands_leased(host).await.expect("leased"), [Delivery { uid: new.uid, attempt: 1 }]);
}

#[tokio::test]
async fn a_cancel_ends_the_queued_and_asks_for_the_leased() {
    let test = TestDb::create().await;
    let (host, saga) = (host(&test).await, parked_saga(&test).await);
    let new = || NewCommand { saga: Some(saga), ..command(host, MemberId::new()) };
    let (running, queued) = (new(), new());
    enqueue(&test.db, &running).await;
    assert_eq!(claim(&test.db, host, 8).await.len(), 1);
    enqueue(&test.db, &queued).await;
    let mut tx = test.db.begin().await.expect("begin");
    assert_eq!(commands_cancel_tx(&mut tx, saga).await.expect("cancel"), [host, host]);
    tx.commit().await.expect("commit");
    assert_eq!(state(&test, queued.uid).await, CommandState::Cancelled);
    assert_eq!(
        test.db.commands_to_cancel(&[host]).await.expect("to cancel"),
        [LeasedCommand { uid: running.uid, host }]
    );
    let lost = test.db.commands_take_back(&[Delivery { uid: running.uid, attempt: 1 }]).await.expect("back");
    assert_eq!(lost[0].state, CommandState::Cancelled, "what is to be cancelled is not delivered again");
}

#[tokio::test]
async fn ended_commands_are_forgotten_once_their_saga_has_ended() {
    let test = TestDb::create().await;
    let (host, saga) = (host(&test).await, parked_saga(&test).await);
    for saga in [Some(saga), None] {
        enqueue(&test.db, &NewCommand { saga, ..command(host, MemberId::new()) }).await;
    }
    let reports: Vec<_> = claim(&test.db, host, 8).await.iter().map(success).collect();
    test.db.commands_report(&reports).await.expect("report");
    let forget = || test.db.commands_forget(SignedDuration::from_secs(-1), 10);
    assert_eq!(forget().await.expect("forget"), 1);
    test.execute("update saga set done = true").await;
    assert_eq!(forget().await.expect("forget"), 1);
}

/// Random histories keep the rules: one lease per member, terminal states for ever, attempts that only grow.
#[tokio::test]
async fn random_histories_keep_the_rules() {
    let test = TestDb::create().await;
    let hosts = [host(&test).await, host(&test).await];
    let members: Vec<_> = (0..4).map(|n| (hosts[n % 2], MemberId::new())).collect();
    let mut random = 7_u64;
    let mut draw = |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).expect("31 bits") % n
    };
    let mut delivered: Vec<ClaimedCommand> = Vec::new();
    let mut ended: HashMap<CommandId, CommandState> = HashMap::new();
    for _ in 0..400 {
        match draw(6) {
            0 | 1 => {
                let (host, member) = members[draw(members.len())];
                let kind = if draw(2) == 0 { CommandKind::ApplyMember } else { CommandKind::ApplyObject };
                let generation = i64::try_from(draw(50)).expect("small");
                enqueue(&test.db, &NewCommand { kind, generation, ..command(host, member) }).await;
            }
            2 => delivered.extend(claim(&test.db, hosts[draw(2)], 2).await),
            3 if !delivered.is_empty() => {
                let recent = delivered.len() - 1 - draw(delivered.len().min(4));
                let report = success(&delivered[recent]);
                test.db.commands_report(&[report]).await.expect("report");
            }
            4 if !delivered.is_empty() => {
                let one = &delivered[draw(delivered.len())];
                let lost = Delivery { uid: one.uid, attempt: one.attempt };
                test.db.commands_take_back(&[lost]).await.expect("back");
            }
            _ => drop(test.db.commands_expire(5).await.expect("expire")),
        }
        let doubles = "select count(*) from (select from command where state = 'LEASED' group by member_id
                        having count(*) > 1) d";
        assert_eq!(test.count(doubles).await, 0);
        let mut tx = test.db.begin().await.expect("begin");
        let uids: Vec<_> = delivered.iter().map(|c| c.uid).collect();
        for row in commands_by_uid_tx(&mut tx, &uids).await.expect("read") {
            if let Some(before) = ended.get(&row.uid) {
                assert_eq!(*before, row.state, "a terminal state was left");
            } else if row.state.done() {
                ended.insert(row.uid, row.state);
            }
        }
    }
    let mut attempts: HashMap<CommandId, i32> = HashMap::new();
    for command in &delivered {
        let before = attempts.insert(command.uid, command.attempt).unwrap_or(0);
        assert_eq!(command.attempt, before + 1, "attempts count deliveries");
    }
    assert!(ended.len() > 20, "the history was worth it: {}", ended.len());
}
