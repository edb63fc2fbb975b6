//! The proxy's binary: command line, log, runtime.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use secrecy::SecretString;
use windlass_kit::{shutdown::Shutdown, telemetry};
use windlass_proxy::{
    app,
    cli::{Cli, Command, Settings, token_source},
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command.unwrap_or(Command::Run) {
        Command::Run => run(&cli.settings),
        Command::CheckConfig => check_config(&cli.settings),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("windlass-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> anyhow::Result<()> {
    let config = settings.load()?;
    telemetry::init(&config.log)?;
    let token = token_source(&config, std::env::var("WINDLASS_JOIN_TOKEN").ok().map(SecretString::from));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(async { app::run(config, token, Shutdown::new()).await });
    // Clients that did not leave in time, and blocking calls that hang, must not hold the process.
    runtime.shutdown_background();
    Ok(outcome?)
}

fn check_config(settings: &Settings) -> anyhow::Result<()> {
    let config = settings.load()?;
    println!("ok: proxy {} of {} on {}", config.name()?, config.endpoints.join(", "), config.listen);
    Ok(())
}
