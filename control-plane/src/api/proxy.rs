//! The proxies' services. Only translates: who is calling is read from the certificate, the work is done by the route
//! book and by the use cases of proxies.
//!
//! Invariant: every call but enrolment shows a certificate that is valid now, of a proxy that was not revoked when its
//! last long call began.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use windlass_core::{Error, id::ProxyId};
use windlass_db::proxies::ProxyHello;
use windlass_proto::proxy::v1::{
    self as pb, enrolment_service_server::EnrolmentService, proxy_service_server::ProxyService,
};

use super::{
    convert::{time, to_duration},
    error::status,
};
use crate::{
    app::{Context, proxies},
    ha::NOT_HERE,
    pki::{SignedCert, peer_proxy},
    routes::{Answer, Backend, Route, State},
};

/// Proxies are few; they come back soon.
const RECONNECT_SPREAD: SignedDuration = SignedDuration::from_millis(500);

/// Implements the proxies' services.
#[derive(Debug, Clone)]
pub struct ProxyApi {
    ctx: Arc<Context>,
    draining: CancellationToken,
}

impl ProxyApi {
    /// The services over shared parts; `draining` is cancelled when this node is to go away.
    pub fn new(ctx: Arc<Context>, draining: CancellationToken) -> Self {
        Self { ctx, draining }
    }

    fn peer<M>(request: &Request<M>) -> Result<ProxyId, Error> {
        let chain = request.peer_certs();
        peer_proxy(chain.as_ref().map(|chain| chain.as_slice()), Timestamp::now())
    }

    async fn say_hello(&self, request: Request<pb::HelloRequest>) -> Result<pb::HelloResponse, Error> {
        let proxy = Self::peer(&request)?;
        let hello = request.into_inner();
        let hello = ProxyHello {
            version: hello.proxy_version,
            session_id: hello.session_id,
            address: hello.address,
            port: u16::try_from(hello.port)
                .map_err(|_| Error::invalid("port", format!("{} is no port", hello.port)))?,
            domain: hello.domain,
        };
        proxies::hello(&self.ctx, proxy, &hello).await?;
        Ok(pb::HelloResponse {
            poll_hold: Some(to_duration(self.ctx.config.cadence.poll_hold)),
            reconnect_spread: Some(to_duration(RECONNECT_SPREAD)),
        })
    }

    async fn hold_watch(&self, request: Request<pb::WatchRoutesRequest>) -> Result<pb::WatchRoutesResponse, Error> {
        let proxy = Self::peer(&request)?;
        proxies::heard(&self.ctx, proxy).await?;
        let watch = request.into_inner();
        let reports = self.ctx.routes.reports();
        reports.heard(proxy, &watch.session_id);
        let hold = self.ctx.config.cadence.poll_hold.unsigned_abs();
        let answer = tokio::select! {
            answer = self.ctx.routes.watch(&watch.cursor, hold) => answer,
            () = self.draining.cancelled() => return Err(Error::unavailable("this node is going away")),
        };
        reports.heard(proxy, &watch.session_id);
        Ok(wire(answer))
    }

    async fn take_report(&self, request: Request<pb::ReportRequest>) -> Result<pb::ReportResponse, Error> {
        let proxy = Self::peer(&request)?;
        // Whoever decides must see pauses and evidence, or a switchover would not wait for this proxy.
        if !self.ctx.ha.decides() {
            return Err(Error::unavailable(NOT_HERE));
        }
        let report = request.into_inner();
        let reports = self.ctx.routes.reports();
        if !reports.knows(proxy, &report.session_id) {
            proxies::heard(&self.ctx, proxy).await?;
        }
        // What names no instance or member is of a newer proxy, or nonsense; neither is worth a refusal.
        let pauses =
            report.pauses.iter().filter_map(|pause| Some((pause.instance_id.parse().ok()?, pause.rev, pause.held)));
        let evidence = report.evidence.into_iter().filter_map(|seen| {
            let (instance, member) = (seen.instance_id.parse().ok()?, seen.member_id.parse().ok()?);
            Some((instance, member, seen.connects_failed, seen.connects_done, seen.last_error))
        });
        reports.take(proxy, &report.session_id, pauses.collect(), evidence.collect());
        Ok(pb::ReportResponse {})
    }

