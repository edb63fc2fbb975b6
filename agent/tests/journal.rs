//! The journal's promises: whatever is done to it and wherever a crash cuts it, what was answered stays true.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use windlass_agent::journal::{Acceptance, FileStorage, Journal, MemoryStorage, Storage};
use windlass_core::Reason;
use windlass_proto::agent::v1::{self as pb, command_result::Outcome};

fn command(uid: &str, attempt: u32, instance: &str, epoch: u64) -> pb::Command {
    pb::Command {
        uid: uid.to_owned(),
        attempt,
        epoch,
        instance_id: instance.to_owned(),
        member_id: "m".to_owned(),
        body: Some(pb::command::Body::PurgeMember(pb::PurgeMember {})),
        ..pb::Command::default()
    }
}

fn done(problem: &str) -> Outcome {
    Outcome::Succeeded(pb::MemberFacts { problem: problem.to_owned(), ..pb::MemberFacts::default() })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(future)
}

#[tokio::test]
async fn a_command_is_new_once_and_its_result_stays_until_it_is_forgotten() {
    let disk = MemoryStorage::default();
    let journal = Journal::open(disk.clone()).expect("opens");
    let first = command("a", 1, "i", 5);
    assert_eq!(journal.accept(&first).await.expect("accepts"), Acceptance::New);
    assert_eq!(journal.accept(&command("a", 2, "i", 5)).await.expect("known"), Acceptance::Running);
    assert_eq!(journal.accept(&first).await.expect("a late delivery of attempt 1"), Acceptance::Running);
    let result = journal.finish("a", done("x")).await;
    assert_eq!(result.attempt, 2, "a result carries the latest attempt");
    let repeat = journal.accept(&command("a", 3, "i", 5)).await.expect("known");
    assert_eq!(repeat, Acceptance::Finished(Box::new(pb::CommandResult { attempt: 3, ..result.clone() })));

    let journal = Journal::open(disk.clone()).expect("opens again");
    assert_eq!(journal.results(), [result]);
    assert!(journal.unfinished().is_empty());
    journal.forget(&["a".to_owned(), "never seen".to_owned()]);
    assert!(journal.results().is_empty());
    journal.accept(&command("b", 1, "i", 5)).await.expect("accepts");
    let journal = Journal::open(disk).expect("opens a third time");
    assert!(journal.results().is_empty(), "the forgetting went to disk with the next record");
    assert_eq!(journal.unfinished().len(), 1);
}

#[tokio::test]
async fn a_lower_epoch_is_refused_also_after_a_restart_but_a_known_uid_is_answered() {
    let disk = MemoryStorage::default();
    let journal = Journal::open(disk.clone()).expect("opens");
    journal.accept(&command("old", 1, "i", 6)).await.expect("accepts");
    journal.accept(&command("new", 1, "i", 7)).await.expect("accepts");
    let journal = Journal::open(disk).expect("opens again");
    assert_eq!(journal.accept(&command("x", 1, "i", 6)).await.expect("decides"), Acceptance::Fenced { seen: 7 });
    assert_eq!(journal.accept(&command("old", 2, "i", 6)).await.expect("decides"), Acceptance::Running);
    assert_eq!(journal.accept(&command("y", 1, "other", 1)).await.expect("decides"), Acceptance::New);
}

#[tokio::test]
async fn a_full_disk_refuses_commands_and_room_heals_it() {
    let disk = MemoryStorage::default();
    let journal = Journal::open(disk.clone()).expect("opens");
    journal.accept(&command("a", 1, "i", 1)).await.expect("accepts");
    disk.limit(Some(10));
    let error = journal.accept(&command("b", 1, "i", 1)).await.expect_err("no room");
    assert_eq!(error.reason, Reason::DiskFull, "{error}");
    // The result counts although it could not be written.
    journal.finish("a", done("x")).await;
    assert_eq!(journal.results().len(), 1);
    let copy = Journal::open(MemoryStorage::new(disk.bytes())).expect("opens");
    assert_eq!(copy.unfinished().len(), 1, "a crash now would carry it out again");
    let error = journal.accept(&command("b", 1, "i", 1)).await.expect_err("still no room");
    assert_eq!(error.reason, Reason::DiskFull, "{error}");

    disk.limit(None);
    assert_eq!(journal.accept(&command("b", 1, "i", 1)).await.expect("room"), Acceptance::New);
    let reopened = Journal::open(disk).expect("opens");
    assert_eq!(reopened.results().len(), 1, "what could not be written before is there now");
    assert_eq!(reopened.unfinished().len(), 1);
}

