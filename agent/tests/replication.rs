//! What the link and the peers do for replication, over real TLS: facts and orders, probes, gossip, and the way round a
//! control plane that is not reached.

mod plane;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use jiff::Timestamp;
use plane::{BOUND, Ca, Plane, Reports};
use prost::Message as _;
use tempfile::TempDir;
use tokio::{sync::watch, time::timeout};
use windlass_agent::{
    link::{Enrolment, HostIdentity, ReplicationTarget, TokenSource},
    sim::{SimAgent, SimConnection, SimPeers, SimPlan},
};
use windlass_core::id::HostId;
use windlass_kit::{
    clock::BootInstant,
    tls::{self, Authorities, Trust},
};
use windlass_proto::agent::v1::{self as pb, peer_service_client::PeerServiceClient};

/// One member that does nothing but remember.
struct Recorder {
    member: String,
    flushed: AtomicU64,
    changed: watch::Sender<u64>,
    taken: Mutex<Vec<pb::ReplicationOrder>>,
    shown: Mutex<Vec<pb::InstanceEpoch>>,
}

impl Recorder {
    fn new(member: &str) -> Arc<Self> {
        Arc::new(Self {
            member: member.to_owned(),
            flushed: AtomicU64::new(1),
            changed: watch::Sender::new(0),
            taken: Mutex::default(),
            shown: Mutex::default(),
        })
    }

    fn flush(&self, position: u64) {
        self.flushed.store(position, Ordering::Relaxed);
        self.changed.send_modify(|version| *version += 1);
    }

    fn rev(&self) -> u64 {
        self.taken.lock().expect("lock").iter().map(|order| order.rev).max().unwrap_or(0)
    }

    async fn takes(&self, rev: u64) {
        wait("an order to be taken", || self.rev() >= rev).await;
    }
}

#[async_trait]
impl ReplicationTarget for Recorder {
    fn facts(&self) -> Vec<pb::ReplicaFacts> {
        if self.member.is_empty() {
            return Vec::new();
        }
        let flushed_lsn = self.flushed.load(Ordering::Relaxed);
        vec![pb::ReplicaFacts { member_id: self.member.clone(), flushed_lsn, ..pb::ReplicaFacts::default() }]
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    async fn take(&self, orders: pb::ReplicationOrders, _sent_at: BootInstant) {
        self.taken.lock().expect("lock").extend(orders.orders);
    }

    fn known(&self) -> Vec<pb::KnownOrder> {
        let known = pb::KnownOrder { member_id: self.member.clone(), epoch: 1, rev: self.rev() };
        if known.rev == 0 { Vec::new() } else { vec![known] }
    }

    fn epochs(&self) -> Vec<pb::InstanceEpoch> {
        vec![pb::InstanceEpoch { instance_id: "i".to_owned(), epoch: self.flushed.load(Ordering::Relaxed) }]
    }

    fn shown(&self, epochs: &[pb::InstanceEpoch]) {
        self.shown.lock().expect("lock").extend(epochs.iter().cloned());
    }
}

async fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < BOUND, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn millis(millis: u64) -> Option<pbjson_types::Duration> {
    Some(pbjson_types::Duration { seconds: (millis / 1000).cast_signed(), nanos: (millis % 1000) as i32 * 1_000_000 })
}

fn orders(member: &str, rev: u64, report_every: u64) -> pb::ReplicationOrders {
    let order = pb::ReplicationOrder { member_id: member.to_owned(), epoch: 1, rev, ..pb::ReplicationOrder::default() };
    let orders = if rev == 0 { Vec::new() } else { vec![order] };
    pb::ReplicationOrders { report_every: millis(report_every), orders, ..pb::ReplicationOrders::default() }
}

/// An agent with its identity and what it remembers.
struct Host {
    agent: SimAgent,
    identity: Arc<HostIdentity>,
    recorder: Arc<Recorder>,
    directory: TempDir,
}

impl Host {
    async fn new(plane: &Plane, member: &str) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let identity = enrol(plane, directory.path()).await;
        let connection =
            SimConnection::Enrolled { endpoints: vec![plane.endpoint.clone()], identity: identity.clone() };
        let plan = SimPlan { peers: SimPeers::On, ..SimPlan::default() };
        let recorder = Recorder::new(member);
        let mut agent = SimAgent::new(connection, plan).replicating(recorder.clone());
        agent.start().expect("starts");
        timeout(BOUND, agent.connected()).await.expect("connects");
        Self { agent, identity, recorder, directory }
    }

    fn id(&self) -> HostId {
        self.identity.host_id()
    }

