//! A small control plane for the agent's tests: the real services over real TLS, with everything in memory.
//!
//! It queues what a test tells it, remembers what agents say, and can be rude: revoke, drain, lose answers, refuse to
//! acknowledge, die and come back on the same port.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData as _, SanType,
};
use secrecy::ExposeSecret as _;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::watch,
    time::timeout,
};
use tonic::{Request, Response, Status};
use windlass_core::id::{CommandId, HostId, InstanceId, JoinTokenId, MemberId};
use windlass_kit::{
    shutdown::Shutdown,
    tls::{self, Authorities, Identity, IdentityStore, Limits, Pin},
    token::JoinToken,
};
use windlass_proto::agent::v1::{
    self as pb,
    agent_service_server::{AgentService, AgentServiceServer},
    enrolment_service_server::{EnrolmentService, EnrolmentServiceServer},
};

/// How long anything may take in these tests.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// A control plane that listens.
pub(crate) struct Plane {
    pub(crate) endpoint: String,
    address: SocketAddr,
    ca: Arc<Ca>,
    shared: Arc<Shared>,
    /// A runtime of its own: when it goes, all connections go with it, as when a process dies.
    runtime: Option<Runtime>,
}

/// A CA for one test; several planes may share it.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    pub(crate) pin: Pin,
}

struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    ca: Arc<Ca>,
}

/// What was said and what is to be said. Tests read and write it.
pub(crate) struct State {
    pub(crate) cadence: pb::Cadence,
    /// Life of the certificates that are issued, seconds.
    pub(crate) certificate_life: u64,
    pub(crate) queue: VecDeque<pb::Command>,
    pub(crate) cancels: Vec<String>,
    /// Tokens that are good; the key that used one, once it did.
    pub(crate) tokens: BTreeMap<String, Option<Vec<u8>>>,
    /// Enrolments whose answer is lost.
    pub(crate) lose_answers: u32,
    pub(crate) revoked: Revoked,
    pub(crate) acknowledge: Acknowledge,
    pub(crate) wanted_catalogues: Vec<String>,
    pub(crate) enrolments: Vec<pb::EnrolRequest>,
    pub(crate) hellos: Vec<pb::HelloRequest>,
    /// Leaf certificate of each hello.
    pub(crate) leaves: Vec<Vec<u8>>,
    pub(crate) polls: Vec<pb::PollRequest>,
    /// Every report of every result, in order.
    pub(crate) results: Vec<pb::CommandResult>,
    pub(crate) heartbeats: Vec<pb::HeartbeatRequest>,
    /// Up to which sequence happenings are said to be stored; None says what is true.
    pub(crate) happenings_stored: Option<u64>,
    pub(crate) catalogues: Vec<pb::PutCatalogueRequest>,
    pub(crate) renewals: u32,
    /// Replication reports with who brought them.
    pub(crate) replication_reports: Vec<(HostId, pb::ReplicationReport)>,
    pub(crate) reports: Reports,
    /// What each host is ordered.
    pub(crate) orders: BTreeMap<HostId, pb::ReplicationOrders>,
    pub(crate) watches: u64,
    /// For each session the number of the poll that may take commands: the latest. An older one may be parked on a
    /// connection that is gone.
    turns: BTreeMap<String, usize>,
    /// The last attempt under which each command was handed to a poll.
    pub(crate) attempts: BTreeMap<String, u32>,
    /// Results that were acknowledged.
    pub(crate) accepted: BTreeMap<String, pb::CommandResult>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Revoked {
    No,
    Yes,
}

/// Whether replication reports are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reports {
    Answered,
    /// They arrive, and no answer comes.
    HeldUp,
}

/// Which results are acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Acknowledge {
    All,
    /// Only those of this attempt.
    Attempt(u32),
    /// Those of the delivery that counts, the last one, as the true control plane does.
    Latest,
}

