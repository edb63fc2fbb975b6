//! `cargo xtask test`: every test of the workspace against real databases.

use anyhow::Result;

use crate::database_user::DatabaseUser;
use crate::packages::{self, Consent};
use crate::scratch_postgres::ScratchPostgres;
use crate::workspace;

/// Install what is missing, build, and run every test against real databases.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Install missing Debian packages without asking.
    #[arg(long)]
    yes: bool,
    /// Passed on to cargo-nextest (or cargo test), for example `-E 'test(placement)'`.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Runs the task.
///
/// # Errors
/// A test failed, or something needed for them is missing.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    packages::ensure_with_clients(if arguments.yes { Consent::Given } else { Consent::Ask })?;
    DatabaseUser::ensure()?;
    // Building tests builds the programs of packages with integration tests only; the suites run all of them.
    workspace::run(&mut workspace::cargo(&["build", "--workspace", "--bins"]))?;
    let database = ScratchPostgres::start()?;
    let runner: &[&str] = if workspace::has_program("cargo-nextest") {
        &["nextest", "run", "--workspace", "--no-tests=pass"]
    } else {
        &["test", "--workspace"]
    };
    workspace::run(
        workspace::cargo(runner)
            .args(&arguments.rest)
            .env("DATABASE_URL", database.url())
            .env("WINDLASS_BIN_DIR", workspace::target().join("debug")),
    )
}
