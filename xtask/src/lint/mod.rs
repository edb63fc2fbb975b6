//! `cargo xtask lint`: what every change must pass before its tests are worth running.

mod crates;
mod files;
mod layers;
mod source;

use anyhow::{Result, bail};

use crate::{sqlx, workspace};

/// Format, clippy, module boundaries, drift of the stored SQL checks, dependency rules.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only the checks that need no build: boundaries and sizes.
    #[arg(long)]
    quick: bool,
}

/// Runs the task.
///
/// # Errors
/// A rule is broken; each breach is one line naming file, rule and remedy.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut breaches = crates::check()?;
    let sources = source::all()?;
    breaches.extend(layers::check(&sources));
    breaches.extend(files::check(&sources));
    if !breaches.is_empty() {
        bail!("{} rules broken:\n  {}", breaches.len(), breaches.join("\n  "));
    }
    println!("boundaries: {} files keep the rules", sources.len());
    if arguments.quick {
        return Ok(());
    }
    workspace::run(&mut workspace::cargo(&["fmt", "--all", "--check"]))?;
    workspace::run(&mut workspace::cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    sqlx::check()?;
    if workspace::has_program("cargo-deny") {
        workspace::run(&mut workspace::cargo(&["deny", "check", "bans", "licenses", "sources"]))?;
    }
    Ok(())
}
