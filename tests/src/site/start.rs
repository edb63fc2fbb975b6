//! How a site comes up.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use windlass_proto::api::v1::join_token::Purpose;
use windlass_proto::api::v1::{CreateJoinTokenRequest, JoinToken, host};

use super::plan::Pooling;
use super::{DOMAIN, Machine, PORTS, PROJECT, PROXY_PORT, Plan, Site};
use crate::api::{Api, request_id};
use crate::database;
use crate::ground::Ground;
use crate::home::{Home, make_directory};
use crate::lab::plain::Plain;
use crate::lab::{Network, Node};
use crate::program;
use crate::stack::{START_LIMIT, run_as};
use crate::wait::wait_until;

const CONTROL_PLANE_PORT: u16 = 7400;
const METADATA_PORT: u16 = 5432;

pub(super) fn endpoint(node: &Node) -> String {
    format!("https://{}:{CONTROL_PLANE_PORT}", node.address())
}

pub(super) fn ca_file(control_plane: &Machine) -> PathBuf {
    control_plane.directory().join("state/ca.pem")
}

impl Site {
    /// What a site is to be.
    pub fn plan() -> Plan {
        Plan::default()
    }

    pub(super) async fn start(network: &mut Network, plan: &Plan) -> Result<Self> {
        let programs = program::directory()?;
        let home = Home::make()?;
        let ground = Arc::new(Ground::make()?);
        let metadata_node = network.add("metadata")?;
        let mut metadata = Plain::new(&ground, "metadata", METADATA_PORT).at(&metadata_node);
        metadata.initialise()?;
        metadata.start().await?;
        metadata.sql("create database windlass")?;
        let mut control_planes: Vec<Machine> = Vec::new();
        for number in 1..=plan.control_planes {
            let node = network.add(&format!("control-{number}"))?;
            let mut machine = control_plane(&home, &programs, node, &metadata_node, &plan.log)?;
            if let Some(first) = control_planes.first() {
                let state = machine.directory().join("state");
                make_directory(&state)?;
                std::fs::copy(first.directory().join("state/kek"), state.join("kek"))?;
            }
            machine.start()?;
            let address = (machine.node().address(), CONTROL_PLANE_PORT);
            wait_until("listening control plane", START_LIMIT, async || {
                machine.program().check()?;
                Ok(TcpStream::connect(address)?)
            })
            .await?;
            control_planes.push(machine);
        }
        let key = first_key(&mut control_planes[0], &programs).await?;
        let ca = std::fs::read_to_string(ca_file(&control_planes[0])).context("the CA's certificate")?;
        let api = Api::new(&endpoint(control_planes[0].node()), &ca, &key)?;
        let mut site = Self {
            api,
            key,
            control_planes,
            hosts: Vec::new(),
            proxies: Vec::new(),
            clients: Vec::new(),
            metadata_node,
            metadata,
            programs,
            ground,
            home,
        };
        wait_until("answer of the control plane", START_LIMIT, async || site.api.all_hosts().await).await?;
        for _ in 0..plan.hosts {
            site.add_host(network, plan).await?;
        }
        for pooling in &plan.proxies {
            site.add_proxy(network, plan, *pooling).await?;
        }
        for number in 1..=plan.clients {
            site.clients.push(network.add(&format!("client-{number}"))?);
        }
        site.hosts_online().await?;
        site.api.create_project(PROJECT).await?;
        Ok(site)
    }

    /// Waits until every host is online.
    ///
    /// # Errors
    /// One is not; the message ends with the log of an agent that ended.
    pub async fn hosts_online(&mut self) -> Result<()> {
        let (api, hosts) = (self.api.clone(), &mut self.hosts);
        wait_until("every host online", START_LIMIT, async || {
            hosts.iter_mut().try_for_each(|host| host.program().check())?;
            let seen = api.all_hosts().await?;
            let online = |name: &str| {
                seen.iter().any(|host| host.name == format!("hosts/{name}") && host.state() == host::State::Online)
            };
            match hosts.iter().find(|host| !online(host.name())) {
                None => Ok(()),
                Some(host) => bail!("{} is not online: {seen:?}", host.name()),
            }
        })
        .await
    }