#[tokio::test]
async fn many_at_once_share_their_writes_and_none_is_lost() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("journal");
    let journal = Journal::open(FileStorage::new(&path)).expect("opens");
    let commands: Vec<_> = (0..64).map(|n| command(&n.to_string(), 1, "i", 1)).collect();
    let accepted = futures::future::join_all(commands.iter().map(|c| journal.accept(c))).await;
    assert!(accepted.into_iter().all(|a| a.expect("accepts") == Acceptance::New));
    let unfinished = Journal::open(FileStorage::new(&path)).expect("opens").unfinished();
    let order: Vec<_> = unfinished.into_iter().map(|(command, _)| command).collect();
    assert_eq!(order, commands, "in the order of their acceptance");
}

#[tokio::test]
async fn a_journal_of_forgotten_commands_stays_small() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("journal");
    let journal = Journal::open(FileStorage::new(&path)).expect("opens");
    for n in 0..500 {
        let uid = n.to_string();
        journal.accept(&command(&uid, 1, "i", 1)).await.expect("accepts");
        journal.finish(&uid, done(&"x".repeat(1000))).await;
        journal.forget(&[uid]);
    }
    let size = std::fs::metadata(&path).expect("exists").len();
    assert!(size < 80 << 10, "{size} bytes for 500 forgotten commands");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("exists").permissions());
    assert_eq!(mode & 0o777, 0o600, "commands hold password verifiers");
}

#[tokio::test]
async fn starts_with_a_command_unfinished_are_counted_also_through_a_compaction() {
    let disk = MemoryStorage::default();
    Journal::open(disk.clone()).expect("opens").accept(&command("a", 1, "i", 1)).await.expect("accepts");
    for start in 1..=3 {
        let journal = Journal::open(disk.clone()).expect("opens");
        assert_eq!(journal.unfinished()[0].1, start);
        // Enough for a rewrite.
        for n in 0..100 {
            let uid = format!("{start}-{n}");
            journal.accept(&command(&uid, 1, "i", 1)).await.expect("accepts");
            journal.finish(&uid, done(&"x".repeat(1000))).await;
            journal.forget(&[uid]);
        }
    }
    assert!(disk.bytes().len() < 100_000, "it was rewritten");
}

#[test]
fn something_else_at_its_place_is_refused_and_left_alone() {
    let mut disk = MemoryStorage::new(b"a text that is no journal".to_vec());
    let error = Journal::open(disk.clone()).map(drop).expect_err("not a journal");
    assert!(error.message.contains("another program"), "{error}");
    assert_eq!(disk.load().expect("reads"), b"a text that is no journal");
}

#[derive(Debug, Clone)]
enum Op {
    Accept(u8, u64),
    Finish(u8),
    Forget(u8),
    Reopen,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (0u8..12, 0u64..4).prop_map(|(uid, epoch)| Op::Accept(uid, epoch)),
        3 => (0u8..12).prop_map(Op::Finish),
        2 => (0u8..12).prop_map(Op::Forget),
        1 => Just(Op::Reopen),
    ];
    prop::collection::vec(op, 1..40)
}

/// What a reader of the answers must be able to rely on.
#[derive(Debug, Clone, Default)]
struct Promised {
    running: BTreeSet<String>,
    finished: BTreeMap<String, pb::CommandResult>,
    forgotten: BTreeSet<String>,
    epoch: u64,
}

