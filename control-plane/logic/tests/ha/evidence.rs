//! The table of evidence, row by row: what is seen of a primary and what comes of it.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;
use windlass_core::{
    id::ProxyId,
    replication::{Durability, ReplicaState},
};
use windlass_logic::ha::{Cluster, Facts, Mode, Node, Observed, Phase, ProxySeen, decide, is_mass_silence};

use super::{
    belief::Belief,
    world::{World, host, id},
};

const S: fn(u64) -> Duration = Duration::from_secs;
const MS: fn(u64) -> Duration = Duration::from_millis;

/// A primary with two replicas, of which either suffices, and everybody is well.
fn scene() -> (Cluster, Observed) {
    let mut world = World::found(3, Durability::Availability, 1);
    world.settle();
    let observed = world.observed(Belief::Calm, Duration::ZERO);
    (Cluster::clone(&world.cluster), observed)
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Nothing,
    FailsOver,
    SetChanges,
    Waits(String),
}

fn outcome(cluster: &Cluster, observed: &Observed) -> Outcome {
    let decision = decide(cluster, observed, Uuid::nil());
    match decision.next {
        Some(next) if matches!(next.phase, Phase::Electing(_)) => Outcome::FailsOver,
        Some(_) => Outcome::SetChanges,
        None if decision.waits.is_empty() => Outcome::Nothing,
        None => Outcome::Waits(decision.waits.join("; ")),
    }
}

fn facts(observed: &mut Observed, node: usize) -> &mut Facts {
    &mut observed.members.get_mut(&id(node)).expect("known").facts
}

/// E1.
fn silent(observed: &mut Observed, node: usize, since: Duration) {
    observed.hosts.get_mut(&host(node)).expect("known").silent_for = since;
    observed.members.get_mut(&id(node)).expect("known").age = since;
}

/// E2.
fn cut(observed: &mut Observed, nodes: &[usize]) {
    for node in nodes {
        facts(observed, *node).upstream.as_mut().expect("follows").streaming = false;
    }
}

/// E3: so many of three witnesses have had no answer from the primary's host.
fn witnessed(observed: &mut Observed, silent: usize) {
    let host = observed.hosts.get_mut(&host(0)).expect("known");
    for witness in host.witnesses.iter_mut().take(silent) {
        witness.silent_for = Some(MS(1_400));
        witness.unanswered = 4;
    }
}

/// E4.
fn proxies(observed: &mut Observed, failing: usize, working: usize) {
    observed.proxies = (0..failing + working)
        .map(|n| ProxySeen {
            proxy: ProxyId(Uuid::from_u128(n as u128)),
            age: Duration::ZERO,
            paused_rev: None,
            connects_failed: u32::from(n < failing) * 3,
            connects_done: u32::from(n >= failing) * 3,
        })
        .collect();
}

/// E5.
fn crashed(observed: &mut Observed, redo: u64, crashes: u32) {
    let primary = facts(observed, 0);
    primary.state = ReplicaState::Crashed;
    primary.redo_bytes = redo;
    primary.crashes = crashes;
}

/// E1, E2 and E3 together.
fn dead(observed: &mut Observed) {
    silent(observed, 0, MS(1_600));
    cut(observed, &[1, 2]);
    witnessed(observed, 3);
}

const MIB: u64 = 1 << 20;

