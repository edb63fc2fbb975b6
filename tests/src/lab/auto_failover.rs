//! pg_auto_failover as Debian packages it, with its defaults, on hosts of a lab: what high availability is measured
//! beside. One monitor, two nodes.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Network, Node};
use crate::ground::Ground;
use crate::stack::run_as;
use crate::workload::Target;
use crate::{database, wait_until};

const LIMIT: Duration = Duration::from_secs(120);
const PORT: u16 = 5432;

/// A running formation.
#[derive(Debug)]
pub struct AutoFailover {
    ground: Arc<Ground>,
    monitor: Node,
    nodes: Vec<Node>,
    programs: Vec<(Node, Child)>,
}

impl AutoFailover {
    /// Hosts and the monitor; no node yet.
    ///
    /// # Errors
    /// It is not installed, or something does not come up.
    pub async fn start(network: &mut Network) -> Result<Self> {
        let ground = Arc::new(Ground::make()?);
        let monitor = network.add("peer-monitor")?;
        let nodes = vec![network.add("peer-1")?, network.add("peer-2")?];
        let mut peer = Self { ground, monitor: monitor.clone(), nodes, programs: Vec::new() };
        let address = monitor.address().to_string();
        peer.create(&monitor, &["create", "monitor", "--hostname", &address])?;
        // Asked before its files are whole, it would not finish them.
        wait_until("a monitor's database", LIMIT, async || {
            let log = std::fs::read_to_string(peer.ground.path("peer-monitor.log"))?;
            ensure!(log.contains("Contacting the monitor to LISTEN"), "{log}");
            Ok(())
        })
        .await?;
        wait_until("a monitor", LIMIT, async || peer.show_state()).await?;
        Ok(peer)
    }

    /// Makes both nodes, from nothing until the second is a synchronous standby.
    ///
    /// # Errors
    /// Something does not come up.
    pub async fn provision(&mut self) -> Result<()> {
        let uri = format!("postgres://autoctl_node@{}:{PORT}/pg_auto_failover", self.monitor.address());
        for node in self.nodes.clone() {
            let address = node.address().to_string();
            let words = ["create", "postgres", "--hostname", &address, "--name", node.name(), "--monitor", &uri];
            self.create(&node, &words)?;
            wait_until(&format!("{} known", node.name()), LIMIT, async || {
                let state = self.show_state()?;
                let lines: Vec<_> = state.lines().filter(|line| line.contains(node.name())).collect();
                ensure!(!lines.is_empty() && !lines[0].contains("init"), "{state}");
                Ok(())
            })
            .await?;
        }
        self.whole().await?;
        self.nodes.iter().try_for_each(|node| self.admit_clients(node))
    }

    /// Its own rules admit its nodes only.
    fn admit_clients(&self, node: &Node) -> Result<()> {
        let file = self.ground.path(node.name()).join("pg_hba.conf");
        let mut rules = std::fs::File::options().append(true).open(file)?;
        rules.write_all(b"host all all 10.77.0.0/24 trust\n")?;
        Ok(kill(Pid::from_raw(self.postmaster(node)?), Signal::SIGHUP)?)
    }

    /// Waits until there is a primary and a standby, as wished.
    ///
    /// # Errors
    /// There is not within two minutes.
    pub async fn whole(&self) -> Result<()> {
        wait_until("a whole formation", LIMIT, async || {
            let state = self.show_state()?;
            let settled = |word: &str| state.lines().any(|line| line.matches(word).count() == 2);
            ensure!(settled(" primary") && settled(" secondary"), "{state}");
            Ok(())
        })
        .await
    }

    /// How clients reach it: the two addresses, as in libpq's multi-host form.
    pub fn target(&self) -> Target {
        Target {
            addresses: self.nodes.iter().map(|node| SocketAddr::from((node.address(), PORT))).collect(),
            tls: None,
            user: run_as().unwrap_or_default().to_owned(),
            password: String::new(),
            database: "postgres".to_owned(),
            patience: Duration::from_secs(1),
        }
    }

