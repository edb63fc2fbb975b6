//! `cargo xtask demo`: a whole installation on this machine, from nothing, until Ctrl-C.
//!
//! Everything goes through the doors that users have: configuration files, join tokens, the command line, psql and
//! mariadb. Invariant: however it ends, no process and no directory of it stays; only its logs do.

mod available;
mod fleet;
mod interrupt;
mod place;
mod processes;

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::database_user::DatabaseUser;
use crate::packages::{self, Consent};
use crate::workspace;
use fleet::Fleet;
use interrupt::Interrupt;
use place::Place;

const ONLINE_LIMIT: Duration = Duration::from_secs(60);

/// Bring up a whole installation on this machine and stay until Ctrl-C.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Install missing Debian packages without asking.
    #[arg(long)]
    yes: bool,
    /// Verify that everything works, then tear it down.
    #[arg(long)]
    once: bool,
    /// How many agents to start.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    hosts: u16,
}

/// A database of the demo.
struct Example {
    instance: &'static str,
    engine: &'static str,
    /// Hosts beside the first that it needs, each for a replica.
    replicas: u16,
    /// Arguments of the native client for one query without decoration.
    query: &'static [&'static str],
}

const EXAMPLES: &[Example] = &[
    Example {
        instance: "pg-1",
        engine: "postgres",
        replicas: 0,
        query: &["-X", "-At", "-c", "select 'hello from PostgreSQL ' || current_setting('server_version')"],
    },
    Example {
        instance: "maria-1",
        engine: "mariadb",
        replicas: 0,
        query: &["-N", "-B", "-e", "select concat('hello from MariaDB ', version())"],
    },
    Example {
        instance: available::INSTANCE,
        engine: "postgres",
        replicas: 1,
        query: &["-X", "-At", "-c", "select 'hello from the primary of epoch ' || current_setting('windlass.epoch')"],
    },
];

/// Runs the task.
///
/// # Errors
/// Something does not come up; the message says what and ends with the log concerned.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    packages::ensure(if arguments.yes { Consent::Given } else { Consent::Ask })?;
    let user = DatabaseUser::ensure()?;
    workspace::run(&mut workspace::cargo(&["build", "--workspace", "--bins"]))?;
    let interrupt = Interrupt::install()?;
    let place = Place::make(user)?;
    let result = up(arguments, &place, user, &interrupt);
    let removed = place.remove();
    match result {
        // Ctrl-C is how a demo ends well once it stands.
        Ok(()) => removed,
        Err(error) => Err(error.context(format!("logs are in {}", place.front.display()))),
    }
}

fn up(arguments: &Arguments, place: &Place, user: DatabaseUser, interrupt: &Interrupt) -> Result<()> {
    say("starting the control plane");
    let mut fleet = Fleet::start(place, user, interrupt)?;
    say(&format!("enrolling {} hosts", arguments.hosts));
    for number in 1..=arguments.hosts {
        interrupt.check()?;
        fleet.add_host(number)?;
    }
    wait_online(&mut fleet, arguments.hosts, interrupt)?;
    say("enrolling a proxy");
    fleet.add_proxy()?;
    workspace::output(fleet.cli().args(["project", "create", "demo"]))?;
    let examples: Vec<&Example> = EXAMPLES.iter().filter(|example| example.replicas < arguments.hosts).collect();
    for example in &examples {
        interrupt.check()?;
        say(&format!("creating {}", example.instance));
        let replicas = example.replicas.to_string();
        let arguments = ["instance", "create", example.instance, "--engine", example.engine, "--wait"];
        let more: &[&str] = if example.replicas > 0 { &["--replicas", &replicas] } else { &[] };
        workspace::output(fleet.cli().args(arguments).args(more))?;
        let answer = ask(&fleet, example, interrupt)?;
        say(&format!("{} says: {}", example.instance, answer.trim()));
        if !answer.contains("hello from") {
            bail!("{} answered something else: {answer:?}", example.instance);
        }
    }
    write_env(place, &fleet)?;
    let replicated = examples.iter().find(|example| example.replicas > 0);
    if arguments.once {
        if let Some(example) = replicated {
            available::prove(&fleet, interrupt, || ask(&fleet, example, interrupt))?;
        }
    } else {
        invite(place, replicated.map(|_| available::invitation(&fleet)).transpose()?.unwrap_or_default());
        watch(&mut fleet, interrupt)?;
    }
    say("taking everything down");
    for example in &examples {
        workspace::output(fleet.cli().args(["instance", "delete", example.instance, "--purge", "--yes", "--wait"]))?;
    }
    fleet.stop()
}

