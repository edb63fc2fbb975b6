//! `windlass-control-plane`: runs a control plane, checks its configuration, makes keys on its machine.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use jiff::SignedDuration;
use secrecy::ExposeSecret as _;
use windlass_control_plane::{
    app::keys::KeyRequest,
    config::{Config, Overrides},
    local::{self, LocalKey},
    plane::Plane,
};
use windlass_core::role::Role;
use windlass_kit::{failpoint::Failpoints, shutdown::Shutdown, telemetry};

/// The Windlass control plane.
#[derive(Debug, Parser)]
#[command(name = "windlass-control-plane", version)]
struct Cli {
    /// Configuration file; every key has a default.
    #[arg(long, short, global = true, env = "WINDLASS_CONTROL_PLANE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run until SIGTERM or SIGINT.
    #[command(alias = "serve")]
    Run,
    /// Check the configuration and print what matters of it.
    CheckConfig,
    /// Work with API keys on this machine, without a key.
    Key {
        #[command(subcommand)]
        verb: KeyVerb,
    },
}

#[derive(Debug, Subcommand)]
enum KeyVerb {
    /// Make a key and print it; this is how the first one is made.
    Create(KeyArgs),
}

#[derive(Debug, Args)]
struct KeyArgs {
    /// viewer, operator or admin.
    #[arg(long, default_value = "admin")]
    role: Role,
    /// What the key is for.
    #[arg(long, default_value = "made on the control plane")]
    title: String,
    /// The one project that the key reaches; without it, the whole installation.
    #[arg(long)]
    project: Option<String>,
    /// How long the key lives, for example 12h; without it, for ever.
    #[arg(long)]
    ttl: Option<SignedDuration>,
}

fn main() -> ExitCode {
    match try_main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let config = Config::load(cli.config.as_deref(), &cli.overrides)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    match cli.verb {
        Verb::Run => {
            telemetry::init(&config.log)?;
            runtime.block_on(run(config, cli.config))
        }
        Verb::CheckConfig => {
            println!("{}", config.describe());
            Ok(())
        }
        Verb::Key { verb: KeyVerb::Create(args) } => {
            let request = KeyRequest { title: args.title, role: args.role, project: args.project, ttl: args.ttl };
            let LocalKey { row, key } = runtime.block_on(local::create_key(&config, request))?;
            eprintln!("made API key {} (role {}); it is shown this once:", row.prefix, row.role);
            println!("{}", key.text().expose_secret());
            Ok(())
        }
    }
}

async fn run(config: Config, file: Option<PathBuf>) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    let plane = Plane::start_with(config, Failpoints::from_env()?, shutdown).await?;
    if plane.db().api_key_count().await? == 0 {
        let option = file.map(|path| format!(" --config {}", path.display())).unwrap_or_default();
        tracing::warn!(
            "there is no API key yet; make the first one on this machine with: windlass-control-plane{option} key create --role admin --title first"
        );
    }
    plane.run().await?;
    Ok(())
}
