//! What a site is to be.

use anyhow::Result;

use super::Site;
use crate::lab::Network;

/// What a site is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) hosts: usize,
    pub(super) control_planes: usize,
    pub(super) proxies: Vec<Pooling>,
    pub(super) clients: usize,
    pub(super) agent: String,
    pub(super) log: String,
}

/// How a proxy shares its connections to databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// A client has one as long as it is there.
    Session,
    /// A client has one as long as its transaction lasts.
    Transaction,
}

impl Pooling {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
        }
    }
}

/// What the environment says of the programs' logs, or this.
fn log_or(usual: &str) -> String {
    std::env::var("WINDLASS_LAB_LOG").unwrap_or_else(|_| usual.to_owned())
}

impl Default for Plan {
    fn default() -> Self {
        // Warm directories would take the processor from what is measured.
        let agent = "check_every = \"1s\"\nwarm_pool = \"off\"\n".to_owned();
        let log = log_or("info,windlass=debug");
        Self { hosts: 3, control_planes: 1, proxies: vec![Pooling::Session], clients: 1, agent, log }
    }
}

impl Plan {
    /// How many agents.
    #[must_use]
    pub fn hosts(mut self, hosts: usize) -> Self {
        self.hosts = hosts;
        self
    }

    /// How many control planes.
    #[must_use]
    pub fn control_planes(mut self, control_planes: usize) -> Self {
        self.control_planes = control_planes;
        self
    }

    /// The proxies, each with its way of pooling.
    #[must_use]
    pub fn proxies(mut self, proxies: &[Pooling]) -> Self {
        self.proxies = proxies.to_vec();
        self
    }

    /// How many hosts of clients.
    #[must_use]
    pub fn clients(mut self, clients: usize) -> Self {
        self.clients = clients;
        self
    }

    /// Agents are configured as they are shipped, with little log.
    #[must_use]
    pub fn as_shipped(mut self) -> Self {
        self.agent.clear();
        self.log = log_or("info");
        self
    }

    /// Starts it and waits until everything is there.
    ///
    /// # Errors
    /// Something does not come up; the message ends with its log.
    pub async fn start(self, network: &mut Network) -> Result<Site> {
        Site::start(network, &self).await
    }
}