    async fn renew(&self, request: Request<pb::CertificateRequest>) -> Result<pb::CertificateBundle, Error> {
        let proxy = Self::peer(&request)?;
        let signed = proxies::renew(&self.ctx, proxy, &request.into_inner().csr_der).await?;
        Ok(self.bundle(signed))
    }

    async fn issue_server(&self, request: Request<pb::CertificateRequest>) -> Result<pb::CertificateBundle, Error> {
        let proxy = Self::peer(&request)?;
        let signed = proxies::sign_server(&self.ctx, proxy, &request.into_inner().csr_der).await?;
        Ok(self.bundle(signed))
    }

    fn bundle(&self, signed: SignedCert) -> pb::CertificateBundle {
        pb::CertificateBundle {
            chain_pem: signed.chain_pem,
            ca_pem: self.ctx.authority.ca_pem().to_owned(),
            not_before: Some(time(signed.not_before)),
            not_after: Some(time(signed.not_after)),
        }
    }
}

fn answer<T>(outcome: Result<T, Error>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(|error| status(&error))
}

#[tonic::async_trait]
impl EnrolmentService for ProxyApi {
    async fn enrol(&self, request: Request<pb::EnrolRequest>) -> Result<Response<pb::EnrolResponse>, Status> {
        let request = request.into_inner();
        let enrolled = proxies::enrol(&self.ctx, &request.token, &request.csr_der, &request.proxy_name).await;
        answer(enrolled.map(|enrolled| pb::EnrolResponse {
            proxy_id: enrolled.proxy.to_string(),
            proxy_name: enrolled.name,
            certificate: Some(self.bundle(enrolled.certificate)),
        }))
    }
}

#[tonic::async_trait]
impl ProxyService for ProxyApi {
    async fn hello(&self, request: Request<pb::HelloRequest>) -> Result<Response<pb::HelloResponse>, Status> {
        answer(self.say_hello(request).await)
    }

    async fn watch_routes(
        &self,
        request: Request<pb::WatchRoutesRequest>,
    ) -> Result<Response<pb::WatchRoutesResponse>, Status> {
        answer(self.hold_watch(request).await)
    }

    async fn report(&self, request: Request<pb::ReportRequest>) -> Result<Response<pb::ReportResponse>, Status> {
        answer(self.take_report(request).await)
    }

    async fn renew_certificate(
        &self,
        request: Request<pb::CertificateRequest>,
    ) -> Result<Response<pb::CertificateBundle>, Status> {
        answer(self.renew(request).await)
    }

    async fn issue_server_certificate(
        &self,
        request: Request<pb::CertificateRequest>,
    ) -> Result<Response<pb::CertificateBundle>, Status> {
        answer(self.issue_server(request).await)
    }
}

fn wire(answer: Answer) -> pb::WatchRoutesResponse {
    pb::WatchRoutesResponse {
        cursor: answer.cursor,
        full: answer.full,
        routes: answer.routes.iter().map(|known| route(known)).collect(),
        removed: answer.removed.iter().map(ToString::to_string).collect(),
    }
}

fn route(route: &Route) -> pb::Route {
    let (state, reason) = match &route.state {
        State::Open => (pb::route::State::Open, ""),
        State::Paused(why) => (pb::route::State::Paused, why.as_str()),
        State::Closed(why) => (pb::route::State::Closed, why.as_str()),
    };
    pb::Route {
        instance_id: route.instance.to_string(),
        project: route.project.clone(),
        instance: route.name.clone(),
        engine: route.engine.to_string(),
        epoch: route.epoch,
        rev: route.rev,
        state: state.into(),
        primary: route.primary.as_ref().map(backend),
        replicas: route.replicas.iter().map(backend).collect(),
        settings: None,
        reason: reason.to_owned(),
        ca_pem: String::new(),
    }
}

fn backend(backend: &Backend) -> pb::Backend {
    pb::Backend {
        member_id: backend.member.to_string(),
        host_name: backend.host_name.clone(),
        address: backend.address.clone(),
        port: backend.port.into(),
        lag_bytes: backend.lag_bytes,
        streaming: backend.streaming,
    }
}
