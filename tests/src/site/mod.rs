//! A whole installation on the hosts of a lab: metadata, control planes, agents and proxies, each on a host of its own,
//! and hosts of clients.
//!
//! The programs are the real ones with configuration files like anyone's. Invariant: when a site is dropped its
//! programs, its databases and its directory are gone; the directory's logs stay if the test failed.

mod machine;
mod plan;
mod start;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use windlass_proto::api::v1::{GetConnectionRequest, Instance, Replication};

use crate::api::{Api, create_request, instance_name};
use crate::checkers::routes::Taken;
use crate::database;
use crate::ground::Ground;
use crate::home::Home;
use crate::lab::Node;
use crate::lab::plain::Plain;
use crate::stack::START_LIMIT;
use crate::wait::wait_until;
use crate::workload::{Target, Trust};

pub use machine::Machine;
pub use plan::{Plan, Pooling};

/// The project of a site's instances.
pub const PROJECT: &str = "lab";
/// Where the proxies' clients find instances: `INSTANCE.lab.DOMAIN`.
pub const DOMAIN: &str = "db.test";
/// Where proxies listen.
pub const PROXY_PORT: u16 = 6432;
/// The first of the databases' ports on each host, and how many there are.
pub const PORTS: (u16, u16) = (20_000, 40);

/// A running installation.
#[derive(Debug)]
pub struct Site {
    /// The installation's administrator, at the first control plane.
    pub api: Api,
    /// The key of `api`.
    pub key: String,
    /// The control planes.
    pub control_planes: Vec<Machine>,
    /// The agents.
    pub hosts: Vec<Machine>,
    /// The proxies.
    pub proxies: Vec<Machine>,
    /// Hosts of clients.
    pub clients: Vec<Node>,
    /// Where the metadata is.
    pub metadata_node: Node,
    /// The metadata.
    pub metadata: Plain,
    programs: PathBuf,
    // Last, so that the programs are dead before they end what is left.
    ground: Arc<Ground>,
    home: Home,
}

impl Site {
    /// Where everything lies.
    pub fn directory(&self) -> &Path {
        &self.home.path
    }

    /// The end of a test that went well.
    pub fn finish(mut self) {
        self.home.worth_keeping = false;
    }

    /// The installation's administrator, at another control plane.
    ///
    /// # Errors
    /// There is no such control plane.
    pub fn api_of(&self, number: usize) -> Result<Api> {
        let control_plane = self.control_planes.get(number).context("no such control plane")?;
        let ca = std::fs::read_to_string(start::ca_file(&self.control_planes[0]))?;
        Api::new(&start::endpoint(control_plane.node()), &ca, &self.key)
    }

    /// Starts every program that does not run, as its service manager would, and waits until the control plane answers.
    ///
    /// # Errors
    /// One cannot be started.
    pub async fn mend(&mut self) -> Result<()> {
        if self.metadata.sql("select 1").is_err() {
            self.metadata.kill()?;
            self.metadata.start().await?;
        }
        let groups = [&mut self.control_planes, &mut self.hosts, &mut self.proxies];
        groups.into_iter().flatten().try_for_each(Machine::start)?;
        let api = self.api.clone();
        wait_until("answer of the control plane", START_LIMIT, async || api.all_hosts().await).await?;
        Ok(())
    }

    /// Creates an instance with replicas and waits for it.
    ///
    /// # Errors
    /// It was refused or failed.
    pub async fn create(&self, id: &str, replication: Replication) -> Result<Instance> {
        let mut request = create_request(PROJECT, id, "postgres");
        request.instance.as_mut().context("a request has an instance")?.replication = Some(replication);
        let operation = self.api.instances().create_instance(request).await?.into_inner();
        self.api.succeeded(&operation).await?;
        self.api.instance(&instance_name(PROJECT, id)).await
    }

    /// The machine of a member.
    ///
    /// # Errors
    /// It is none of this site.
    pub fn host_of(&self, member: &windlass_proto::api::v1::Member) -> Result<usize> {
        let named = |host: &Machine| format!("hosts/{}", host.name()) == member.host;
        self.hosts.iter().position(named).with_context(|| format!("{} is not of this site", member.host))
    }

