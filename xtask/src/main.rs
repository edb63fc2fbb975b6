//! Everything a developer or CI runs: `cargo xtask <task>`. One file per task.
//!
//! Rules of the house: no async runtime (it must build in seconds), every process a task starts is ended by the task,
//! by its id, whatever happens; state lives under `target/` or a private directory of the system's temp directory.

mod bench;
mod database_user;
mod demo;
mod lint;
mod nemesis;
mod packages;
mod scratch_postgres;
mod sim;
mod soak;
mod sqlx;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Everything a developer or CI runs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Bring up a whole installation on this machine and stay until Ctrl-C.
    Demo(demo::Arguments),
    /// Install what is missing, build, and run every test against real databases.
    Test(test::Arguments),
    /// Format, clippy, module boundaries, drift of the stored SQL checks, dependency rules.
    Lint(lint::Arguments),
    /// Measure optimised builds and write docs/benchmarks.md.
    Bench(bench::Arguments),
    /// Kill control plane, agents and databases at random during a mixed workload, then check everything.
    Soak(soak::Arguments),
    /// Try every fault of the failure matrix on several hosts, and write docs/nemesis.md.
    Nemesis(nemesis::Arguments),
    /// Try schedules of faults against the decisions of control plane and agents, in virtual time.
    Sim(sim::Arguments),
    /// Write the stored SQL checks (.sqlx) anew from the migrations.
    SqlxPrepare,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Lint(arguments) => lint::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Soak(arguments) => soak::run(&arguments),
        Task::Nemesis(arguments) => nemesis::run(&arguments),
        Task::Sim(arguments) => sim::run(&arguments),
        Task::SqlxPrepare => sqlx::prepare(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
