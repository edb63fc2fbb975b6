//! `cargo xtask sim`: schedules of faults against the decisions of control plane and agents, in virtual time.

use anyhow::Result;

use crate::workspace;

/// Try schedules of faults in virtual time, or replay one.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many schedules.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Replay one seed and tell its story.
    #[arg(long)]
    seed: Option<u64>,
    /// Let the metadata lose changes too.
    #[arg(long)]
    lose_rows: bool,
}

/// Runs the task.
///
/// # Errors
/// A rule does not hold; the output names the seed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut run = workspace::cargo(&["run", "--release", "--quiet", "--package", "windlass-simulation", "--"]);
    match arguments.seed {
        Some(seed) => run.args(["--seed", &seed.to_string()]),
        None => run.args(["--seeds", &arguments.seeds.to_string(), "--from", &arguments.from.to_string()]),
    };
    if arguments.lose_rows {
        run.arg("--lose-rows");
    }
    workspace::run(&mut run)
}
