//! The keeper on a real server.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use windlass_core::Reason;
use windlass_db::testing::TestDb;

use super::*;

const SOON: Duration = Duration::from_secs(10);

struct Node {
    ownership: Ownership,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn node(test: &TestDb, owner: &str, ttl: Duration) -> Node {
    let keeper = Keeper::new(test.db.clone(), LeaseConfig { ttl, ..LeaseConfig::orchestrator(owner) });
    let (ownership, shutdown) = (keeper.ownership(), CancellationToken::new());
    let stop = shutdown.clone();
    let task = tokio::spawn(async move { keeper.run(stop).await.expect("runs") });
    Node { ownership, shutdown, task }
}

async fn held(node: &mut Node) -> windlass_db::Guard {
    tokio::time::timeout(SOON, node.ownership.held()).await.expect("held soon")
}

#[tokio::test]
async fn a_node_that_stops_hands_over_without_waiting_for_the_expiry() {
    let test = TestDb::create().await;
    let ttl = Duration::from_secs(5);
    let mut first = node(&test, "a", ttl);
    let old = held(&mut first).await;
    let mut second = node(&test, "b", ttl);
    first.shutdown.cancel();
    first.task.await.expect("stops");
    assert_eq!(first.ownership.current(), None);
    let new = tokio::time::timeout(ttl, second.ownership.held()).await.expect("sooner than the expiry");
    assert!(new.epoch > old.epoch);
}

#[tokio::test]
async fn a_keeper_renews_its_term_beyond_the_ttl() {
    let test = TestDb::create().await;
    let ttl = Duration::from_millis(600);
    let mut node = node(&test, "a", ttl);
    let guard = held(&mut node).await;
    let later = async {
        for _ in 0..12 {
            tokio::time::sleep(ttl / 4).await;
        }
    };
    later.await;
    assert_eq!(held(&mut node).await, guard, "the same term");
}

#[tokio::test]
async fn a_node_that_lost_its_lease_knows_it_and_its_writes_are_refused() {
    let test = TestDb::create().await;
    let mut node = node(&test, "a", Duration::from_millis(900));
    let old = held(&mut node).await;
    let thief = async {
        loop {
            test.expire_lease("orchestrator").await;
            let taken = test.db.lease_acquire("orchestrator", "b", Duration::from_secs(60)).await.expect("acquire");
            if taken.is_some() {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, thief).await.expect("taken");
    let noticing = async {
        while node.ownership.current().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, noticing).await.expect("noticed");
    let refused = test.db.guarded(&old).await.expect_err("fenced");
    assert_eq!(refused.reason, Reason::Fenced);
}

#[tokio::test]
async fn without_the_database_a_node_stops_trusting_its_lease_in_time() {
    let test = TestDb::create().await;
    let ttl = Duration::from_millis(900);
    let mut node = node(&test, "a", ttl);
    held(&mut node).await;
    test.db.close().await;
    let noticing = async {
        while node.ownership.current().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(ttl, noticing).await.expect("before anybody else may take it");
}
