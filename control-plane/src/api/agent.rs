//! The agents' services. Only translates: who is calling is read from the certificate, the work is done by the queue,
//! by health and by the use cases of agents.
//!
//! Invariants: every call but enrolment passes [`AgentApi::peer`], so that an expired or revoked certificate is refused
//! on a connection that was made before; every call of a host is a sign of life.

mod convert;

use std::sync::Arc;

use jiff::Timestamp;
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use windlass_core::{Error, id::HostId};
use windlass_db::catalogues::CatalogueReport;
use windlass_kit::tls::{Authorities, signed_by};
use windlass_proto::agent::v1::{
    self as pb, agent_service_server::AgentService, enrolment_service_server::EnrolmentService,
};

use super::error::status;
use crate::{
    app::{Context, agents},
    ha::Watch,
    pki::peer_host,
    queue::{Poll, Queue},
};

/// Most the reconnects of a fleet are spread over, for each host of it.
const SPREAD_PER_HOST: jiff::SignedDuration = jiff::SignedDuration::from_millis(2);

/// Implements the agents' services.
#[derive(Debug, Clone)]
pub struct AgentApi {
    ctx: Arc<Context>,
    queue: Queue,
    draining: CancellationToken,
}

impl AgentApi {
    /// The services over shared parts; `draining` is cancelled when this node is to go away.
    pub fn new(ctx: Arc<Context>, queue: Queue, draining: CancellationToken) -> Self {
        Self { ctx, queue, draining }
    }

    /// Which host is calling.
    async fn peer<M>(&self, request: &Request<M>) -> Result<HostId, Error> {
        let chain = request.peer_certs();
        let peer = peer_host(chain.as_ref().map(|chain| chain.as_slice()), Timestamp::now())?;
        self.ctx.health.admit(peer.host, &peer.serial).await?;
        Ok(peer.host)
    }

    fn cadence(&self) -> pb::Cadence {
        let config = &self.ctx.config.cadence;
        let hosts = i32::try_from(self.ctx.health.hosts()).unwrap_or(i32::MAX);
        pb::Cadence {
            heartbeat_every: Some(convert::duration(config.heartbeat_every)),
            poll_hold: Some(convert::duration(config.poll_hold)),
            reconnect_spread: Some(convert::duration(config.reconnect_spread + SPREAD_PER_HOST * hosts)),
            drain: self.draining.is_cancelled(),
        }
    }

    async fn say_hello(&self, request: Request<pb::HelloRequest>) -> Result<pb::HelloResponse, Error> {
        let host = self.peer(&request).await?;
        let hello = request.into_inner();
        let digests: Vec<_> = hello.engines.iter().map(|engine| engine.catalogue_digest.clone()).collect();
        self.ctx.health.hello(host, &convert::hello(hello)?).await?;
        let wanted_catalogues = self.ctx.db.catalogues_missing(&digests).await?;
        Ok(pb::HelloResponse { cadence: Some(self.cadence()), wanted_catalogues })
    }

    async fn hold_poll(&self, request: Request<pb::PollRequest>) -> Result<pb::PollResponse, Error> {
        let host = self.peer(&request).await?;
        self.ctx.health.heard(host).await?;
        let poll = request.into_inner();
        let poll = Poll {
            host,
            session: poll.session_id,
            running: poll.running.iter().filter_map(|uid| uid.parse().ok()).collect(),
            room: poll.max_commands,
        };
        let answer = tokio::select! {
            answer = self.queue.poll(poll, &self.draining) => answer?,
            refusal = self.ctx.health.until_revoked(host) => return Err(refusal),
        };
        Ok(pb::PollResponse {
            commands: answer.commands.into_iter().filter_map(convert::command).collect(),
            cancels: answer.cancels.iter().map(ToString::to_string).collect(),
            cadence: Some(self.cadence()),
        })
    }

    async fn take_report(&self, request: Request<pb::ReportRequest>) -> Result<pb::ReportResponse, Error> {
        let host = self.peer(&request).await?;
        self.ctx.health.heard(host).await?;
        let (mut reports, mut acknowledged) = (Vec::new(), Vec::new());
        for result in request.into_inner().results {
            match result.uid.parse() {
                Ok(uid) => reports.push(convert::report(host, uid, result)),
                // Nothing that we sent: the agent shall forget it.
                Err(_) => acknowledged.push(result.uid),
            }
        }
        acknowledged.extend(self.queue.report(reports).await?.iter().map(ToString::to_string));
        Ok(pb::ReportResponse { acknowledged })
    }

    async fn take_heartbeat(&self, request: Request<pb::HeartbeatRequest>) -> Result<pb::HeartbeatResponse, Error> {
        let host = self.peer(&request).await?;
        let happenings_stored = self.ctx.health.heartbeat(host, &convert::beat(request.into_inner())).await?;
        Ok(pb::HeartbeatResponse { cadence: Some(self.cadence()), happenings_stored })
    }

    /// A report of the host itself, with those of others that it hands on; or only the latter, and then the answer is
    /// that of the host whose report it is.
    async fn take_replication(&self, request: Request<pb::ReplicationReport>) -> Result<pb::ReplicationOrders, Error> {
        let host = self.peer(&request).await?;
        let mut report = request.into_inner();
        let mut handed_on = Err(Error::invalid("sequence", "is 0, and no report of another host comes along"));
        for relayed in std::mem::take(&mut report.relayed) {
            handed_on = self.take_relayed(relayed).await;
            if let Err(error) = &handed_on {
                tracing::info!(%host, error = error.chain(), "a report that was handed on is not taken");
            }
        }
        if report.sequence == 0 { handed_on } else { self.ctx.ha.report(host, report) }
    }

