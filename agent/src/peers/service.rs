//! The answering end.

use std::sync::Arc;

use jiff::Timestamp;
use tonic::{Request, Response, Status};
use windlass_core::id::HostId;
use windlass_kit::tls::peer_host;
use windlass_proto::agent::v1::{self as pb, peer_service_server::PeerService};

use super::Peers;

pub(super) struct Service(pub(super) Arc<Peers>);

/// Which host is calling; it must be the one that it says it is.
fn caller<M>(request: &Request<M>, named: &str) -> Result<HostId, Status> {
    let chain = request.peer_certs();
    let peer = peer_host(chain.as_ref().map(|chain| chain.as_slice()), Timestamp::now())
        .map_err(|error| Status::unauthenticated(error.message))?;
    if named.parse() == Ok(peer.host) {
        Ok(peer.host)
    } else {
        Err(Status::permission_denied(format!("host {} calls in the name of {named:?}", peer.host)))
    }
}

#[tonic::async_trait]
impl PeerService for Service {
    async fn probe(&self, request: Request<pb::ProbeRequest>) -> Result<Response<pb::ProbeResponse>, Status> {
        caller(&request, &request.get_ref().host_id)?;
        let (link, epochs) = (&self.0.link, request.into_inner().epochs);
        link.target().shown(&epochs);
        Ok(Response::new(pb::ProbeResponse {
            host_id: self.0.identity.host_id().to_string(),
            epochs: link.target().epochs(),
            connected: link.contact().is_fresh(),
        }))
    }

    async fn relay(&self, request: Request<pb::SignedReport>) -> Result<Response<pb::ReplicationOrders>, Status> {
        caller(&request, &request.get_ref().host_id)?;
        let handed_on = self.0.link.hand_on(request.into_inner()).await;
        handed_on.map(Response::new).map_err(|error| Status::unavailable(error.message))
    }
}
