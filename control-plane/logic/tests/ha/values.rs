//! The stored value, the tracker and the arithmetic of quorums.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use proptest::prelude::*;
use windlass_core::replication::{Durability, ReplicaState};
use windlass_logic::ha::{
    AckSet, Cluster, Downstream, Facts, Intent, Node, Observed, Patience, Stay, Tracker, orders,
    quorum::{covers, seals_needed},
    route,
};

use super::world::{World, id};

proptest! {
    /// A group covers sets exactly if nobody could release a commit without one of it.
    #[test]
    fn covering_means_that_no_commit_is_released_without_one_of_them(
        sets in proptest::collection::vec((proptest::collection::btree_set(0_usize..5, 0..=5), 0_u32..=3), 1..3),
        quorum in proptest::collection::btree_set(0_usize..5, 0..=5),
    ) {
        let sets: Vec<AckSet> = sets
            .into_iter()
            .map(|(members, needed)| {
                let members: BTreeSet<_> = members.into_iter().map(id).collect();
                let needed = if members.is_empty() { 0 } else { needed.clamp(1, members.len() as u32) };
                AckSet { rev: 1, members, needed }
            })
            .collect();
        let quorum: BTreeSet<_> = quorum.into_iter().map(id).collect();
        let met = sets.iter().all(|set| {
            (0_u32..32).all(|bits| {
                let group: BTreeSet<_> = (0..5).filter(|n| bits >> n & 1 == 1).map(id).collect();
                let releases = group.is_subset(&set.members) && group.len() >= set.needed as usize;
                !releases || group.intersection(&quorum).next().is_some()
            })
        });
        prop_assert_eq!(covers(&quorum, &sets), met, "{:?} of {:?}", quorum, sets);
    }
}

#[test]
fn seals_are_so_many_that_too_few_are_left_to_release_a_commit() {
    let set = |size, needed| AckSet { rev: 1, members: (0..size).map(id).collect(), needed };
    let needed = [set(1, 1), set(2, 1), set(2, 2), set(4, 2), set(3, 3)].map(|set| seals_needed(&set));
    assert_eq!(needed, [1, 2, 1, 3, 1]);
}

#[test]
fn a_value_of_an_older_version_is_read_with_defaults_and_unknown_fields_are_skipped() {
    let mut world = World::found(2, Durability::Availability, 0);
    world.settle();
    let mut json = serde_json::to_value(Cluster::clone(&world.cluster)).expect("json");
    let fields = json.as_object_mut().expect("an object");
    for field in ["step_rev", "previous", "replication", "intent", "outcome", "system", "failovers", "timeline"] {
        fields.remove(field);
    }
    fields.insert("of_tomorrow".to_owned(), 7.into());
    for member in fields["members"].as_object_mut().expect("members").values_mut() {
        let member = member.as_object_mut().expect("a member");
        for field in ["host_name", "kind", "priority", "stay", "clone_anew", "order_rev"] {
            member.remove(field);
        }
    }
    let read: Cluster = serde_json::from_value(json).expect("read");
    assert_eq!((read.reign, read.intent), (world.cluster.reign.clone(), Intent::None));
    assert!(read.members.values().all(|member| member.counts() && member.stay == Stay::Staying));
}

fn observe(tracker: &Tracker, now: u64) -> Observed {
    let now = Duration::from_secs(now);
    tracker.observe(now, Timestamp::UNIX_EPOCH, BTreeMap::new(), Vec::new(), Node::default())
}

