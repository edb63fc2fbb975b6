//! Many at once: quotas, capacities and ports hold, and nothing is counted twice.

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt as _, future::join_all, stream};
use windlass_core::{
    Reason,
    size::{GIB, Resources},
};

use crate::{
    app::instances::{self, CreateInstance},
    testbed::{Bed, ask, name},
};

/// Fewer than the pool has connections, so that only the rows are fought for.
const AT_ONCE: usize = 8;

/// `n` creates, [`AT_ONCE`] of them at a time.
async fn at_once(bed: &Bed, n: usize, make: impl Fn(usize) -> CreateInstance) -> Vec<Result<(), Reason>> {
    let tasks = (0..n).map(|i| {
        let (cx, caller, ask) = (Arc::clone(&bed.cx), bed.caller.clone(), make(i));
        tokio::spawn(async move {
            let mut tx = cx.db.begin().await.map_err(|error| error.reason)?;
            instances::create(&cx, &mut tx, &caller, ask).await.map_err(|error| error.reason)?;
            tx.commit().await.map_err(|error| error.reason)
        })
    });
    stream::iter(tasks).buffer_unordered(AT_ONCE).map(|joined| joined.expect("no panic")).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_of_seven_lets_seven_of_thirty_through() {
    let bed = Bed::new(3).await;
    bed.test.execute("update project set quota_instances = 7").await;
    let outcomes = at_once(&bed, 30, |i| ask(&format!("pg-{i}"))).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 7);
    assert!(outcomes.iter().all(|o| matches!(o, Ok(()) | Err(Reason::QuotaExceeded))), "{outcomes:?}");
    bed.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_take_what_they_have_room_for_and_each_port_once() {
    let bed = Bed::new(2).await;
    let size = Resources { memory_bytes: 2 * GIB, ..Resources::DEFAULT };
    let outcomes = at_once(&bed, 20, |i| CreateInstance { resources: size, ..ask(&format!("pg-{i}")) }).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 8, "two hosts of 8 GiB: {outcomes:?}");
    assert!(outcomes.iter().all(|o| matches!(o, Ok(()) | Err(Reason::NoHostFits))), "{outcomes:?}");
    assert_eq!(bed.count("select count(distinct (host_id, port)) from member").await, 8);
    bed.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_is_given_once() {
    let bed = Bed::new(2).await;
    let outcomes = at_once(&bed, 12, |_| ask("pg-1")).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1, "{outcomes:?}");
    assert!(outcomes.iter().all(|o| matches!(o, Ok(()) | Err(Reason::NameInUse))), "{outcomes:?}");
    bed.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_stops_wins_and_the_others_meet_a_busy_instance() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    let tasks = (0..8).map(|_| {
        let (cx, caller) = (Arc::clone(&bed.cx), bed.caller.clone());
        tokio::spawn(async move {
            let mut tx = cx.db.begin().await.map_err(|error| error.reason)?;
            let operation = instances::stop(&mut tx, &caller, &name("pg-1"), "").await.map_err(|e| e.reason)?;
            tx.commit().await.map_err(|error| error.reason)?;
            Ok::<_, Reason>(operation)
        })
    });
    let outcomes: Vec<_> = join_all(tasks).await.into_iter().map(|joined| joined.expect("no panic")).collect();
    let won: BTreeSet<_> = outcomes.iter().filter_map(|o| o.as_ref().ok()).collect();
    assert_eq!(won.len(), 1, "{outcomes:?}");
    assert!(outcomes.iter().all(|o| matches!(o, Ok(_) | Err(Reason::InstanceBusy))), "{outcomes:?}");
    let operation = **won.first().expect("one");
    bed.succeed(operation).await;
}
