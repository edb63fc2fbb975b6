//! `windlass`: the command with which people and scripts drive a Windlass installation.
//!
//! A thin client of the API: it parses, calls, waits and prints. Data goes to stdout, progress and errors to stderr.
//! Invariants: a secret is never an argument of a process that this one starts; a mutation carries one request id over
//! all its retries; every error ends in one exit code, decided in [`failure`].

mod api;
mod args;
mod commands;
mod config;
mod confirm;
mod connect;
mod context;
mod failure;
mod names;
mod output;
mod progress;
mod show;
mod suggest;
mod transport;
mod units;
mod wait;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{args::Cli, context::Context};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors; a closed pipe must not turn them into one.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(failure::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let Cli { global, command } = cli;
    let context = Context::new(global);
    runtime.block_on(async {
        match Box::pin(command.run(&context)).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                let hint = suggest::hint(&context, &failure).await;
                failure.print(hint.as_deref(), context.out.format());
                ExitCode::from(failure.exit_code())
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use crate::args::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
