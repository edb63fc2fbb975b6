//! `cargo xtask nemesis`: the long form of the suite of faults, and `docs/nemesis.md` from its results.
//!
//! Every round's result rests under `target/nemesis`, so that runs add up and the page can be made of all of them.

mod page;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::database_user::DatabaseUser;
use crate::packages::{self, Consent};
use crate::workspace;

/// Try every fault of the failure matrix on an installation of several hosts, and write docs/nemesis.md.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many rounds; 0 only writes the page of those that were.
    #[arg(long, visible_alias = "runs", default_value_t = 200)]
    rounds: usize,
    /// What decides the order and the choices in rounds.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of a fault; may be repeated. All if none is named.
    #[arg(long)]
    fault: Vec<String>,
    /// Clients go past the proxies.
    #[arg(long)]
    direct: bool,
    /// Forget the results of earlier runs.
    #[arg(long)]
    fresh: bool,
}

/// What became of a round.
#[derive(Deserialize, Serialize)]
struct Outcome {
    fault: String,
    name: String,
    seed: u64,
    gap_ms: f64,
    acknowledged: u64,
    epochs: u64,
    whole_ms: f64,
    failures: Vec<String>,
}

/// Runs the task.
///
/// # Errors
/// A round failed; the message names it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    packages::ensure(Consent::Ask)?;
    DatabaseUser::ensure()?;
    if arguments.rounds > 0 {
        workspace::run(&mut workspace::cargo(&["build", "--workspace", "--bins"]))?;
        workspace::run(&mut workspace::cargo(&["build", "--package", "windlass-tests", "--example", "nemesis"]))?;
    }
    let directory = workspace::target().join("nemesis");
    std::fs::create_dir_all(&directory)?;
    let file = directory.join("rounds.jsonl");
    if arguments.fresh && file.exists() {
        std::fs::remove_file(&file)?;
    }
    let mut results = std::fs::File::options().create(true).append(true).open(&file)?;
    let way = if arguments.direct { "direct" } else { "proxies" };
    let (mut done, mut failed, mut seed) = (0, 0, arguments.seed);
    let begin = Instant::now();
    // A round that leaves ruins ends its installation; the rest is done on a new one.
    while done < arguments.rounds {
        let before = done;
        let mut driver = std::process::Command::new(workspace::target().join("debug/examples/nemesis"))
            .current_dir(workspace::root())
            .args([(arguments.rounds - done).to_string(), seed.to_string(), way.to_owned()])
            .args(&arguments.fault)
            .env("WINDLASS_BIN_DIR", workspace::target().join("debug"))
            .stdout(Stdio::piped())
            .spawn()?;
        let output = driver.stdout.take().context("output of the rounds")?;
        for line in BufReader::new(output).lines() {
            let line = line?;
            let Ok(outcome) = serde_json::from_str::<Outcome>(&line) else { continue };
            writeln!(results, "{line}")?;
            done += 1;
            failed += usize::from(!outcome.failures.is_empty());
            tell(&outcome, done, begin.elapsed());
        }
        let status = driver.wait()?;
        if done == before {
            bail!("no round was done: {status}");
        }
        seed += 1;
    }
    std::fs::write(workspace::root().join("docs/nemesis.md"), page::render(&file)?)?;
    println!("{done} rounds, {failed} with failures; docs/nemesis.md is written");
    if failed > 0 { bail!("{failed} of {done} rounds failed") } else { Ok(()) }
}

fn tell(outcome: &Outcome, done: usize, elapsed: Duration) {
    let verdict = if outcome.failures.is_empty() { "ok" } else { "FAILED" };
    println!(
        "{done:4} {:6.0} s  {verdict:6} {:4} {}: {:.0} ms without an ack, {} epochs, whole after {:.1} s (seed {})",
        elapsed.as_secs_f64(),
        outcome.fault,
        outcome.name,
        outcome.gap_ms,
        outcome.epochs,
        outcome.whole_ms / 1000.0,
        outcome.seed
    );
    for failure in &outcome.failures {
        println!("       {failure}");
    }
}
