//! What a stack is to be.

use anyhow::Result;

use crate::Stack;

/// Where a stack keeps its metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    /// In a fresh database of the server that `DATABASE_URL` names.
    External,
    /// In the control plane's own PostgreSQL.
    Embedded,
}

/// What a stack is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) hosts: usize,
    pub(crate) metadata: Metadata,
    pub(crate) control_plane: String,
    pub(crate) agent: String,
    pub(crate) log: &'static str,
}

impl Default for Plan {
    fn default() -> Self {
        // Faults are looked for more often than anyone would, so that tests of healing are short.
        let agent = "check_every = \"1s\"\n".to_owned();
        let log = "info,windlass=debug";
        Self { hosts: 1, metadata: Metadata::External, control_plane: String::new(), agent, log }
    }
}

impl Plan {
    /// How many agents.
    #[must_use]
    pub fn hosts(mut self, hosts: usize) -> Self {
        self.hosts = hosts;
        self
    }

    /// Where the metadata is.
    #[must_use]
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// More TOML for the control plane's configuration; tables only.
    #[must_use]
    pub fn control_plane(mut self, toml: &str) -> Self {
        self.control_plane.push_str(toml);
        self
    }

    /// More TOML for the agents' configuration: top-level keys.
    #[must_use]
    pub fn agent(mut self, toml: &str) -> Self {
        self.agent.push_str(toml);
        self
    }

    /// Without the settings that make tests short and their logs long: as an operator has it.
    #[must_use]
    pub fn as_shipped(mut self) -> Self {
        self.agent.clear();
        self.log = "info";
        self
    }

    /// Starts it and waits until every host is online.
    ///
    /// # Errors
    /// Something does not come up; the message ends with its log.
    pub async fn start(self) -> Result<Stack> {
        Stack::start(self).await
    }
}
