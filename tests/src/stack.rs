//! A whole installation in one directory: control plane, agents, keys.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use uuid::Uuid;
use windlass_proto::api::v1::{CreateJoinTokenRequest, JoinToken, host};

use crate::api::{Api, request_id};
use crate::database;
use crate::home::{Home, make_directory};
pub use crate::plan::{Metadata, Plan};
use crate::program::{self, Program};
use crate::wait::wait_until;

/// How long starting may take on a busy machine.
pub const START_LIMIT: Duration = Duration::from_secs(60);
/// Ports per host for its databases.
pub const PORTS: u16 = 40;

/// One agent and what belongs to it.
#[derive(Debug)]
pub struct Host {
    /// Name in the installation.
    pub name: String,
    /// Its directory, with `state` and `run` below.
    pub directory: PathBuf,
    /// The agent.
    pub agent: Program,
    /// Ports its databases may get, inclusive.
    pub ports: (u16, u16),
}

/// A running installation.
#[derive(Debug)]
pub struct Stack {
    /// The installation's administrator.
    pub api: Api,
    /// The key of `api`.
    pub key: String,
    /// The control plane.
    pub control_plane: Program,
    /// The agents.
    pub hosts: Vec<Host>,
    /// How to reach the API.
    pub endpoint: String,
    /// The metadata, if it is external.
    pub database_url: Option<String>,
    programs: PathBuf,
    plan: Plan,
    // Last, so that the programs are dead before it ends the databases.
    home: Home,
}

impl Stack {
    /// What a stack is to be.
    pub fn plan() -> Plan {
        Plan::default()
    }

    pub(crate) async fn start(plan: Plan) -> Result<Self> {
        let programs = program::directory()?;
        let home = Home::make()?;
        let port = free_ports(1)?;
        let endpoint = format!("https://localhost:{port}");
        let directory = home.path.join("control-plane");
        make_directory(&directory)?;
        let database_url = match plan.metadata {
            Metadata::Embedded => None,
            Metadata::External => Some(create_database().await?),
        };
        let config = directory.join("control-plane.toml");
        let metadata = match &database_url {
            Some(url) => format!("url = {url:?}\n"),
            None => run_as().map(|user| format!("run_as = {user:?}\n")).unwrap_or_default(),
        };
        let state = directory.join("state");
        let text = format!(
            "state_dir = {state:?}\nlisten = \"127.0.0.1:{port}\"\n[metadata]\n{metadata}{}",
            plan.control_plane,
        );
        std::fs::write(&config, text)?;
        let arguments = vec!["--config".to_owned(), config.to_string_lossy().into_owned(), "serve".to_owned()];
        let binary = programs.join("windlass-control-plane");
        let log = home.path.join("control-plane.log");
        let mut control_plane = Program::new("control-plane", binary, arguments, log);
        control_plane.start(&[("RUST_LOG", plan.log)])?;
        // Only a control plane that listens holds its state directory for sure.
        wait_until("listening control plane", START_LIMIT, async || {
            control_plane.check()?;
            Ok(TcpStream::connect(("127.0.0.1", port))?)
        })
        .await?;
        let key = first_key(&mut control_plane, &programs, &config).await?;
        let ca = std::fs::read_to_string(ca_file(&home.path)).context("the CA's certificate")?;
        let api = Api::new(&endpoint, &ca, &key)?;
        let hosts = Vec::new();
        let mut stack = Self { api, key, control_plane, hosts, endpoint, database_url, programs, plan, home };
        stack.answers().await?;
        for _ in 0..stack.plan.hosts {
            stack.add_host().await?;
        }
        stack.hosts_online().await?;
        Ok(stack)
    }

    /// Where everything lies.
    pub fn directory(&self) -> &Path {
        &self.home.path
    }

    /// Waits until the control plane answers.
    ///
    /// # Errors
    /// It does not; the message ends with its log if it ended.
    pub async fn answers(&mut self) -> Result<()> {
        let api = self.api.clone();
        let control_plane = &mut self.control_plane;
        wait_until("answer of the control plane", START_LIMIT, async || {
            control_plane.check()?;
            api.all_hosts().await
        })
        .await?;
        Ok(())
    }

    /// The end of a test that went well: stops the programs in order and removes the directory.
    ///
    /// # Errors
    /// A program does not stop when asked.
    pub async fn finish(mut self) -> Result<()> {
        for host in &mut self.hosts {
            host.agent.stop().await?;
        }
        self.control_plane.stop().await?;
        self.home.worth_keeping = false;
        Ok(())
    }

