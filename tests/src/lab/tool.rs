//! The system's own tools, whose failure is an error with what they said.

use std::process::Command;

use anyhow::Result;

use crate::database;

/// Runs `ip` with these words.
pub(super) fn ip(words: &str) -> Result<()> {
    run("ip", words)
}

/// Runs a program with words that have no spaces of their own.
pub(super) fn run(program: &str, words: &str) -> Result<()> {
    database::output(Command::new(program).args(words.split_whitespace())).map(drop)
}

/// Runs a program in the network of a namespace.
pub(super) fn inside(namespace: &str, program: &str, words: &[&str]) -> Result<String> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg(program).args(words);
    database::output(&mut command)
}