/// The answer of a database, once its proxy knows the way.
fn ask(fleet: &Fleet<'_>, example: &Example, interrupt: &Interrupt) -> Result<String> {
    interrupt.wait_for("answer through the proxy", ONLINE_LIMIT, || {
        let answer = workspace::output(fleet.cli().args(["connect", example.instance, "--"]).args(example.query));
        Ok(answer.map_err(|error| error.to_string()))
    })
}

fn wait_online(fleet: &mut Fleet<'_>, hosts: u16, interrupt: &Interrupt) -> Result<()> {
    interrupt.wait_for("fleet of online hosts", ONLINE_LIMIT, || {
        fleet.check()?;
        let text = match workspace::output(fleet.cli().args(["host", "list", "-o", "json"])) {
            Ok(text) => text,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let online = text.matches("\"ONLINE\"").count();
        Ok(if online == usize::from(hosts) { Ok(()) } else { Err(format!("{online} of {hosts} are online")) })
    })
}

/// The file that other shells read. It holds a key.
fn write_env(place: &Place, fleet: &Fleet<'_>) -> Result<()> {
    let exports = fleet.environment().into_iter().map(|(name, value)| format!("export {name}='{value}'\n"));
    let path = format!("export PATH='{}':\"$PATH\"\n", fleet.programs().display());
    fleet::write_secret(&place.front.join("env"), &(exports.collect::<String>() + &path))
}

fn invite(place: &Place, more: String) {
    let env = place.front.join("env");
    let env = env.strip_prefix(workspace::root()).unwrap_or(&env).display().to_string();
    println!(
        "\nIt stands. In another shell:\n\n  . {env}\n  windlass instance list\n  windlass connect pg-1\n  \
         windlass instance create pg-2 --engine postgres --memory 512MiB\n  windlass instance explain pg-2\n  \
         windlass param set pg-1 work_mem=16MB\n  windlass host list\n\nKill a database or an agent and watch it come \
         back.\n{more}\nCtrl-C takes everything down.\n"
    );
}

/// A line on the terminal that is kept true until Ctrl-C.
fn watch(fleet: &mut Fleet<'_>, interrupt: &Interrupt) -> Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let mut last = String::new();
    while !interrupt.came() {
        fleet.check()?;
        let now = status(fleet).unwrap_or_else(|error| format!("no answer: {error:#}"));
        if terminal {
            print!("\r\x1b[2K{now}");
            std::io::stdout().flush()?;
        } else if now != last {
            println!("{now}");
        }
        last = now;
        for _ in 0..20 {
            if interrupt.came() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    println!();
    Ok(())
}

fn status(fleet: &Fleet<'_>) -> Result<String> {
    let list = |noun: &str| -> Result<String> { workspace::output(fleet.cli().args([noun, "list", "-o", "json"])) };
    let hosts = list("host")?;
    let instances: serde_json::Value = serde_json::from_str(&list("instance")?).context("instance list")?;
    let rows = instances.get("instances").unwrap_or(&instances).as_array().cloned().unwrap_or_default();
    let word = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or("?").to_owned();
    let each = rows.iter().map(|row| {
        let name = word(row, "name");
        let name = name.rsplit('/').next().unwrap_or("?");
        format!("{name} {} {}{}", word(row, "state"), word(row, "health"), available::status(row))
    });
    Ok(format!("{} hosts online | {}", hosts.matches("\"ONLINE\"").count(), each.collect::<Vec<_>>().join(" | ")))
}

fn say(text: &str) {
    println!("==> {text}");
}