    async fn add_host(&mut self, network: &mut Network, plan: &Plan) -> Result<()> {
        let name = format!("host-{}", self.hosts.len() + 1);
        let token = self.token(&JoinToken { host_name: name.clone(), ..Default::default() }).await?;
        let node = network.add(&name)?;
        let directory = self.home.path.join(&name);
        make_directory(&directory)?;
        let text = format!(
            "state_dir = {:?}\nrun_dir = {:?}\nendpoints = {:?}\nhost_name = {name:?}\naddress = \"{}\"\n\
             port_low = {}\nport_high = {}\nprocess_host = \"direct\"\nrun_as = {:?}\n{}",
            directory.join("state"),
            directory.join("run"),
            self.endpoints(),
            node.address(),
            PORTS.0,
            PORTS.0 + PORTS.1 - 1,
            run_as().context("labs are root's")?,
            plan.agent,
        );
        let config = directory.join("agent.toml");
        std::fs::write(&config, text)?;
        let binary = self.programs.join("windlass-agent");
        let mut machine = Machine::new(node, &binary, &["--config", &config.to_string_lossy()], &directory, &plan.log);
        machine.start_with(&[("WINDLASS_JOIN_TOKEN", &token)])?;
        self.hosts.push(machine);
        Ok(())
    }

    async fn add_proxy(&mut self, network: &mut Network, plan: &Plan, pooling: Pooling) -> Result<()> {
        let name = format!("proxy-{}", self.proxies.len() + 1);
        let purpose = Purpose::Proxy.into();
        let token = self.token(&JoinToken { host_name: name.clone(), purpose, ..Default::default() }).await?;
        let node = network.add(&name)?;
        let directory = self.home.path.join(&name);
        make_directory(&directory)?;
        let text = format!(
            "state_dir = {:?}\nendpoints = {:?}\nproxy_name = {name:?}\nlisten = \"{}:{PROXY_PORT}\"\n\
             domain = \"{DOMAIN}\"\npooling = {:?}\n",
            directory.join("state"),
            self.endpoints(),
            node.address(),
            pooling.word(),
        );
        let config = directory.join("proxy.toml");
        std::fs::write(&config, text)?;
        let binary = self.programs.join("windlass-proxy");
        let mut machine = Machine::new(node, &binary, &["--config", &config.to_string_lossy()], &directory, &plan.log);
        machine.start_with(&[("WINDLASS_JOIN_TOKEN", &token)])?;
        self.proxies.push(machine);
        Ok(())
    }

    fn endpoints(&self) -> Vec<String> {
        self.control_planes.iter().map(|machine| endpoint(machine.node())).collect()
    }

    async fn token(&self, what: &JoinToken) -> Result<String> {
        let request = CreateJoinTokenRequest { join_token: Some(what.clone()), ttl: None, request_id: request_id() };
        Ok(self.api.hosts().create_join_token(request).await?.into_inner().token)
    }
}

fn control_plane(home: &Home, programs: &Path, node: Node, metadata: &Node, log: &str) -> Result<Machine> {
    let directory = home.path.join(node.name());
    make_directory(&directory)?;
    let text = format!(
        "state_dir = {:?}\nlisten = \"{}:{CONTROL_PLANE_PORT}\"\nadvertise = [\"{}\"]\n\
         [metadata]\nurl = \"postgres://root@{}:{METADATA_PORT}/windlass\"\n",
        directory.join("state"),
        node.address(),
        node.address(),
        metadata.address(),
    );
    let config = directory.join("control-plane.toml");
    std::fs::write(&config, text)?;
    let binary = programs.join("windlass-control-plane");
    Ok(Machine::new(node, &binary, &["--config", &config.to_string_lossy(), "serve"], &directory, log))
}

/// The first key is made by a command on the control plane's own machine.
async fn first_key(control_plane: &mut Machine, programs: &Path) -> Result<String> {
    let key = wait_until("first key", START_LIMIT, async || {
        control_plane.program().check()?;
        let mut command = Command::new(programs.join("windlass-control-plane"));
        command.arg("--config").arg(control_plane.directory().join("control-plane.toml"));
        command.args(["key", "create", "--role", "admin", "--title", "test"]);
        database::output(&mut command)
    })
    .await?;
    Ok(key.trim().to_owned())
}
