//! Wires the agent: members, journal, commands, link.
//!
//! Invariants: one agent for each state directory; databases are supervised from the start, whether or not the host has
//! enrolled or the control plane is there. On shutdown the agent ends within 5 s and leaves the databases alone; what is
//! not finished then is in the journal.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tonic::metadata::MetadataMap;
use uuid::Uuid;
use windlass_core::Error;
use windlass_kit::{
    failpoint::Failpoints,
    files::{self, Access},
    lock::StateLock,
    shutdown::{Shutdown, TaskKind},
};
use windlass_proto::agent::v1 as pb;

use crate::{
    commands::{Executor, Outbox},
    config::Config,
    ha::Replication,
    host::facts::{self, LoadMeter},
    journal::{FileStorage, Journal},
    link::{
        Enrolment, HostDescription, Link, LinkCertificates, LinkParts, LoadSource, Pace, ReplicationLink, TlsDialer,
        TokenSource, host_identity, keep_connected,
    },
    members::Members,
    peers::{self, Peers},
    status,
};

/// How long shutdown may take in all.
const SHUTDOWN: Duration = Duration::from_millis(4500);
/// How long running commands may still take when there is no connection.
const LAST_COMMANDS: Duration = Duration::from_millis(2500);

/// Runs the agent until shutdown.
///
/// # Errors
/// If it cannot start, or if a part that it cannot do without died.
pub async fn run(config: Config, token: TokenSource, shutdown: Shutdown) -> Result<(), Error> {
    // Database processes run as another user and have to pass through.
    files::create_directory(&config.state_dir, Access::Public)?;
    let _lock = StateLock::take(&config.state_dir).await?;
    let failpoints = Failpoints::from_env()?;
    let certificates = LinkCertificates::new();
    let opening = Members::open(config.members()?, Arc::new(certificates.clone()), failpoints.clone());
    let Some(members) = shutdown.token().run_until_cancelled(opening).await else { return Ok(()) };
    let members = members?;
    let journal = Journal::open(FileStorage::new(config.state_dir.join("journal")))?;
    let outbox = Outbox::default();
    let executor = Executor::start(members.clone(), journal, outbox.clone(), failpoints.clone());
    let session_id = Uuid::now_v7().to_string();
    let replicated = Replication::new(members.clone(), failpoints.clone())?;
    let replication = ReplicationLink::new(session_id.clone(), replicated.clone());
    let peer_listener = peers::listen(config.peer_listen).await?;
    let link = Arc::new(Link::new(LinkParts {
        session_id,
        host: HostDescription {
            boot_id: facts::boot_id()?,
            capacity: config.capacity(facts::capacity(&config.state_dir)?)?,
            address: config.address.clone(),
            ports: (config.port_low, config.port_high),
            peer_port: peer_listener.local_addr().map_or(0, |address| address.port()),
        },
        load: Arc::new(MachineLoad { meter: Mutex::default(), disk: config.state_dir.clone() }),
        target: members.clone(),
        executor: executor.clone(),
        outbox,
        replication: replication.clone(),
        certificates,
        failpoints,
        metadata: MetadataMap::new(),
    }));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), state_dir = %config.state_dir.display(), "agent started");

    let (supervised, token_of) = (members.clone(), shutdown.token().clone());
    shutdown.spawn("members", TaskKind::Vital, async move {
        supervised.run(token_of).await;
        Ok(())
    });
    let token_of = shutdown.token().clone();
    shutdown.spawn("replication", TaskKind::Vital, async move {
        replicated.run(token_of).await;
        Ok(())
    });
    let (path, watched, on) = (config.state_dir.join("status.json"), link.status(), shutdown.clone());
    shutdown.spawn("status", TaskKind::Optional, async move { status::keep(&path, members, watched, &on).await });
    let on = shutdown.clone();
    shutdown.spawn("link", TaskKind::Vital, async move {
        let stop = on.token();
        let enrolment =
            Enrolment { identity_path: config.state_dir.join("identity.json"), token, host_name: config.name()? };
        let pace = Pace::default();
        if let Some(identity) = host_identity(&link, &enrolment, &config.endpoints, &pace, stop).await {
            let dialer = TlsDialer(identity.clone());
            let peers = Peers::new(replication, identity.clone());
            let (answering, of_peers) = (peers.clone(), on.clone());
            on.spawn(
                "peer listener",
                TaskKind::Optional,
                async move { answering.answer(peer_listener, &of_peers).await },
            );
            tokio::select! {
                () = peers.watch() => {}
                () = keep_connected(&link, &dialer, &config.endpoints, Some(&identity), &pace, stop) => {}
            }
        }
        executor.stop(LAST_COMMANDS).await;
        executor.settle().await;
        Ok(())
    });
    shutdown.finish(SHUTDOWN).await
}

/// The load of this machine.
struct MachineLoad {
    meter: Mutex<LoadMeter>,
    disk: PathBuf,
}

impl LoadSource for MachineLoad {
    fn sample(&self) -> pb::HostFacts {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner).sample(&self.disk)
    }
}
