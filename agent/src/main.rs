//! The agent's binary: command line, log, runtime.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use secrecy::SecretString;
use windlass_agent::{
    app,
    cli::{Cli, Command, Settings, token_source},
    status,
};
use windlass_kit::{shutdown::Shutdown, telemetry};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command.unwrap_or(Command::Run) {
        Command::Run => run(&cli.settings),
        Command::Status => show_status(&cli.settings),
        Command::CheckConfig => check_config(&cli.settings),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("windlass-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> anyhow::Result<()> {
    let config = settings.load()?;
    telemetry::init(&config.log)?;
    let token = token_source(&config, std::env::var("WINDLASS_JOIN_TOKEN").ok().map(SecretString::from));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        app::run(config, token, shutdown).await
    });
    // A blocking call that hangs, for example on a dead disk, must not hold the process.
    runtime.shutdown_background();
    Ok(outcome?)
}

fn show_status(settings: &Settings) -> anyhow::Result<()> {
    print!("{}", status::describe(&settings.load()?.state_dir)?);
    Ok(())
}

fn check_config(settings: &Settings) -> anyhow::Result<()> {
    let config = settings.load()?;
    println!("ok: host {} of {}", config.name()?, config.endpoints.join(", "));
    Ok(())
}
