//! One connection to each peer, made when it is needed and made anew when it is given up.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tonic::transport::Channel;
use windlass_core::Error;
use windlass_kit::tls::{self, Trust};
use windlass_proto::agent::v1::{self as pb, peer_service_client::PeerServiceClient};

use crate::link::HostIdentity;

pub(super) type Client = PeerServiceClient<Channel>;

/// Connections by host.
pub(super) struct Connections {
    identity: Arc<HostIdentity>,
    hosts: Mutex<BTreeMap<String, Slot>>,
}

/// Locked while it is dialled, so that one dial serves all that wait.
type Slot = Arc<tokio::sync::Mutex<Option<Client>>>;

impl Connections {
    pub(super) fn new(identity: Arc<HostIdentity>) -> Self {
        Self { identity, hosts: Mutex::default() }
    }

    /// The connection to a peer. Give it a time limit: a peer that is cut off does not refuse.
    pub(super) async fn get(&self, peer: &pb::Peer) -> Result<Client, Error> {
        let slot = self.hosts().entry(peer.host_id.clone()).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(client) = &*slot {
            return Ok(client.clone());
        }
        let host = peer.host_id.parse()?;
        let trust = Trust::Host(self.identity.authorities()?, host);
        // An IPv6 address needs its brackets.
        let address = match peer.address.parse::<std::net::Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => peer.address.clone(),
        };
        let endpoint = format!("https://{address}:{}", peer.port);
        let client = Client::new(tls::connect(&endpoint, &trust, Some(self.identity.store())).await?);
        *slot = Some(client.clone());
        Ok(client)
    }

    /// Gives up the connection to a peer, also one that is being dialled.
    pub(super) fn give_up(&self, host: &str) {
        self.hosts().remove(host);
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
