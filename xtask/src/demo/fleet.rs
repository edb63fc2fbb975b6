//! The fleet of the demo: one control plane, its agents and a proxy, as real programs with configuration files like anyone's.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::interrupt::Interrupt;
use super::place::Place;
use super::processes::{self, Process};
use crate::database_user::{self, DatabaseUser};
use crate::workspace;

const ONLINE_LIMIT: Duration = Duration::from_secs(60);
/// Ports per host for its databases.
const PORTS: u16 = 100;

/// What runs, in the order of starting.
pub(crate) struct Fleet<'a> {
    place: &'a Place,
    user: DatabaseUser,
    programs: PathBuf,
    endpoint: String,
    key: String,
    processes: Vec<Process>,
}

impl<'a> Fleet<'a> {
    /// Starts the control plane and makes the first key.
    ///
    /// # Errors
    /// It does not come up; the message ends with its log.
    pub(crate) fn start(place: &'a Place, user: DatabaseUser, interrupt: &Interrupt) -> Result<Self> {
        let port = free_port()?;
        let directory = place.directory("control-plane")?;
        let config = directory.join("control-plane.toml");
        let run_as = run_as(user);
        let run_as = run_as.map(|name| format!("[metadata]\nrun_as = \"{name}\"\n")).unwrap_or_default();
        let state = directory.join("state");
        let text = format!("state_dir = {state:?}\nlisten = \"127.0.0.1:{port}\"\n{run_as}");
        std::fs::write(&config, text)?;
        let mut fleet = Self {
            place,
            user,
            programs: workspace::target().join("debug"),
            endpoint: format!("https://localhost:{port}"),
            key: String::new(),
            processes: Vec::new(),
        };
        let mut command = fleet.program("windlass-control-plane");
        command.arg("--config").arg(&config).arg("serve");
        fleet.run("control-plane", command)?;
        // Only a control plane that listens holds its state directory for sure.
        interrupt.wait_for("listening control plane", ONLINE_LIMIT, || {
            fleet.check()?;
            Ok(TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string()))
        })?;
        let mut create = fleet.program("windlass-control-plane");
        create.arg("--config").arg(&config).args(["key", "create", "--role", "admin", "--title", "demo"]);
        fleet.key = interrupt.wait_for("admin key", ONLINE_LIMIT, || {
            fleet.check()?;
            Ok(workspace::output(&mut create).map_err(|error| error.to_string()))
        })?;
        fleet.key = fleet.key.trim().to_owned();
        Ok(fleet)
    }

    /// Starts an agent that enrols by a fresh join token.
    ///
    /// # Errors
    /// No token, or the program cannot be started.
    pub(crate) fn add_host(&mut self, number: u16) -> Result<()> {
        let name = format!("host-{number}");
        let token = workspace::output(self.cli().args(["host", "token", "create", "--name", &name, "-o", "name"]))?;
        let directory = self.place.directory(&name)?;
        let config = directory.join("agent.toml");
        let low = 20_000 + number * PORTS;
        let run_as = run_as(self.user).map(|name| format!("run_as = \"{name}\"\n")).unwrap_or_default();
        let token_file = directory.join("join-token");
        write_secret(&token_file, &token)?;
        // Run by systemd the databases would outlive a killed demo; directly they are found by their pid files.
        let text = format!(
            "state_dir = {:?}\nrun_dir = {:?}\nendpoints = [{:?}]\nhost_name = {name:?}\njoin_token_file = {:?}\n\
             address = \"127.0.0.1\"\nport_low = {low}\nport_high = {}\nprocess_host = \"direct\"\n{run_as}",
            directory.join("state"),
            directory.join("run"),
            self.endpoint,
            token_file,
            low + PORTS - 1,
        );
        std::fs::write(&config, text)?;
        let mut command = self.program("windlass-agent");
        command.arg("--config").arg(&config);
        self.run(&name, command)
    }

    /// Starts a proxy that enrols by a fresh join token. Clients of its instances are led to it from then on.
    ///
    /// # Errors
    /// No token, or the program cannot be started.
    pub(crate) fn add_proxy(&mut self) -> Result<()> {
        let name = "proxy-1";
        let token = workspace::output(self.cli().args(["proxy", "token", "create", "--name", name, "-o", "name"]))?;
        let directory = self.place.directory(name)?;
        let config = directory.join("proxy.toml");
        let token_file = directory.join("join-token");
        write_secret(&token_file, &token)?;
        let text = format!(
            "state_dir = {:?}\nendpoints = [{:?}]\nproxy_name = {name:?}\njoin_token_file = {:?}\n\
             listen = \"127.0.0.1:{}\"\n",
            directory.join("state"),
            self.endpoint,
            token_file,
            free_port()?,
        );
        std::fs::write(&config, text)?;
        let mut command = self.program("windlass-proxy");
        command.arg("--config").arg(&config);
        self.run(name, command)
    }

    /// Fails if a program ended by itself.
    ///
    /// # Errors
    /// One ended; the message ends with its log.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::check)
    }

    /// The command line as a user of the demo has it.
    pub(crate) fn cli(&self) -> Command {
        let mut command = self.program("windlass");
        command.envs(self.environment());
        command
    }

    /// What `target/demo/env` exports, but the PATH.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("WINDLASS_ENDPOINT", self.endpoint.clone()),
            ("WINDLASS_TOKEN", self.key.clone()),
            ("WINDLASS_CA", self.place.state.join("control-plane/state/ca.pem").to_string_lossy().into_owned()),
            ("WINDLASS_PROJECT", "demo".to_owned()),
        ]
    }

    /// Where the programs are.
    pub(crate) fn programs(&self) -> &Path {
        &self.programs
    }

    /// Stops everything: agents first, so that they restart no database, then databases, then the control plane.
    ///
    /// # Errors
    /// Something does not end; the rest is stopped nevertheless.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let mut result = Ok(());
        while self.processes.len() > 1 {
            let agent = self.processes.pop();
            result = result.and(agent.map_or(Ok(()), |mut agent| agent.stop()));
        }
        let hosts = std::fs::read_dir(&self.place.state).into_iter().flatten().flatten();
        for host in hosts.filter(|entry| entry.file_name().to_string_lossy().starts_with("host-")) {
            result = result.and(processes::stop_databases(&host.path()));
        }
        for mut control_plane in self.processes.drain(..) {
            result = result.and(control_plane.stop());
        }
        result.and(processes::stop_recorded(&self.place.state))
    }

    fn run(&mut self, name: &str, command: Command) -> Result<()> {
        let process = Process::start(name, command, self.place.log(name), &self.place.state)?;
        self.processes.push(process);
        Ok(())
    }

    fn program(&self, name: &str) -> Command {
        Command::new(self.programs.join(name))
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{error:#}");
        }
    }
}

fn run_as(user: DatabaseUser) -> Option<&'static str> {
    match user {
        DatabaseUser::Myself => None,
        DatabaseUser::System(..) => Some(database_user::NAME),
    }
}

/// Writes a file that is for its owner alone.
///
/// # Errors
/// The system refused.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port on the loopback address")?;
    Ok(listener.local_addr()?.port())
}