    /// A report that came by another agent: whose it is is proven by its signature.
    async fn take_relayed(&self, relayed: pb::SignedReport) -> Result<pb::ReplicationOrders, Error> {
        let (message, signature) = (&relayed.report, &relayed.signature);
        let authorities = Authorities::from_pem(self.ctx.authority.ca_pem())?;
        let peer = signed_by(&authorities, &relayed.certificate, message, signature, Timestamp::now())?;
        self.ctx.health.admit(peer.host, &peer.serial).await?;
        let report = pb::ReplicationReport::decode(&message[..])
            .map_err(|error| Error::invalid("relayed.report", format!("is not a report: {error}")))?;
        self.ctx.ha.report(peer.host, report)
    }

    async fn hold_watch(&self, request: Request<pb::ReplicationWatch>) -> Result<pb::ReplicationOrders, Error> {
        let host = self.peer(&request).await?;
        let watch = request.into_inner();
        let watch = Watch { host, session: watch.session_id, known: watch.known };
        tokio::select! {
            answer = self.ctx.ha.watch(watch, &self.draining) => answer,
            refusal = self.ctx.health.until_revoked(host) => Err(refusal),
        }
    }

    async fn store_catalogue(&self, request: Request<pb::PutCatalogueRequest>) -> Result<(), Error> {
        self.peer(&request).await?;
        let request = request.into_inner();
        let catalogue = convert::catalogue(&request)?;
        let pb::PutCatalogueRequest { engine, version, full_version, digest, .. } = request;
        self.ctx.db.catalogue_put(&CatalogueReport { engine, version, full_version, digest, catalogue }).await
    }

    async fn renew(&self, request: Request<pb::RenewCertificateRequest>) -> Result<pb::CertificateBundle, Error> {
        let host = self.peer(&request).await?;
        let signed = agents::renew(&self.ctx, host, &request.into_inner().csr_der).await?;
        Ok(convert::bundle(signed, self.ctx.authority.ca_pem()))
    }

    async fn sign_member(
        &self,
        request: Request<pb::IssueMemberCertificateRequest>,
    ) -> Result<pb::CertificateBundle, Error> {
        let host = self.peer(&request).await?;
        let request = request.into_inner();
        let member = request.member_id.parse()?;
        let signed = agents::sign_member(&self.ctx, host, member, &request.csr_der).await?;
        Ok(convert::bundle(signed, self.ctx.authority.ca_pem()))
    }
}

fn answer<T>(outcome: Result<T, Error>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(|error| status(&error))
}

#[tonic::async_trait]
impl EnrolmentService for AgentApi {
    async fn enrol(&self, request: Request<pb::EnrolRequest>) -> Result<Response<pb::EnrolResponse>, Status> {
        let request = request.into_inner();
        let enrolled = agents::enrol(&self.ctx, &request.token, &request.csr_der, &request.host_name).await;
        answer(enrolled.map(|enrolled| pb::EnrolResponse {
            host_id: enrolled.host.to_string(),
            host_name: enrolled.name,
            certificate: Some(convert::bundle(enrolled.certificate, self.ctx.authority.ca_pem())),
        }))
    }
}

#[tonic::async_trait]
impl AgentService for AgentApi {
    async fn hello(&self, request: Request<pb::HelloRequest>) -> Result<Response<pb::HelloResponse>, Status> {
        answer(self.say_hello(request).await)
    }

    async fn poll(&self, request: Request<pb::PollRequest>) -> Result<Response<pb::PollResponse>, Status> {
        answer(self.hold_poll(request).await)
    }

    async fn report(&self, request: Request<pb::ReportRequest>) -> Result<Response<pb::ReportResponse>, Status> {
        answer(self.take_report(request).await)
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatResponse>, Status> {
        answer(self.take_heartbeat(request).await)
    }

    async fn put_catalogue(
        &self,
        request: Request<pb::PutCatalogueRequest>,
    ) -> Result<Response<pb::PutCatalogueResponse>, Status> {
        answer(self.store_catalogue(request).await.map(|()| pb::PutCatalogueResponse {}))
    }

    async fn renew_certificate(
        &self,
        request: Request<pb::RenewCertificateRequest>,
    ) -> Result<Response<pb::CertificateBundle>, Status> {
        answer(self.renew(request).await)
    }

    async fn issue_member_certificate(
        &self,
        request: Request<pb::IssueMemberCertificateRequest>,
    ) -> Result<Response<pb::CertificateBundle>, Status> {
        answer(self.sign_member(request).await)
    }

    async fn report_replication(
        &self,
        request: Request<pb::ReplicationReport>,
    ) -> Result<Response<pb::ReplicationOrders>, Status> {
        answer(self.take_replication(request).await)
    }

    async fn watch_replication(
        &self,
        request: Request<pb::ReplicationWatch>,
    ) -> Result<Response<pb::ReplicationOrders>, Status> {
        answer(self.hold_watch(request).await)
    }
}
