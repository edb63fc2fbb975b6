//! `cargo xtask soak`: the long form of the random-kill suite.

use anyhow::Result;

use crate::database_user::DatabaseUser;
use crate::packages::{self, Consent};
use crate::scratch_postgres::ScratchPostgres;
use crate::workspace;

/// Kill control plane, agents and databases at random during a mixed workload, then check everything.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many kills.
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// What decides the choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the task.
///
/// # Errors
/// Something does not hold; the message says what and where the logs are.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    packages::ensure(Consent::Ask)?;
    DatabaseUser::ensure()?;
    workspace::run(&mut workspace::cargo(&["build", "--workspace", "--bins"]))?;
    let database = ScratchPostgres::start()?;
    workspace::run(
        workspace::cargo(&["run", "--package", "windlass-tests", "--example", "soak", "--"])
            .args([arguments.kills.to_string(), arguments.seed.to_string()])
            .env("DATABASE_URL", database.url())
            .env("WINDLASS_BIN_DIR", workspace::target().join("debug")),
    )
}
