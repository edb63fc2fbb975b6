//! Tries schedules, many at a time, and tells the first that breaks a rule with its story.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use clap::Parser;
use windlass_simulation::{
    Outcome, Story,
    plan::{Metadata, Plan},
    run,
};

/// Tries schedules of faults against the decisions of control plane and agents.
#[derive(Parser)]
struct Arguments {
    /// How many schedules.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Replay one seed and tell its story.
    #[arg(long)]
    seed: Option<u64>,
    /// Let the metadata lose changes too. Without a mark of its own incarnation that is not survived in every case.
    #[arg(long)]
    lose_rows: bool,
    /// How many breaches to look for before stopping.
    #[arg(long, default_value_t = 1)]
    breaches: usize,
}

impl Arguments {
    fn metadata(&self) -> Metadata {
        if self.lose_rows { Metadata::Forgetful } else { Metadata::Durable }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => replay(seed, arguments.metadata()),
        None => try_all(&arguments),
    }
}

fn replay(seed: u64, metadata: Metadata) -> ExitCode {
    println!("{:#?}", Plan::of(seed, metadata));
    let outcome = run(seed, metadata, Story::Kept);
    for line in &outcome.story {
        println!("{line}");
    }
    conclude(&outcome)
}

fn conclude(outcome: &Outcome) -> ExitCode {
    let Outcome { seed, breach, acknowledged, failovers, events, .. } = outcome;
    println!("seed {seed}: {acknowledged} commits acknowledged, {failovers} leaders, {events} events");
    match breach {
        None => ExitCode::SUCCESS,
        Some(breach) => {
            println!("seed {seed}: {} does not hold: {}", breach.rule, breach.what);
            ExitCode::FAILURE
        }
    }
}

fn try_all(arguments: &Arguments) -> ExitCode {
    let begun = Instant::now();
    let next = AtomicU64::new(arguments.from);
    let last = arguments.from + arguments.seeds;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let results: Vec<Outcome> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut outcomes = Vec::new();
                    let mut found = 0;
                    while found < arguments.breaches {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= last {
                            break;
                        }
                        let outcome = run(seed, arguments.metadata(), Story::Dropped);
                        found += usize::from(outcome.breach.is_some());
                        outcomes.push(outcome);
                    }
                    outcomes
                })
            })
            .collect();
        // A panic of a schedule is a bug of its own: let it be seen.
        workers.into_iter().flat_map(|worker| worker.join().expect("a schedule panicked; run it by --seed")).collect()
    });
    let sum = |of: fn(&Outcome) -> u64| results.iter().map(of).sum::<u64>();
    println!(
        "{} schedules, {} events, {} leaders, {} commits acknowledged in {:.1?}",
        results.len(),
        sum(|outcome| outcome.events),
        sum(|outcome| outcome.failovers as u64),
        sum(|outcome| outcome.acknowledged as u64),
        begun.elapsed()
    );
    let mut breaches: Vec<_> = results.iter().filter(|outcome| outcome.breach.is_some()).collect();
    breaches.sort_by_key(|outcome| outcome.seed);
    for outcome in &breaches {
        conclude(outcome);
    }
    if breaches.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("replay one by: cargo xtask sim --seed N");
    ExitCode::FAILURE
}