#[test]
fn each_row_of_the_table_gives_its_verdict() {
    type Row = (&'static str, fn(&mut Observed), Option<&'static str>);
    let rows: &[Row] = &[
        ("process dead, little to redo", |o| crashed(o, 10 * MIB, 1), Some("is restarted in place: 10 MiB to redo")),
        ("process dead, much to redo", |o| crashed(o, 600 * MIB, 1), None),
        ("process dead, second crash within a minute", |o| crashed(o, 0, 2), None),
        (
            "process dead and not up again",
            |o| {
                crashed(o, 0, 1);
                o.members.get_mut(&id(0)).expect("known").state_for = S(2);
            },
            None,
        ),
        (
            "process dead, much to redo, nobody to promote",
            |o| {
                crashed(o, 600 * MIB, 1);
                silent(o, 1, S(2));
                silent(o, 2, S(2));
            },
            Some("restarted in place: epoch 1: an acknowledged commit may be on"),
        ),
        ("a restart would not cure it", |o| facts(o, 0).must_not_restart = true, None),
        ("its data is not trusted", |o| facts(o, 0).state = ReplicaState::Quarantine, None),
        ("its data is gone", |o| facts(o, 0).state = ReplicaState::New, None),
        ("E1, E2, E3: host dead", dead, None),
        (
            "E1 not yet",
            |o| {
                dead(o);
                silent(o, 0, MS(1_400));
            },
            Some(""),
        ),
        (
            "E1, not E2: only the control plane lost it",
            |o| {
                silent(o, 0, S(60));
                witnessed(o, 3);
            },
            Some("its replicas still hear its server"),
        ),
        (
            "E1, one replica still hears it",
            |o| {
                dead(o);
                facts(o, 2).upstream.as_mut().expect("follows").streaming = true;
            },
            Some("its replicas still hear its server"),
        ),
        (
            "E1, E2 by silence of a connection that stands",
            |o| {
                silent(o, 0, MS(1_600));
                witnessed(o, 3);
                for node in [1, 2] {
                    facts(o, node).upstream.as_mut().expect("follows").silent_for = MS(1_000);
                }
            },
            None,
        ),
        (
            "E2, not E1: only replication lost it",
            |o| {
                cut(o, &[1, 2]);
                witnessed(o, 3);
            },
            Some(""),
        ),
        (
            "E1, E2, witnesses reach it",
            |o| {
                silent(o, 0, S(4));
                cut(o, &[1, 2]);
            },
            Some("witnesses still reach its agent"),
        ),
        (
            "the same for 5 s, clients fail too",
            |o| {
                silent(o, 0, S(5));
                cut(o, &[1, 2]);
                proxies(o, 2, 1);
            },
            None,
        ),
        (
            "the same, clients work",
            |o| {
                silent(o, 0, S(60));
                cut(o, &[1, 2]);
                proxies(o, 1, 2);
            },
            Some("witnesses still reach its agent"),
        ),
        (
            "a minority of witnesses",
            |o| {
                dead(o);
                o.hosts.get_mut(&host(0)).expect("known").witnesses[0].unanswered = 0;
                o.hosts.get_mut(&host(0)).expect("known").witnesses[1].unanswered = 2;
            },
            Some("witnesses still reach its agent"),
        ),
        (
            "witnesses that run late abstain",
            |o| {
                dead(o);
                for witness in &mut o.hosts.get_mut(&host(0)).expect("known").witnesses {
                    witness.late = true;
                }
            },
            Some("no witness can confirm it"),
        ),
        (
            "one that runs late does not outvote the others",
            |o| {
                silent(o, 0, MS(1_600));
                cut(o, &[1, 2]);
                witnessed(o, 1);
                o.hosts.get_mut(&host(0)).expect("known").witnesses[1].late = true;
                o.hosts.get_mut(&host(0)).expect("known").witnesses[2].late = true;
            },
            None,
        ),
        ("clients fail, its agent answers", |o| proxies(o, 2, 1), Some("its port may be blocked")),
        ("few clients fail", |o| proxies(o, 1, 2), Some("")),
        (
            "many agents fell silent",
            |o| {
                dead(o);
                o.node.mass_silence = Some(S(4));
            },
            Some("this node distrusts itself"),
        ),
        (
            "many agents fell silent long ago",
            |o| {
                dead(o);
                o.node.mass_silence = Some(S(5));
            },
            None,
        ),
        (
            "many agents fell silent, its own agent says it crashed",
            |o| {
                crashed(o, 0, 2);
                o.node.mass_silence = Some(S(1));
            },
            None,
        ),
        (
            "slow metadata",
            |o| {
                dead(o);
                o.node.meta_round_trip = MS(1_100);
            },
            Some("this node distrusts itself"),
        ),
        (
            "slow metadata, its own agent says it crashed",
            |o| {
                crashed(o, 0, 2);
                o.node.meta_round_trip = MS(1_100);
            },
            Some("this node distrusts itself"),
        ),
        (
            "this node has just started",
            |o| {
                dead(o);
                o.node = Node { full_round: false, ..Node::default() };
            },
            Some("has not heard a whole round"),
        ),
        (
            "this node has just started, its own agent says it crashed",
            |o| {
                crashed(o, 0, 2);
                o.node.full_round = false;
            },
            None,
        ),
        (
            "one replica is gone too",
            |o| {
                dead(o);
                silent(o, 1, S(2));
            },
            Some("an acknowledged commit may be on"),
        ),
        (
            "no replica answers",
            |o| {
                dead(o);
                silent(o, 1, S(2));
                silent(o, 2, S(2));
            },
            Some("no replica answers that could say more"),
        ),
    ];
    for (name, change, expected) in rows {
        let (cluster, mut observed) = scene();
        change(&mut observed);
        let got = outcome(&cluster, &observed);
        let right = match expected {
            None => got == Outcome::FailsOver,
            Some("") => got == Outcome::Nothing,
            Some(words) => matches!(&got, Outcome::Waits(why) if why.contains(words)),
        };
        assert!(right, "{name}: expected {expected:?}, got {got:?}");
    }
}

#[test]
fn a_replica_that_is_away_for_3_s_no_longer_holds_commits_up() {
    let (cluster, mut observed) = scene();
    observed.links.get_mut(&id(2)).expect("known").away_for = Some(MS(2_999));
    assert!(matches!(outcome(&cluster, &observed), Outcome::Waits(why) if why.contains("has not acknowledged")));
    observed.links.get_mut(&id(2)).expect("known").away_for = Some(S(3));
    let next = decide(&cluster, &observed, Uuid::nil()).next.expect("shrinks");
    assert_eq!(next.reign.ordered().members, [id(1)].into());
    assert_eq!(next.acks(), [id(1), id(2)].into(), "both are asked until the primary confirms");
    observed.links.get_mut(&id(1)).expect("known").away_for = Some(S(3));
    let next = decide(&cluster, &observed, Uuid::nil()).next.expect("goes alone");
    assert_eq!(next.mode(), Mode::Alone);
    assert!(next.candidates().is_empty());
}