    /// The directory of the one member on a machine.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn member_directory(&self, host: usize) -> Result<PathBuf> {
        let folder = self.hosts[host].directory().join("state/members");
        let mut entries = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
        let directory = entries.next().with_context(|| format!("no member below {}", folder.display()))?;
        ensure!(entries.next().is_none(), "several members below {}", folder.display());
        Ok(directory)
    }

    /// The postmaster of the one member on a machine.
    ///
    /// # Errors
    /// There is none.
    pub fn postmaster(&self, host: usize) -> Result<i32> {
        let file = self.member_directory(host)?.join("data/postmaster.pid");
        let text = std::fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
        let pid = text.lines().next().and_then(|line| line.trim().parse().ok()).context("no pid")?;
        ensure!(database::start_time(pid).is_some(), "process {pid} of {} is gone", file.display());
        Ok(pid)
    }

    /// Starts the one member on a machine as somebody would by hand: past its agent, which has to be dead like the server.
    /// Its log goes to the file.
    ///
    /// # Errors
    /// The system refused.
    pub fn start_by_hand(&self, host: usize, log: &Path) -> Result<Child> {
        let log = std::fs::File::create(log)?;
        let program = database::postgres_directory().context("no PostgreSQL on this machine")?.join("postgres");
        let data = self.member_directory(host)?.join("data");
        // Of a dead one, which may still be a zombie.
        let _ = std::fs::remove_file(data.join("postmaster.pid"));
        let mut command = self.ground.command_in(Some(self.hosts[host].node()), &program)?;
        command.arg("-D").arg(data).args(["-c", "unix_socket_directories="]);
        Ok(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?)
    }

    /// Asks the one member on a machine through its socket, as its administrator, in the database of the agent.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ask_member(&self, host: usize, question: &str) -> Result<String> {
        let directory = self.member_directory(host)?;
        let id = directory.file_name().and_then(|name| name.to_str()).and_then(|name| name.rsplit('-').next());
        let sockets = self.hosts[host].directory().join("run").join(id.context("a member's name")?);
        let entries = std::fs::read_dir(&sockets)?.flatten().map(|entry| entry.file_name());
        let port = entries
            .filter_map(|name| name.to_str()?.strip_prefix(".s.PGSQL.")?.parse::<u16>().ok())
            .next()
            .with_context(|| format!("no socket in {}", sockets.display()))?;
        let mut command = Command::new("psql");
        command.args(["-X", "-Atq", "-v", "ON_ERROR_STOP=1", "-U", "windlass", "-d", "postgres", "-p"]);
        database::output(command.arg(port.to_string()).arg("-h").arg(&sockets).args(["-c", question]))
    }

    /// The routes that every proxy took, in the order of taking, from their logs.
    pub fn routes_taken(&mut self) -> Vec<Taken> {
        let mut taken = Vec::new();
        for proxy in &mut self.proxies {
            let log = proxy.program().log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            taken.extend(lines.filter(|line| line["message"] == "route").filter_map(|line| {
                Some(Taken {
                    proxy: proxy.name().to_owned(),
                    instance: line["instance"].as_str()?.to_owned(),
                    epoch: line["epoch"].as_u64()?,
                    rev: line["rev"].as_u64()?,
                })
            }));
        }
        taken
    }

    /// How a client reaches an instance through a proxy.
    ///
    /// # Errors
    /// The control plane refused.
    pub async fn through_proxy(&self, id: &str, proxy: usize) -> Result<Target> {
        let mut target = self.direct(id).await?;
        let proxy = self.proxies.get(proxy).context("no such proxy")?;
        target.addresses = vec![SocketAddr::from((proxy.node().address(), PROXY_PORT))];
        target.tls = target.tls.map(|trust| Trust { name: Some(format!("{id}.{PROJECT}.{DOMAIN}")), ..trust });
        target.patience = Duration::from_secs(30);
        Ok(target)
    }

    /// How a client reaches an instance past the proxies: every member is tried.
    ///
    /// # Errors
    /// The control plane refused.
    pub async fn direct(&self, id: &str) -> Result<Target> {
        let name = instance_name(PROJECT, id);
        let request = GetConnectionRequest { name: name.clone(), direct: true, ..Default::default() };
        let connection = self.api.instances().get_connection(request).await?.into_inner();
        let mut addresses = Vec::new();
        for member in self.api.instance(&name).await?.members {
            let host = &self.hosts[self.host_of(&member)?];
            addresses.push(SocketAddr::from((host.node().address(), u16::try_from(member.port)?)));
        }
        if addresses.is_empty() {
            bail!("{name} has no members");
        }
        Ok(Target {
            addresses,
            tls: Some(Trust { name: None, ca_pem: connection.ca_pem }),
            user: connection.user,
            password: connection.password,
            database: connection.database,
            patience: Duration::from_secs(1),
        })
    }

    /// The certificate that clients trust.
    pub fn ca_file(&self) -> PathBuf {
        start::ca_file(&self.control_planes[0])
    }

    /// The command line as a user has it.
    pub fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("windlass"));
        command
            .args(arguments)
            .env("WINDLASS_ENDPOINT", start::endpoint(self.control_planes[0].node()))
            .env("WINDLASS_TOKEN", &self.key)
            .env("WINDLASS_CA", self.ca_file())
            .env("HOME", &self.home.path);
        command
    }
}