#[test]
fn the_tracker_measures_since_when_things_are_as_they_are() {
    let mut world = World::found(3, Durability::Availability, 0);
    world.settle();
    let cluster = Cluster::clone(&world.cluster);
    let at = Duration::from_secs;
    let mut tracker = Tracker::default();
    let leader = |streaming: &[usize]| {
        let mut facts = world.facts(0);
        facts.downstream.retain(|down| streaming.iter().any(|node| id(*node) == down.member));
        facts
    };
    tracker.report(at(10), &cluster, id(0), leader(&[1, 2]));
    tracker.report(at(11), &cluster, id(0), leader(&[1]));
    tracker.report(at(14), &cluster, id(0), leader(&[1]));
    let observed = observe(&tracker, 15);
    assert_eq!(observed.links[&id(1)].away_for, None);
    assert_eq!(observed.links[&id(2)].away_for, Some(at(4)));
    let seen = &observed.members[&id(0)];
    assert_eq!((seen.age, seen.state_for, observed.step_for), (at(1), at(5), at(5)));
    // Back again, and in a new state.
    tracker.report(at(16), &cluster, id(0), leader(&[1, 2]));
    tracker.report(at(17), &cluster, id(0), Facts::of(ReplicaState::Crashed));
    let observed = observe(&tracker, 20);
    assert_eq!(observed.links[&id(2)].away_for, None);
    assert_eq!(observed.members[&id(0)].state_for, at(3));
    // Far behind is slow.
    let mut behind = leader(&[1, 2]);
    behind.flushed = 1 << 30;
    behind.downstream = vec![
        Downstream { flushed: 1 << 30, ..behind.downstream[0] },
        Downstream { flushed: 1 << 29, ..behind.downstream[1] },
    ];
    tracker.report(at(21), &cluster, id(0), behind.clone());
    let observed = observe(&tracker, 25);
    assert_eq!((observed.links[&id(1)].slow_for, observed.links[&id(2)].slow_for), (None, Some(at(4))));
    assert_eq!(observed.links[&id(2)].away_for, None, "something arrived there");
    // One that streams and where nothing arrives is away, from when it was first seen to lack something.
    tracker.report(at(23), &cluster, id(0), behind.clone());
    let observed = observe(&tracker, 25);
    assert_eq!((observed.links[&id(1)].away_for, observed.links[&id(2)].away_for), (None, Some(at(4))));
    behind.downstream[1].flushed += 1;
    tracker.report(at(24), &cluster, id(0), behind);
    assert_eq!(observe(&tracker, 25).links[&id(2)].away_for, None);
    // Another epoch is another leader, of whom nothing is known.
    let next = Cluster { epoch: 2, step_rev: 99, ..cluster };
    tracker.know(at(30), &next);
    let observed = observe(&tracker, 31);
    assert!(observed.links.is_empty());
    assert_eq!(observed.step_for, at(1));
}

#[test]
fn an_order_changes_its_rev_only_when_it_changes() {
    let mut world = World::found(3, Durability::Availability, 0);
    world.settle();
    let before = orders(&world.cluster);
    let operation = windlass_core::id::OperationId::new();
    let asked = world.cluster.switchover(operation, None, Patience::GiveUp).expect("may be asked");
    assert_eq!(orders(&asked), before, "an intent orders nothing");
    assert!(route(&asked).rev > route(&world.cluster).rev);
    let fewer = world.cluster.remove(id(2)).expect("a standby");
    assert_eq!(orders(&fewer), before, "it goes on acknowledging until it is out of the set");
    world.store(fewer);
    world.settle();
    let after = orders(&world.cluster);
    assert!(after[&id(0)].rev > before[&id(0)].rev && after[&id(2)].rev > before[&id(2)].rev);
    assert_eq!(after[&id(1)], before[&id(1)], "the other standby sees nothing new");
    let mut policy = world.cluster.replication.clone();
    policy.timings.fence_ms += 1;
    let fenced = orders(&world.cluster.with_policy(policy));
    assert!(fenced[&id(0)].rev > after[&id(0)].rev, "the primary has to hear of another time to shut itself");
    assert_eq!(fenced[&id(1)].rev, after[&id(1)].rev);
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let mut world = World::found(5, Durability::Availability, 0);
    world.settle();
    let cluster = &world.cluster;
    let operation = windlass_core::id::OperationId::new();
    let patience = Patience::GiveUp;
    for (error, words) in [
        (cluster.switchover(operation, Some(id(0)), patience).expect_err("leads"), "is the primary already"),
        (cluster.switchover(operation, Some(id(9)), patience).expect_err("unknown"), "is not a member"),
        (cluster.add(id(9), cluster.members[&id(1)].clone()).expect_err("full"), "which is the most"),
        (cluster.remove(id(0)).expect_err("leads"), "switchover first"),
        (cluster.forget(id(1)).expect_err("counts"), "still counts for commits"),
        (cluster.clone_anew(id(1)).expect_err("acknowledges"), "its data is needed"),
    ] {
        assert!(error.to_string().contains(words) || format!("{error:?}").contains(words), "{error:?}");
    }
    let asked = cluster.rest(operation).expect("may be asked");
    let other = windlass_core::id::OperationId::new();
    assert!(asked.switchover(other, None, patience).is_err(), "one after the other");
    assert_eq!(asked.withdraw(operation).intent, Intent::None);
}