#[test]
fn a_replica_whose_own_agent_says_that_it_is_down_is_given_half_a_second() {
    let (cluster, mut observed) = scene();
    facts(&mut observed, 2).state = ReplicaState::Crashed;
    observed.links.get_mut(&id(2)).expect("known").away_for = Some(MS(499));
    assert!(matches!(outcome(&cluster, &observed), Outcome::Waits(_)));
    observed.links.get_mut(&id(2)).expect("known").away_for = Some(MS(500));
    assert_eq!(outcome(&cluster, &observed), Outcome::SetChanges);
}

#[test]
fn a_replica_whose_host_is_silent_too_is_given_no_longer_than_a_dead_host() {
    let (cluster, mut observed) = scene();
    silent(&mut observed, 2, MS(1_500));
    observed.links.get_mut(&id(2)).expect("known").away_for = Some(MS(1_499));
    assert!(matches!(outcome(&cluster, &observed), Outcome::Waits(_)));
    observed.links.get_mut(&id(2)).expect("known").away_for = Some(MS(1_500));
    assert_eq!(outcome(&cluster, &observed), Outcome::SetChanges);
}

#[test]
fn a_slow_replica_is_let_go_only_if_another_keeps_up() {
    let (cluster, mut observed) = scene();
    observed.links.get_mut(&id(2)).expect("known").slow_for = Some(S(3));
    let next = decide(&cluster, &observed, Uuid::nil()).next.expect("shrinks");
    assert_eq!(next.reign.ordered().members, [id(1)].into());
    observed.links.get_mut(&id(1)).expect("known").slow_for = Some(S(3));
    assert_eq!(outcome(&cluster, &observed), Outcome::Nothing);
}

#[test]
fn a_primary_that_does_not_answer_is_not_told_to_go_alone() {
    let (cluster, mut observed) = scene();
    silent(&mut observed, 0, MS(1_600));
    for node in [1, 2] {
        observed.links.get_mut(&id(node)).expect("known").away_for = Some(S(60));
        silent(&mut observed, node, S(60));
    }
    assert!(matches!(outcome(&cluster, &observed), Outcome::Waits(_)));
}

#[test]
fn flapping_is_held_but_never_against_proof() {
    let (mut cluster, mut observed) = scene();
    observed.wall = Timestamp::from_second(1_000_000).expect("in range");
    let ago = |seconds: i64| Timestamp::from_second(1_000_000 - seconds).expect("in range");
    let (mut doubtful, mut proven) = (observed.clone(), observed);
    silent(&mut doubtful, 0, S(5));
    cut(&mut doubtful, &[1, 2]);
    dead(&mut proven);
    for (failovers, held) in [
        (vec![], false),
        (vec![ago(10), ago(20)], false),
        (vec![ago(10), ago(20), ago(599)], true),
        (vec![ago(10), ago(20), ago(601)], false),
    ] {
        cluster.failovers = failovers;
        let got = outcome(&cluster, &doubtful);
        assert_eq!(
            matches!(&got, Outcome::Waits(why) if why.contains("3 failovers within 10 minutes")),
            held,
            "{got:?}"
        );
        assert_eq!(outcome(&cluster, &proven), Outcome::FailsOver);
    }
    let next = decide(&cluster, &proven, Uuid::nil()).next.expect("fails over");
    assert_eq!(next.failovers, [ago(10), ago(20), ago(0)], "old ones are forgotten, this one is noted");
}

#[test]
fn the_detection_time_is_the_instance_s() {
    let (mut cluster, mut observed) = scene();
    dead(&mut observed);
    cluster.replication.timings.detect_ms = 5_000;
    assert_ne!(outcome(&cluster, &observed), Outcome::FailsOver);
    silent(&mut observed, 0, S(6));
    for node in [1, 2] {
        facts(&mut observed, node).upstream = None;
    }
    for witness in &mut observed.hosts.get_mut(&host(0)).expect("known").witnesses {
        witness.silent_for = Some(S(6));
    }
    assert_eq!(outcome(&cluster, &observed), Outcome::FailsOver);
}

#[test]
fn mass_silence_is_more_than_30_per_cent_but_not_one_or_two_hosts() {
    for (silent, agents, mass) in [
        (1, 1, false),
        (1, 2, false),
        (2, 2, true),
        (1, 3, false),
        (2, 3, false),
        (3, 3, true),
        (3, 10, false),
        (4, 10, true),
        (3, 9, true),
        (30, 100, false),
        (31, 100, true),
        (0, 0, false),
    ] {
        assert_eq!(is_mass_silence(silent, agents), mass, "{silent} of {agents}");
    }
}