/// Runs the operations; gives the final bytes and, for each length the journal had, what was promised by then.
async fn run(ops: &[Op]) -> (Vec<u8>, Vec<(usize, Promised)>) {
    let disk = MemoryStorage::default();
    let mut journal = Journal::open(disk.clone()).expect("opens");
    let mut promised = Promised::default();
    let mut history = vec![(disk.bytes().len(), promised.clone())];
    for (n, op) in ops.iter().enumerate() {
        match op {
            Op::Accept(uid, epoch) => {
                let uid = uid.to_string();
                if promised.forgotten.contains(&uid) {
                    continue;
                }
                match journal.accept(&command(&uid, 1, "i", *epoch)).await.expect("accepts") {
                    Acceptance::New => {
                        assert!(*epoch >= promised.epoch);
                        promised.epoch = *epoch;
                        assert!(promised.running.insert(uid.clone()) && !promised.finished.contains_key(&uid));
                    }
                    Acceptance::Running => assert!(promised.running.contains(&uid)),
                    Acceptance::Finished(result) => assert_eq!(promised.finished.get(&uid), Some(&*result)),
                    Acceptance::Fenced { seen } => assert!(seen == promised.epoch && *epoch < seen),
                }
            }
            Op::Finish(uid) => {
                let uid = uid.to_string();
                if promised.running.remove(&uid) {
                    let result = journal.finish(&uid, done(&format!("result {n}"))).await;
                    promised.finished.insert(uid, result);
                }
            }
            Op::Forget(uid) => {
                let uid = uid.to_string();
                if promised.finished.remove(&uid).is_some() {
                    journal.forget(std::slice::from_ref(&uid));
                    promised.forgotten.insert(uid);
                }
            }
            Op::Reopen => {
                journal = Journal::open(disk.clone()).expect("opens again");
                // Forgetting is lazy: what came back is reported and forgotten once more.
                let again: Vec<_> = journal.results().into_iter().map(|r| r.uid).collect();
                journal.forget(&again.into_iter().filter(|uid| promised.forgotten.contains(uid)).collect::<Vec<_>>());
            }
        }
        history.push((disk.bytes().len(), promised.clone()));
    }
    (disk.bytes(), history)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_crash_at_any_byte_keeps_what_was_promised(ops in ops(), cut in 0.0f64..=1.0, rubbish in prop::collection::vec(any::<u8>(), 0..40)) {
        block_on(async {
            let (bytes, history) = run(&ops).await;
            let cut = (bytes.len() as f64 * cut) as usize;
            let mut torn = bytes[..cut].to_vec();
            // What lies behind a torn write can be anything, but not a part of the true continuation.
            if cut < bytes.len() && cut > 8 {
                torn.extend(rubbish.iter().map(|b| b ^ bytes[cut]).filter(|b| *b != bytes[cut]));
            }
            let Some((_, promised)) = history.iter().rev().find(|(length, _)| *length <= cut) else {
                return Ok(()); // Not even the header was promised: the file is made by a rename.
            };
            let disk = MemoryStorage::new(torn);
            let journal = Journal::open(disk.clone()).expect("opens after any cut");
            let unfinished: BTreeSet<_> = journal.unfinished().into_iter().map(|(c, _)| c.uid).collect();
            let results: BTreeMap<_, _> = journal.results().into_iter().map(|r| (r.uid.clone(), r)).collect();
            for uid in &promised.running {
                prop_assert!(unfinished.contains(uid) || results.contains_key(uid), "{uid} is lost");
            }
            for (uid, result) in &promised.finished {
                prop_assert!(!unfinished.contains(uid), "{uid} would be carried out twice");
                if let Some(stored) = results.get(uid) {
                    prop_assert_eq!(stored, result);
                }
            }
            for uid in &promised.forgotten {
                prop_assert!(!unfinished.contains(uid), "{uid} would be carried out twice");
            }
            if promised.epoch > 0 {
                let fenced = journal.accept(&command("fresh", 1, "i", promised.epoch - 1)).await.expect("decides");
                prop_assert!(matches!(fenced, Acceptance::Fenced { .. }), "{fenced:?}");
            }
            // It is whole again: a command more is accepted and found.
            journal.accept(&command("more", 1, "j", 1)).await.expect("accepts");
            let again = Journal::open(disk).expect("opens once more");
            prop_assert!(again.unfinished().iter().any(|(c, _)| c.uid == "more"));
            Ok(())
        })?;
    }
}