    /// The node that leads, and the one that does not.
    ///
    /// # Errors
    /// Nobody leads.
    pub fn roles(&self) -> Result<(Node, Node)> {
        let state = self.show_state()?;
        let leads = |node: &&Node| state.lines().any(|line| line.contains(node.name()) && line.contains("read-write"));
        let primary = self.nodes.iter().find(leads).with_context(|| state.clone())?;
        let standby = self.nodes.iter().find(|node| node.name() != primary.name()).context("two nodes")?;
        Ok((primary.clone(), standby.clone()))
    }

    /// Asks for a switchover and waits until its command ends.
    ///
    /// # Errors
    /// It failed.
    pub async fn switchover(&self) -> Result<()> {
        let mut command = self.ground.command_in(Some(&self.monitor), Path::new("pg_autoctl"))?;
        command.args(["perform", "switchover", "--pgdata"]).arg(self.ground.path(self.monitor.name()));
        self.environment(&mut command, &self.monitor);
        tokio::task::spawn_blocking(move || database::output(&mut command)).await?.map(drop)
    }

    /// The postmaster of a node.
    ///
    /// # Errors
    /// It does not run.
    pub fn postmaster(&self, node: &Node) -> Result<i32> {
        let text = std::fs::read_to_string(self.ground.path(node.name()).join("postmaster.pid"))?;
        text.lines().next().and_then(|line| line.trim().parse().ok()).context("no pid")
    }

    /// Kills whatever runs on a node, as the loss of power does.
    pub fn power_off(&mut self, node: &Node) {
        node.signal(Signal::SIGKILL);
        self.programs.retain_mut(|(at, child)| {
            let here = at.name() == node.name();
            if here {
                let _ = child.wait();
            }
            !here
        });
    }

    /// Whether a node's service runs.
    pub fn runs(&mut self, node: &Node) -> bool {
        let mut here = self.programs.iter_mut().filter(|(at, _)| at.name() == node.name());
        here.any(|(_, child)| matches!(child.try_wait(), Ok(None)))
    }

    /// Starts a node's service again.
    ///
    /// # Errors
    /// The system refused.
    pub fn power_on(&mut self, node: &Node) -> Result<()> {
        self.run(node, &["run"])
    }

    fn show_state(&self) -> Result<String> {
        let mut command = self.ground.command_in(Some(&self.monitor), Path::new("pg_autoctl"))?;
        command.args(["show", "state", "--pgdata"]).arg(self.ground.path(self.monitor.name()));
        database::output(self.environment(&mut command, &self.monitor))
    }

    /// It keeps its configuration below the home directory and PostgreSQL's sockets where this variable says.
    fn environment<'a>(&self, command: &'a mut Command, node: &Node) -> &'a mut Command {
        let sockets = self.ground.path(&format!("{}-sockets", node.name()));
        command
            .env("HOME", self.ground.path(""))
            .env("PATH", path())
            .env("PG_REGRESS_SOCK_DIR", &sockets)
            .env("PGHOST", sockets)
    }

    fn create(&mut self, node: &Node, words: &[&str]) -> Result<()> {
        let sockets = format!("{}-sockets", node.name());
        database::output(self.ground.command(Path::new("mkdir"))?.args(["-p", &sockets]))?;
        let mut all = words.to_vec();
        let port = PORT.to_string();
        all.extend(["--auth", "trust", "--no-ssl", "--run", "--pgport", &port]);
        self.run(node, &all)
    }

    fn run(&mut self, node: &Node, words: &[&str]) -> Result<()> {
        let file = self.ground.path(&format!("{}.log", node.name()));
        let log = std::fs::File::options().create(true).append(true).open(file)?;
        let mut command = self.ground.command_in(Some(node), Path::new("pg_autoctl"))?;
        command.args(words).arg("--pgdata").arg(self.ground.path(node.name()));
        self.environment(&mut command, node);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.programs.push((node.clone(), command.spawn().context("pg_autoctl")?));
        Ok(())
    }

    /// Ends all its processes; its data stays until it is dropped.
    pub fn stop(&mut self) {
        for node in self.nodes.iter().chain([&self.monitor]) {
            node.signal(Signal::SIGKILL);
        }
        for (_, child) in &mut self.programs {
            let _ = child.wait();
        }
    }
}

impl Drop for AutoFailover {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Its own programs and PostgreSQL's.
fn path() -> String {
    let server = database::postgres_directory().unwrap_or_default();
    format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", server.display())
}