impl Ca {
    pub(crate) fn new() -> Arc<Self> {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).expect("CA");
        let (pem, pin) = (certificate.pem(), Pin::of(certificate.der()));
        Arc::new(Self { issuer: Issuer::new(params, key), pem, pin })
    }

    fn server(&self) -> Arc<IdentityStore> {
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("name");
        let leaf = params.signed_by(&key, &self.issuer).expect("leaf");
        let chain = format!("{}{}", leaf.pem(), self.pem);
        IdentityStore::new(Identity::from_pem(&chain, &key.serialize_pem().into()).expect("identity"))
    }

    fn sign(&self, csr_der: &[u8], life: u64, host: HostId) -> Result<pb::CertificateBundle, Status> {
        let csr = CertificateSigningRequestParams::from_der(&csr_der.to_vec().into())
            .map_err(|_| Status::invalid_argument("csr_der is no request"))?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(tls::host_uri(host).try_into().expect("URI"))];
        let now = u64::try_from(Timestamp::now().as_second()).expect("after 1970");
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(now);
        params.not_after = epoch + Duration::from_secs(now + life);
        let leaf = params.signed_by(&csr.public_key, &self.issuer).expect("leaf");
        Ok(pb::CertificateBundle { chain_pem: leaf.pem(), ca_pem: self.pem.clone(), ..Default::default() })
    }
}

impl Plane {
    pub(crate) async fn start() -> Self {
        Self::start_with(Ca::new()).await
    }

