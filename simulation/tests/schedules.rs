//! A short run of what `cargo xtask sim` runs long, and schedules that once broke a rule.

use std::time::Duration;

use windlass_core::replication::Durability;
use windlass_simulation::{
    Outcome, Story, Weather,
    plan::{Fault, Metadata, OnLeader, Plan},
    run, run_plan,
};

/// Schedules of the short run. Each takes some ten milliseconds, or ten times that without optimisation.
const SEEDS: u64 = 60;

fn holds(outcome: &Outcome) {
    let Outcome { seed, breach, .. } = outcome;
    if let Some(breach) = breach {
        panic!("seed {seed}: {} does not hold: {}; cargo xtask sim --seed {seed}", breach.rule, breach.what);
    }
}

/// Three members on a good network.
fn three(faults: Vec<(Duration, Fault)>) -> Plan {
    Plan {
        members: 3,
        asynchronous: 0,
        durability: Durability::Availability,
        witnesses: 2,
        nodes: 1,
        weather: Weather::FAIR,
        faults,
    }
}

#[test]
fn rules_hold_in_a_number_of_schedules() {
    for seed in 1..=SEEDS {
        holds(&run(seed, Metadata::Durable, Story::Dropped));
    }
}

#[test]
fn a_seed_always_tells_the_same_story() {
    let (one, other) = (run(7, Metadata::Durable, Story::Kept), run(7, Metadata::Durable, Story::Kept));
    assert!(one.story.len() > 20);
    assert_eq!(one.story, other.story);
}

#[test]
fn without_faults_nobody_is_replaced() {
    let bad = Weather { latency: (1, 200), lost: 200, doubled: 50, late: 0 };
    for (seed, weather) in [(1, Weather::FAIR), (2, bad), (3, bad), (4, bad)] {
        let outcome = run_plan(seed, Plan { weather, ..three(Vec::new()) }, Story::Dropped);
        holds(&outcome);
        assert_eq!(outcome.failovers, 0, "seed {seed}");
        assert!(outcome.acknowledged > 50, "seed {seed}: clients were served");
    }
}

#[test]
fn a_dead_host_is_replaced_within_three_seconds_without_loss() {
    let at = Duration::from_secs(10);
    let fault = Fault::OnLeader(OnLeader::KillHost, Duration::from_secs(20));
    for seed in 1..=10 {
        let outcome = run_plan(seed, three(vec![(at, fault.clone())]), Story::Kept);
        holds(&outcome);
        assert_eq!(outcome.failovers, 1, "seed {seed}");
        let promoted = outcome.story.iter().find(|line| line.contains("is promoted")).expect("a promotion");
        let when: f64 = promoted.trim_start().split(' ').next().and_then(|time| time.parse().ok()).expect("a time");
        assert!(when < 13.0, "seed {seed}: {promoted}");
    }
}

#[test]
fn a_control_plane_that_is_away_changes_nothing() {
    let at = Duration::from_secs(10);
    let faults =
        vec![(at, Fault::KillControl(0, Duration::from_secs(30))), (at, Fault::StopMetadata(Duration::from_secs(30)))];
    for seed in 1..=5 {
        let outcome = run_plan(seed, three(faults.clone()), Story::Dropped);
        holds(&outcome);
        assert_eq!(outcome.failovers, 0, "seed {seed}");
    }
}

#[test]
fn lost_rows_are_noticed_by_what_agents_know() {
    let at = Duration::from_secs(10);
    for (seed, changes) in (1..=12).zip([1, 2, 3].into_iter().cycle()) {
        let outcome = run_plan(seed, three(vec![(at, Fault::RollBack(changes))]), Story::Dropped);
        holds(&outcome);
    }
}

/// Each broke a rule once: who had to be sealed after rows were lost, a set that came back before it was ever left, a
/// member whose data was not trusted and still counted.
#[test]
fn what_was_found_once_stays_mended() {
    for seed in [57, 102, 174, 244, 311, 320, 394, 645] {
        holds(&run(seed, Metadata::Forgetful, Story::Dropped));
    }
    for seed in [29, 2456, 3617, 3650, 15_673, 17_825, 24_432, 26_660, 27_888] {
        holds(&run(seed, Metadata::Durable, Story::Dropped));
    }
}