    /// How others reach it, once it said so.
    async fn peer(&self, plane: &Plane) -> pb::Peer {
        let port = plane.wait("a hello with a port", |s| s.hellos.last().map(|hello| hello.peer_port)).await;
        assert_ne!(port, 0, "it listens");
        pb::Peer { host_id: self.id().to_string(), address: "127.0.0.1".to_owned(), port }
    }
}

async fn enrol(plane: &Plane, directory: &Path) -> Arc<HostIdentity> {
    let token = TokenSource::Given(plane.token().into());
    let enrolment = Enrolment { identity_path: directory.join("identity.json"), token, host_name: "host".to_owned() };
    enrolment.attempt(&plane.endpoint).await.expect("enrols")
}

#[tokio::test]
async fn facts_go_out_at_once_and_orders_come_by_push() {
    let plane = Plane::start().await;
    let host = Host::new(&plane, "m1").await;
    // From now on only a change or a push moves anything within the test's time.
    plane.order(host.id(), orders("m1", 1, 60_000));
    host.recorder.takes(1).await;
    let last = |s: &plane::State| s.replication_reports.last().map(|(_, report)| report.clone());
    let before = plane.wait("a report", |s| last(s)).await;
    let begun = Instant::now();
    host.recorder.flush(77);
    let report = plane.wait("the change", |s| last(s).filter(|report| report.members[0].flushed_lsn == 77)).await;
    assert!(report.sequence > before.sequence && report.session_id == before.session_id);
    plane.order(host.id(), orders("m1", 2, 60_000));
    host.recorder.takes(2).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "neither waited for the pace");
}