    pub(crate) async fn start_with(ca: Arc<Ca>) -> Self {
        let state = State {
            cadence: cadence(200, 1000),
            certificate_life: 3600,
            queue: VecDeque::new(),
            cancels: Vec::new(),
            tokens: BTreeMap::new(),
            lose_answers: 0,
            revoked: Revoked::No,
            acknowledge: Acknowledge::All,
            wanted_catalogues: Vec::new(),
            enrolments: Vec::new(),
            hellos: Vec::new(),
            leaves: Vec::new(),
            polls: Vec::new(),
            results: Vec::new(),
            heartbeats: Vec::new(),
            happenings_stored: None,
            catalogues: Vec::new(),
            renewals: 0,
            replication_reports: Vec::new(),
            reports: Reports::Answered,
            orders: BTreeMap::new(),
            watches: 0,
            turns: BTreeMap::new(),
            attempts: BTreeMap::new(),
            accepted: BTreeMap::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: watch::Sender::new(0), ca: ca.clone() });
        let address = "127.0.0.1:0".parse().expect("address");
        let mut plane = Self { endpoint: String::new(), address, ca, shared, runtime: None };
        plane.up().await;
        plane
    }

    /// Listens, on the same port as before if there was one.
    pub(crate) async fn up(&mut self) {
        let listener = self.listen().await;
        self.address = listener.local_addr().expect("address");
        self.endpoint = format!("https://{}", self.address);
        let (ca, service) = (self.ca.clone(), Service(self.shared.clone()));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("listener");
            let authorities = Authorities::from_pem(&ca.pem).expect("authorities");
            let shutdown = Shutdown::new();
            let incoming =
                tls::serve(listener, ca.server(), &authorities, Limits::default(), &shutdown).expect("serves");
            tonic::transport::Server::builder()
                .max_concurrent_streams(10_000)
                .add_service(EnrolmentServiceServer::new(service.clone()))
                .add_service(AgentServiceServer::new(service))
                .serve_with_incoming(incoming)
                .await
                .expect("serves");
        });
        self.runtime = Some(runtime);
    }

    /// The port; one that was had before may need a moment to be free.
    async fn listen(&self) -> std::net::TcpListener {
        let begun = Instant::now();
        loop {
            match std::net::TcpListener::bind(self.address) {
                Ok(listener) => {
                    listener.set_nonblocking(true).expect("non-blocking");
                    return listener;
                }
                Err(error) => assert!(begun.elapsed() < BOUND, "{}: {error}", self.address),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Dies: connections break.
    pub(crate) fn down(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// A token that is good.
    pub(crate) fn token(&self) -> String {
        let token = JoinToken::generate(JoinTokenId::new(), self.ca.pin).text().expose_secret().to_owned();
        self.state().tokens.insert(token.clone(), None);
        token
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// Queues a command and wakes parked polls.
    pub(crate) fn queue(&self, command: pb::Command) {
        self.state().queue.push_back(command);
        self.shared.bump();
    }

    /// Changes what a host is ordered and wakes parked watches.
    pub(crate) fn order(&self, host: HostId, orders: pb::ReplicationOrders) {
        self.state().orders.insert(host, orders);
        self.shared.bump();
    }

    pub(crate) fn cancel(&self, uid: &str) {
        self.state().cancels.push(uid.to_owned());
        self.shared.bump();
    }

    /// Waits until the state gives something.
    pub(crate) async fn wait<T>(&self, what: &str, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changed = self.shared.changed.subscribe();
        let found = async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = look(&mut self.state()) {
                    return found;
                }
                changed.changed().await.expect("the plane lives");
            }
        };
        timeout(BOUND, found).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
    }

    /// Waits for the first result of a command.
    pub(crate) async fn result(&self, uid: &str) -> pb::CommandResult {
        self.wait("a result", |state| state.results.iter().find(|result| result.uid == uid).cloned()).await
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.down();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }

    fn bump(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// Remembers something, unless the host is revoked.
    fn hear<T>(&self, hear: impl FnOnce(&mut State) -> T) -> Result<T, Status> {
        let heard = {
            let mut state = self.state();
            if state.revoked == Revoked::Yes {
                return Err(Status::permission_denied("the host was revoked"));
            }
            hear(&mut state)
        };
        self.bump();
        Ok(heard)
    }
}

pub(crate) fn cadence(heartbeat_ms: i32, hold_ms: i32) -> pb::Cadence {
    let duration = |ms: i32| Some(pbjson_types::Duration { seconds: (ms / 1000).into(), nanos: ms % 1000 * 1_000_000 });
    pb::Cadence {
        heartbeat_every: duration(heartbeat_ms),
        poll_hold: duration(hold_ms),
        reconnect_spread: duration(50),
        drain: false,
    }
}

/// A command for a member; give it a body.
pub(crate) fn command(member: MemberId, body: pb::command::Body) -> pb::Command {
    pb::Command {
        uid: CommandId::new().to_string(),
        attempt: 1,
        epoch: 1,
        generation: 1,
        instance_id: InstanceId(member.0).to_string(),
        member_id: member.to_string(),
        timeout: Some(pbjson_types::Duration { seconds: 60, nanos: 0 }),
        body: Some(body),
    }
}

/// Makes a member, or changes it if the generation is higher.
pub(crate) fn apply(member: MemberId, generation: u64) -> pb::Command {
    let goal = pb::MemberGoal {
        instance_id: InstanceId(member.0).to_string(),
        member_id: member.to_string(),
        title: "demo/test".to_owned(),
        generation,
        engine: "postgres".to_owned(),
        version: "15".to_owned(),
        port: 20_000,
        power: pb::member_goal::Power::On.into(),
        data: pb::member_goal::DataSource::Initialise.into(),
        ..pb::MemberGoal::default()
    };
    pb::Command { generation, ..command(member, pb::command::Body::ApplyMember(pb::ApplyMember { goal: Some(goal) })) }
}

pub(crate) fn succeeded(result: &pb::CommandResult) -> pb::MemberFacts {
    match result.outcome.clone() {
        Some(pb::command_result::Outcome::Succeeded(facts)) => facts,
        other => panic!("did not succeed: {other:?}"),
    }
}

pub(crate) fn failed(result: &pb::CommandResult) -> pb::Failure {
    match result.outcome.clone() {
        Some(pb::command_result::Outcome::Failed(failure)) => failure,
        other => panic!("did not fail: {other:?}"),
    }
}

#[derive(Clone)]
struct Service(Arc<Shared>);

#[tonic::async_trait]
impl EnrolmentService for Service {
    async fn enrol(&self, request: Request<pb::EnrolRequest>) -> Result<Response<pb::EnrolResponse>, Status> {
        let request = request.into_inner();
        let csr = CertificateSigningRequestParams::from_der(&request.csr_der.clone().into())
            .map_err(|_| Status::invalid_argument("csr_der is no request"))?;
        let key = csr.public_key.der_bytes().to_vec();
        let (life, lost) = {
            let mut state = self.0.state();
            state.enrolments.push(request.clone());
            let used = state
                .tokens
                .get_mut(&request.token)
                .ok_or_else(|| Status::unauthenticated("the join token is unknown, used, revoked or expired"))?;
            if used.get_or_insert(key.clone()) != &key {
                return Err(Status::unauthenticated("the join token is used"));
            }
            let lost = state.lose_answers > 0;
            state.lose_answers = state.lose_answers.saturating_sub(1);
            (state.certificate_life, lost)
        };
        self.0.bump();
        if lost {
            return Err(Status::unavailable("the answer was lost"));
        }
        let host = HostId::new();
        Ok(Response::new(pb::EnrolResponse {
            host_id: host.to_string(),
            host_name: request.host_name,
            certificate: Some(self.0.ca.sign(&request.csr_der, life, host)?),
        }))
    }
}

#[tonic::async_trait]
impl AgentService for Service {
    async fn hello(&self, request: Request<pb::HelloRequest>) -> Result<Response<pb::HelloResponse>, Status> {
        let leaf = request.peer_certs().and_then(|chain| chain.first().map(|leaf| leaf.to_vec()));
        let leaf = leaf.ok_or_else(|| Status::unauthenticated("no client certificate"))?;
        let response = self.0.hear(|state| {
            state.hellos.push(request.into_inner());
            state.leaves.push(leaf);
            pb::HelloResponse { cadence: Some(state.cadence), wanted_catalogues: state.wanted_catalogues.clone() }
        })?;
        Ok(Response::new(response))
    }

    async fn poll(&self, request: Request<pb::PollRequest>) -> Result<Response<pb::PollResponse>, Status> {
        let request = request.into_inner();
        let (most, session) = (request.max_commands as usize, request.session_id.clone());
        let mut changed = self.0.changed.subscribe();
        let (hold, turn) = self.0.hear(|state| {
            state.polls.push(request);
            state.turns.insert(session.clone(), state.polls.len());
            (state.cadence.poll_hold, state.polls.len())
        })?;
        let look = async {
            loop {
                changed.borrow_and_update();
                {
                    let state = self.0.state();
                    if state.revoked == Revoked::Yes {
                        return Err(Status::permission_denied("the host was revoked"));
                    }
                    if state.turns.get(&session) != Some(&turn) {
                        return Err(Status::aborted("a newer poll took the place of this one"));
                    }
                    if !state.queue.is_empty() || !state.cancels.is_empty() || state.cadence.drain {
                        return Ok(());
                    }
                }
                changed.changed().await.expect("the plane lives");
            }
        };
        let hold = Duration::try_from(hold.unwrap_or_default()).unwrap_or_default();
        if let Ok(Err(status)) = timeout(hold, look).await {
            return Err(status);
        }
        let mut state = self.0.state();
        if state.turns.get(&session) != Some(&turn) {
            return Err(Status::aborted("a newer poll took the place of this one"));
        }
        let count = state.queue.len().min(most);
        let commands: Vec<_> = state.queue.drain(..count).collect();
        state.attempts.extend(commands.iter().map(|command| (command.uid.clone(), command.attempt)));
        let cancels = std::mem::take(&mut state.cancels);
        Ok(Response::new(pb::PollResponse { commands, cancels, cadence: Some(state.cadence) }))
    }

    async fn report(&self, request: Request<pb::ReportRequest>) -> Result<Response<pb::ReportResponse>, Status> {
        let results = request.into_inner().results;
        let acknowledged = self.0.hear(|state| {
            let good = |result: &pb::CommandResult| match state.acknowledge {
                Acknowledge::All => true,
                Acknowledge::Attempt(attempt) => result.attempt == attempt,
                Acknowledge::Latest => {
                    state.attempts.get(&result.uid) == Some(&result.attempt) || state.accepted.contains_key(&result.uid)
                }
            };
            let good: Vec<_> = results.iter().filter(|result| good(result)).cloned().collect();
            let acknowledged = good.iter().map(|result| result.uid.clone()).collect();
            for result in good {
                state.accepted.entry(result.uid.clone()).or_insert(result);
            }
            state.results.extend(results);
            acknowledged
        })?;
        Ok(Response::new(pb::ReportResponse { acknowledged }))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let response = self.0.hear(|state| {
            let true_sequence = request.happenings.last().map_or(0, |happening| happening.sequence);
            state.heartbeats.push(request);
            let happenings_stored = state.happenings_stored.unwrap_or(true_sequence);
            pb::HeartbeatResponse { cadence: Some(state.cadence), happenings_stored }
        })?;
        Ok(Response::new(response))
    }

    async fn put_catalogue(
        &self,
        request: Request<pb::PutCatalogueRequest>,
    ) -> Result<Response<pb::PutCatalogueResponse>, Status> {
        self.0.hear(|state| state.catalogues.push(request.into_inner()))?;
        Ok(Response::new(pb::PutCatalogueResponse {}))
    }

    async fn renew_certificate(
        &self,
        request: Request<pb::RenewCertificateRequest>,
    ) -> Result<Response<pb::CertificateBundle>, Status> {
        let life = self.0.hear(|state| {
            state.renewals += 1;
            state.certificate_life
        })?;
        let host = caller(&request);
        Ok(Response::new(self.0.ca.sign(&request.into_inner().csr_der, life, host)?))
    }

    async fn issue_member_certificate(
        &self,
        request: Request<pb::IssueMemberCertificateRequest>,
    ) -> Result<Response<pb::CertificateBundle>, Status> {
        let host = caller(&request);
        Ok(Response::new(self.0.ca.sign(&request.into_inner().csr_der, 3600, host)?))
    }

    async fn report_replication(
        &self,
        request: Request<pb::ReplicationReport>,
    ) -> Result<Response<pb::ReplicationOrders>, Status> {
        let (caller, report) = (caller(&request), request.into_inner());
        let (orders, held_up) = self.0.hear(|state| {
            // What is relayed is answered for its own host.
            let host = report.relayed.first().map_or(caller, |relayed| relayed.host_id.parse().expect("a host"));
            state.replication_reports.push((caller, report));
            (state.orders.get(&host).cloned().unwrap_or_default(), state.reports == Reports::HeldUp)
        })?;
        if held_up {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(orders))
    }

    async fn watch_replication(
        &self,
        request: Request<pb::ReplicationWatch>,
    ) -> Result<Response<pb::ReplicationOrders>, Status> {
        let (host, known) = (caller(&request), request.into_inner().known);
        let mut changed = self.0.changed.subscribe();
        let hold = self.0.hear(|state| {
            state.watches += 1;
            state.cadence.poll_hold
        })?;
        let news = async {
            loop {
                changed.borrow_and_update();
                let orders = self.0.state().orders.get(&host).cloned().unwrap_or_default();
                let is_known = |order: &pb::ReplicationOrder| {
                    known.iter().any(|known| known.member_id == order.member_id && known.rev == order.rev)
                };
                if !orders.orders.iter().all(is_known) {
                    return orders;
                }
                changed.changed().await.expect("the plane lives");
            }
        };
        let hold = Duration::try_from(hold.unwrap_or_default()).unwrap_or_default();
        let held = timeout(hold, news).await;
        let orders = held.unwrap_or_else(|_| self.0.state().orders.get(&host).cloned().unwrap_or_default());
        Ok(Response::new(orders))
    }
}

/// Which host is calling.
fn caller<M>(request: &Request<M>) -> HostId {
    let chain = request.peer_certs();
    tls::peer_host(chain.as_ref().map(|chain| chain.as_slice()), Timestamp::now()).expect("a host").host
}