    /// What the programs write to their logs.
    pub(crate) fn log_level(&self) -> &'static str {
        self.plan.log
    }

    /// The certificate that clients trust.
    pub fn ca_file(&self) -> PathBuf {
        ca_file(&self.home.path)
    }

    /// Starts one more agent with a token of its own; does not wait for it.
    ///
    /// # Errors
    /// The token was refused or the program cannot be started.
    pub async fn add_host(&mut self) -> Result<&mut Host> {
        let name = format!("host-{}", self.hosts.len() + 1);
        let request = CreateJoinTokenRequest {
            join_token: Some(JoinToken { host_name: name.clone(), ..Default::default() }),
            ttl: None,
            request_id: request_id(),
        };
        let token = self.api.hosts().create_join_token(request).await?.into_inner().token;
        let mut host = self.describe_host(&name)?;
        host.agent.start(&[("WINDLASS_JOIN_TOKEN", &token), ("RUST_LOG", self.plan.log)])?;
        self.hosts.push(host);
        Ok(self.hosts.last_mut().expect("one was pushed"))
    }

    /// Writes the configuration of an agent that is not started yet.
    ///
    /// # Errors
    /// The system refused.
    pub fn describe_host(&self, name: &str) -> Result<Host> {
        let directory = self.home.path.join(name);
        make_directory(&directory)?;
        let low = free_ports(PORTS)?;
        let high = low + PORTS - 1;
        let config = directory.join("agent.toml");
        let user = run_as().map(|user| format!("run_as = {user:?}\n")).unwrap_or_default();
        let text = format!(
            "state_dir = {:?}\nrun_dir = {:?}\nendpoints = [{:?}]\nhost_name = {name:?}\naddress = \"127.0.0.1\"\n\
             port_low = {low}\nport_high = {high}\nprocess_host = \"direct\"\n\
             {user}{}",
            directory.join("state"),
            directory.join("run"),
            self.endpoint,
            self.plan.agent,
        );
        std::fs::write(&config, text)?;
        let arguments = vec!["--config".to_owned(), config.to_string_lossy().into_owned()];
        let log = self.home.path.join(format!("{name}.log"));
        let agent = Program::new(name, self.programs.join("windlass-agent"), arguments, log);
        Ok(Host { name: name.to_owned(), directory, agent, ports: (low, high) })
    }

    /// Waits until every host is online.
    ///
    /// # Errors
    /// One is not; the message ends with the log of an agent that ended.
    pub async fn hosts_online(&mut self) -> Result<()> {
        let api = self.api.clone();
        let hosts = &mut self.hosts;
        wait_until("every host online", START_LIMIT, async || {
            hosts.iter_mut().try_for_each(|host| host.agent.check())?;
            let seen = api.all_hosts().await?;
            let online = |name: &str| {
                seen.iter().any(|host| host.name == format!("hosts/{name}") && host.state() == host::State::Online)
            };
            match hosts.iter().find(|host| !online(&host.name)) {
                None => Ok(()),
                Some(host) => bail!("{} is not online: {seen:?}", host.name),
            }
        })
        .await
    }

    /// The command line as a user has it.
    pub fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("windlass"));
        command
            .args(arguments)
            .env("WINDLASS_ENDPOINT", &self.endpoint)
            .env("WINDLASS_TOKEN", &self.key)
            .env("WINDLASS_CA", self.ca_file())
            .env("HOME", &self.home.path);
        command
    }

    /// Runs the command line, which must succeed, and gives its standard output.
    ///
    /// # Errors
    /// It failed; the message has what it wrote.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.cli(arguments);
        tokio::task::spawn_blocking(move || database::output(&mut command)).await?
    }

    /// Runs the command line, whatever comes of it.
    ///
    /// # Errors
    /// It cannot be run.
    pub async fn attempt(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.cli(arguments);
        command.stdin(std::process::Stdio::null());
        Ok(tokio::task::spawn_blocking(move || command.output()).await??)
    }

    /// Runs one statement through `windlass connect` and the native client.
    ///
    /// # Errors
    /// The client failed.
    pub async fn query(&self, project: &str, instance: &str, client: &str, statement: &str) -> Result<String> {
        let native = database::query(client, statement);
        let mut arguments = vec!["--project", project, "connect", instance, "--"];
        arguments.extend(native.iter().map(String::as_str));
        self.run(&arguments).await
    }

    /// The process that serves a member, found by the member's directory.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn server(&self, member: &windlass_proto::api::v1::Member) -> Result<database::Server> {
        let host = self.hosts.iter().find(|host| format!("hosts/{}", host.name) == member.host);
        let host = host.with_context(|| format!("{} is not of this stack", member.host))?;
        let servers = database::processes_below(&host.directory);
        let mut mine = servers.into_iter().filter(|server| i64::from(server.pid) == member.pid);
        let found = mine.next().with_context(|| format!("no process {} below {}", member.pid, host.name))?;
        ensure!(mine.next().is_none(), "two processes with one id");
        Ok(found)
    }
}

fn ca_file(home: &Path) -> PathBuf {
    home.join("control-plane/state/ca.pem")
}

/// The first key is made by a command on the control plane's own machine.
async fn first_key(control_plane: &mut Program, programs: &Path, config: &Path) -> Result<String> {
    let key = wait_until("first key", START_LIMIT, async || {
        control_plane.check()?;
        let mut command = Command::new(programs.join("windlass-control-plane"));
        command.arg("--config").arg(config).args(["key", "create", "--role", "admin", "--title", "test"]);
        database::output(&mut command)
    })
    .await?;
    Ok(key.trim().to_owned())
}

/// The user that databases run as when root runs the tests.
pub fn run_as() -> Option<&'static str> {
    nix::unistd::geteuid().is_root().then_some("windlass-db")
}

/// The first of some consecutive ports that nothing listens on now, below those that the kernel hands out by itself.
///
/// # Errors
/// None was found, or the system refused.
pub fn free_ports(count: u16) -> Result<u16> {
    for _ in 0..100 {
        let first = rand::random_range(10_000..32_000);
        if (first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return Ok(first);
        }
    }
    bail!("no {count} free ports in a row")
}

/// A fresh database beside the one that `DATABASE_URL` names.
async fn create_database() -> Result<String> {
    let base = std::env::var("DATABASE_URL").context("DATABASE_URL is not set; `cargo xtask test` sets it")?;
    let name = format!("stack_{}", Uuid::new_v4().simple());
    let (client, connection) = tokio_postgres::connect(&base, tokio_postgres::NoTls).await?;
    let driver = tokio::spawn(connection);
    client.batch_execute(&format!("create database {name}")).await?;
    drop(client);
    driver.await??;
    let (address, _) = base.rsplit_once('/').context("DATABASE_URL names no database")?;
    Ok(format!("{address}/{name}"))
}