#[tokio::test]
async fn reports_keep_the_pace_of_the_last_answer() {
    let plane = Plane::start().await;
    let host = Host::new(&plane, "m1").await;
    plane.order(host.id(), orders("m1", 1, 50));
    host.recorder.takes(1).await;
    let count = plane.state().replication_reports.len();
    let begun = Instant::now();
    plane.wait("ten more", |s| (s.replication_reports.len() >= count + 10).then_some(())).await;
    assert!(begun.elapsed() >= Duration::from_millis(400), "not faster than the pace: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_host_without_replicated_members_reports_only_as_a_witness() {
    let plane = Plane::start().await;
    let host = Host::new(&plane, "").await;
    plane.wait("a watch", |s| (s.watches > 0).then_some(())).await;
    plane.wait("heartbeats", |s| (s.heartbeats.len() > 2).then_some(())).await;
    assert!(plane.state().replication_reports.is_empty());
    // A watch that is answered without orders may still change the pace.
    let witness = pb::ReplicationOrders { probe_every: millis(100), ..orders("", 0, 100) };
    plane.order(host.id(), witness);
    plane.wait("its reports", |s| (s.replication_reports.len() > 2).then_some(())).await;
}

#[tokio::test]
async fn a_control_plane_that_does_not_answer_is_left_for_another_connection() {
    let plane = Plane::start().await;
    let host = Host::new(&plane, "m1").await;
    plane.wait("a report", |s| (!s.replication_reports.is_empty()).then_some(())).await;
    let hellos = plane.state().hellos.len();
    plane.state().reports = Reports::HeldUp;
    plane.wait("a new connection", |s| (s.hellos.len() > hellos).then_some(())).await;
    plane.state().reports = Reports::Answered;
    plane.order(host.id(), orders("m1", 1, 100));
    host.recorder.takes(1).await;
}

#[tokio::test]
async fn peers_see_each_other_and_show_their_epochs() {
    let plane = Plane::start().await;
    let here = Host::new(&plane, "m1").await;
    let mut there = Host::new(&plane, "m2").await;
    there.recorder.flush(7);
    let peer = there.peer(&plane).await;
    plane.order(here.id(), pb::ReplicationOrders { probe_every: millis(50), peers: vec![peer], ..orders("m1", 1, 50) });
    let (id, other) = (here.id(), there.id().to_string());
    let sighting = |s: &plane::State| {
        let report = s.replication_reports.iter().rev().find(|(host, _)| *host == id)?;
        report.1.sightings.iter().find(|sighting| sighting.host_id == other).cloned()
    };
    plane.wait("a sign of life", |s| sighting(s).filter(|sighting| sighting.silent_for.is_some())).await;
    let shown = |host: &Host, epoch| {
        host.recorder.shown.lock().expect("lock").iter().any(|shown| shown.instance_id == "i" && shown.epoch == epoch)
    };
    wait("the answer's epochs", || shown(&here, 7)).await;
    wait("the question's epochs", || shown(&there, 1)).await;

    there.agent.kill().await;
    let gone = plane.wait("silence", |s| sighting(s).filter(|sighting| sighting.unanswered > 5)).await;
    let silent = Duration::try_from(gone.silent_for.expect("it answered before")).expect("positive");
    assert!(silent >= Duration::from_millis(200), "{silent:?}");
    // Back on another port, which the control plane would tell.
    there.agent.start().expect("starts");
    timeout(BOUND, there.agent.connected()).await.expect("connects");
    let peer = there.peer(&plane).await;
    plane.order(here.id(), pb::ReplicationOrders { probe_every: millis(50), peers: vec![peer], ..orders("m1", 2, 50) });
    plane.wait("a sign of life again", |s| sighting(s).filter(|sighting| sighting.unanswered == 0)).await;
}

#[tokio::test]
async fn a_host_in_anothers_place_is_no_sign_of_life() {
    let plane = Plane::start().await;
    let (here, there) = (Host::new(&plane, "m1").await, Host::new(&plane, "m2").await);
    let stranger = HostId::new().to_string();
    let peer = pb::Peer { host_id: stranger.clone(), ..there.peer(&plane).await };
    plane.order(here.id(), pb::ReplicationOrders { probe_every: millis(50), peers: vec![peer], ..orders("m1", 1, 50) });
    let id = here.id();
    let seen = plane
        .wait("some probes", |s| {
            let report = s.replication_reports.iter().rev().find(|(host, _)| *host == id)?;
            report.1.sightings.iter().find(|sighting| sighting.unanswered > 5).cloned()
        })
        .await;
    assert_eq!((seen.host_id, seen.silent_for), (stranger, None));
}

#[tokio::test]
async fn a_report_finds_its_way_through_a_peer_and_is_still_believed() {
    let ca = Ca::new();
    let (mut near, far) = (Plane::start_with(ca.clone()).await, Plane::start_with(ca.clone()).await);
    let (cut_off, helper) = (Host::new(&near, "m1").await, Host::new(&far, "m2").await);
    let peer = helper.peer(&far).await;
    let probing = pb::ReplicationOrders { probe_every: millis(50), peers: vec![peer], ..orders("m1", 1, 100) };
    near.order(cut_off.id(), probing.clone());
    cut_off.recorder.takes(1).await;
    far.order(helper.id(), orders("m2", 1, 100));
    helper.recorder.takes(1).await;

    near.down();
    far.order(cut_off.id(), pb::ReplicationOrders { orders: orders("m1", 9, 100).orders, ..probing });
    cut_off.recorder.flush(4711);
    let id = cut_off.id().to_string();
    let relayed = far
        .wait("a relayed report", |s| {
            let mut relayed = s.replication_reports.iter().rev().filter(|(host, _)| *host == helper.id());
            relayed.find_map(|(_, report)| report.relayed.first().filter(|relayed| relayed.host_id == id).cloned())
        })
        .await;
    let authorities = Authorities::from_pem(&ca.pem).expect("CA");
    let check = |report: &[u8]| {
        tls::signed_by(&authorities, &relayed.certificate, report, &relayed.signature, Timestamp::now())
    };
    assert_eq!(check(&relayed.report).expect("signed").host, cut_off.id());
    let report = pb::ReplicationReport::decode(relayed.report.as_slice()).expect("a report");
    assert_eq!((report.members[0].flushed_lsn, report.relayed.len()), (4711, 0));
    check(&relayed.report[1..]).expect_err("changed on the way");
    cut_off.recorder.takes(9).await;
    assert_eq!(helper.recorder.rev(), 1, "they were not for the helper");
}

#[tokio::test]
async fn nobody_relays_or_probes_in_anothers_name() {
    let plane = Plane::start().await;
    let (one, two) = (Host::new(&plane, "m1").await, Host::new(&plane, "m2").await);
    let peer = two.peer(&plane).await;
    let trust = Trust::Host(Authorities::from_pem(&plane_ca(&one)).expect("CA"), two.id());
    let endpoint = format!("https://127.0.0.1:{}", peer.port);
    let dial = async |store| PeerServiceClient::new(tls::connect(&endpoint, &trust, store).await.expect("connects"));
    let mut client = dial(Some(one.identity.store())).await;
    let stolen = pb::SignedReport { host_id: two.id().to_string(), ..pb::SignedReport::default() };
    let refused = client.relay(stolen).await.expect_err("another's name");
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let mut nobody = dial(None).await;
    let probe = pb::ProbeRequest { host_id: one.id().to_string(), ..pb::ProbeRequest::default() };
    let refused = nobody.probe(probe).await.expect_err("no certificate");
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    assert!(two.recorder.shown.lock().expect("lock").is_empty());
}

/// The CA as the agent keeps it.
fn plane_ca(host: &Host) -> String {
    let file = std::fs::read_to_string(host.directory.path().join("identity.json")).expect("identity");
    serde_json::from_str::<serde_json::Value>(&file).expect("json")["ca_pem"].as_str().expect("PEM").to_owned()
}
