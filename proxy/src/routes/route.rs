//! One route, as typed values.

use std::{sync::Arc, time::Duration};

use windlass_core::{
    Error,
    engine::Engine,
    id::{InstanceId, MemberId},
};
use windlass_proto::proxy::v1 as pb;

/// How to reach one instance. Never changed, only replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The instance.
    pub instance: InstanceId,
    /// Name of its project.
    pub project: String,
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub engine: Engine,
    /// Term of the primary; 0 for an instance that is not replicated.
    pub epoch: u64,
    /// Grows with each change within the epoch.
    pub rev: u64,
    /// Whether clients go through.
    pub state: State,
    /// Where writes go; None while nobody leads.
    pub primary: Option<Backend>,
    /// Where stale reads may go.
    pub replicas: Vec<Backend>,
    /// What is set for it.
    pub settings: Settings,
    /// PEM of the CA that signed the backends' certificates.
    pub ca_pem: Arc<str>,
}

/// Whether clients go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// They do.
    Open,
    /// New transactions are held; the text says why.
    Paused(String),
    /// Clients are refused; the text says why.
    Closed(String),
}

/// A database server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The member; its certificate must name it.
    pub member: MemberId,
    /// Name of its host.
    pub host: String,
    /// Address or name to connect to.
    pub address: String,
    /// Port.
    pub port: u16,
    /// Bytes behind the primary, coarse; of replicas.
    pub lag_bytes: u64,
    /// It streams from the primary of this epoch; of replicas.
    pub streaming: bool,
}

/// What is set for an instance; None is the proxy's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Clients at once.
    pub max_clients: Option<u32>,
    /// Clients of one user at once.
    pub max_clients_per_user: Option<u32>,
    /// Connections to one backend.
    pub max_backends: Option<u32>,
    /// How server connections are shared.
    pub pooling: Option<Pooling>,
    /// How long a client may be held.
    pub hold: Option<Duration>,
    /// Where readers go when no replica is fit.
    pub read_fallback: ReadFallback,
}

/// How server connections are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// A client keeps one as long as it is connected.
    Session,
    /// A client has one while it is in a transaction.
    Transaction,
}

/// Where readers go when no replica is fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFallback {
    /// To the primary.
    Primary,
    /// Nowhere.
    Refuse,
}

impl Route {
    /// `instance.project`, by which clients ask for it.
    pub fn key(&self) -> String {
        format!("{}.{}", self.name, self.project)
    }

    /// The later of two is the one to follow.
    pub fn version(&self) -> (u64, u64) {
        (self.epoch, self.rev)
    }

    /// Whether the primary must prove its epoch before it is written to.
    pub fn is_replicated(&self) -> bool {
        self.epoch > 0
    }

    /// Where a reader goes: the streaming replica with the least lag, else by the fallback.
    pub fn reader(&self) -> Option<&Backend> {
        let fit = self.replicas.iter().filter(|replica| replica.streaming).min_by_key(|replica| replica.lag_bytes);
        match (fit, self.settings.read_fallback) {
            (Some(replica), _) => Some(replica),
            (None, ReadFallback::Primary) => self.primary.as_ref(),
            (None, ReadFallback::Refuse) => None,
        }
    }
}

impl Route {
    /// Reads one. `ca_pem` is the CA of backends if the route names none.
    ///
    /// # Errors
    /// `INVALID_FIELD` on what makes no sense.
    pub fn read(wire: &pb::Route, ca_pem: &Arc<str>) -> Result<Self, Error> {
        let state = match wire.state() {
            pb::route::State::Open => State::Open,
            pb::route::State::Paused => State::Paused(wire.reason.clone()),
            pb::route::State::Closed | pb::route::State::Unspecified => State::Closed(wire.reason.clone()),
        };
        let engine =
            wire.engine.parse().map_err(|_| Error::invalid("route.engine", format!("{:?} is unknown", wire.engine)))?;
        Ok(Self {
            instance: wire.instance_id.parse()?,
            project: wire.project.clone(),
            name: wire.instance.clone(),
            engine,
            epoch: wire.epoch,
            rev: wire.rev,
            state,
            primary: wire.primary.as_ref().map(Backend::try_from).transpose()?,
            replicas: wire.replicas.iter().map(Backend::try_from).collect::<Result<_, _>>()?,
            settings: Settings::from(wire.settings.as_ref()),
            ca_pem: if wire.ca_pem.is_empty() { ca_pem.clone() } else { wire.ca_pem.as_str().into() },
        })
    }
}

impl TryFrom<&pb::Backend> for Backend {
    type Error = Error;

    fn try_from(wire: &pb::Backend) -> Result<Self, Error> {
        let port = u16::try_from(wire.port)
            .map_err(|_| Error::invalid("route.backend.port", format!("{} is no port", wire.port)))?;
        Ok(Self {
            member: wire.member_id.parse()?,
            host: wire.host_name.clone(),
            address: wire.address.clone(),
            port,
            lag_bytes: wire.lag_bytes,
            streaming: wire.streaming,
        })
    }
}

impl From<Option<&pb::Settings>> for Settings {
    fn from(wire: Option<&pb::Settings>) -> Self {
        let wire = wire.cloned().unwrap_or_default();
        let some = |number: u32| (number > 0).then_some(number);
        Self {
            max_clients: some(wire.max_clients),
            max_clients_per_user: some(wire.max_clients_per_user),
            max_backends: some(wire.max_backends),
            pooling: match wire.pooling() {
                pb::settings::Pooling::Unspecified => None,
                pb::settings::Pooling::Session => Some(Pooling::Session),
                pb::settings::Pooling::Transaction => Some(Pooling::Transaction),
            },
            hold: wire.hold.and_then(|hold| Duration::try_from(hold).ok()).filter(|hold| !hold.is_zero()),
            read_fallback: match wire.read_fallback() {
                pb::settings::ReadFallback::Unspecified | pb::settings::ReadFallback::Primary => ReadFallback::Primary,
                pb::settings::ReadFallback::Refuse => ReadFallback::Refuse,
            },
        }
    }
}
