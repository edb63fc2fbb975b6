//! The accepting and the connecting end against each other over loopback, with good, bad and hostile peers.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tonic::{Request, Status, service::interceptor::InterceptedService, transport::Channel};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
    server::HealthReporter,
};
use windlass_core::Reason;
use windlass_kit::{
    shutdown::Shutdown,
    tls::{self, Authorities, Identity, IdentityStore, Limits, Pin, Trust},
};

const BOUND: Duration = Duration::from_secs(10);

/// A CA for one test.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    pin: Pin,
}

impl Ca {
    fn new() -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).expect("CA");
        let (pem, pin) = (certificate.pem(), Pin::of(certificate.der()));
        Self { issuer: Issuer::new(params, key), pem, pin }
    }

    /// An identity for `name`, valid from an hour ago for so many seconds from now on.
    fn issue(&self, name: &str, seconds: i64) -> Identity {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("name");
        let now = u64::try_from(Timestamp::now().as_second()).expect("after 1970");
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(now - 3600);
        params.not_after = epoch + Duration::from_secs(now.checked_add_signed(seconds).expect("time"));
        let leaf = params.signed_by(&key, &self.issuer).expect("leaf");
        let chain = format!("{}{}", leaf.pem(), self.pem);
        Identity::from_pem(&chain, &key.serialize_pem().into()).expect("identity")
    }

    fn store(&self, name: &str) -> Arc<IdentityStore> {
        IdentityStore::new(self.issue(name, 3600))
    }

    fn trust(&self) -> Trust {
        Trust::from_pem(&self.pem).expect("trust")
    }
}

/// A server with the health service; remembers the leaf that each call's peer showed.
struct Server {
    endpoint: String,
    address: std::net::SocketAddr,
    health: HealthReporter,
    peers: Arc<Mutex<Vec<Option<Vec<u8>>>>>,
    shutdown: Shutdown,
}

impl Server {
    async fn start(identity: Arc<IdentityStore>, clients: &Ca, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        let shutdown = Shutdown::new();
        let authorities = Authorities::from_pem(&clients.pem).expect("authorities");
        let incoming = tls::serve(listener, identity, &authorities, limits, &shutdown).expect("serves");
        let (health, service) = tonic_health::server::health_reporter();
        let peers: Arc<Mutex<Vec<Option<Vec<u8>>>>> = Arc::default();
        let seen = peers.clone();
        let recorded = InterceptedService::new(service, move |request: Request<()>| {
            let leaf = request.peer_certs().and_then(|chain| chain.first().map(|leaf| leaf.to_vec()));
            seen.lock().expect("peers").push(leaf);
            Ok::<_, Status>(request)
        });
        let begun = shutdown.token().clone().cancelled_owned();
        tokio::spawn(tls::server(0.5).add_service(recorded).serve_with_incoming_shutdown(incoming, begun));
        Self { endpoint: format!("https://127.0.0.1:{}", address.port()), address, health, peers, shutdown }
    }

    fn last_peer(&self) -> Option<Vec<u8>> {
        self.peers.lock().expect("peers").last().expect("a call was made").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

async fn check(channel: Channel) -> Result<(), Status> {
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.map(|_| ())
}

fn leaf(store: &IdentityStore) -> Vec<u8> {
    store.current().chain()[0].to_vec()
}

#[tokio::test]
async fn a_client_without_a_certificate_is_served_and_has_no_peer() {
    let ca = Ca::new();
    let server = Server::start(ca.store("127.0.0.1"), &ca, Limits::default()).await;
    let channel = tls::connect(&server.endpoint, &ca.trust(), None).await.expect("connects");
    check(channel).await.expect("answers");
    assert_eq!(server.last_peer(), None);
}

#[tokio::test]
async fn a_client_certificate_is_visible_to_the_service() {
    let ca = Ca::new();
    let server = Server::start(ca.store("127.0.0.1"), &ca, Limits::default()).await;
    let client = ca.store("host");
    let channel = tls::connect(&server.endpoint, &ca.trust(), Some(client.clone())).await.expect("connects");
    check(channel).await.expect("answers");
    assert_eq!(server.last_peer(), Some(leaf(&client)));
}

#[tokio::test]
async fn an_expired_or_foreign_client_certificate_is_refused_and_the_client_can_tell() {
    let (ca, foreign) = (Ca::new(), Ca::new());
    let server = Server::start(ca.store("127.0.0.1"), &ca, Limits::default()).await;
    for bad in [IdentityStore::new(ca.issue("host", -10)), foreign.store("host")] {
        // Depending on who is faster, the refusal is seen while connecting or by the first call.
        let error = match tls::connect(&server.endpoint, &ca.trust(), Some(bad)).await {
            Err(error) => error,
            Ok(channel) => tls::refusal(&check(channel).await.expect_err("refused")).expect("a refusal"),
        };
        assert_eq!(error.reason, Reason::HostCertificateInvalid, "{error}");
    }
    assert!(server.peers.lock().expect("peers").is_empty(), "no call came through");
}

#[tokio::test]
async fn a_server_is_trusted_by_pin_only_if_it_shows_that_ca() {
    let (ca, other) = (Ca::new(), Ca::new());
    let server = Server::start(ca.store("127.0.0.1"), &ca, Limits::default()).await;
    let channel = tls::connect(&server.endpoint, &Trust::Pin(ca.pin), None).await.expect("right pin");
    check(channel).await.expect("answers");
    let error = tls::connect(&server.endpoint, &Trust::Pin(other.pin), None).await.expect_err("wrong pin");
    assert_eq!(error.reason, Reason::ServerCertificateInvalid);
    assert!(error.message.contains(&format!("no certificate with SHA-256 {}", other.pin)), "{error}");
}

#[tokio::test]
async fn a_pinned_ca_shown_beside_a_leaf_of_another_is_refused() {
    let (ca, other) = (Ca::new(), Ca::new());
    // The leaf is of `other`, the chain pretends to be of `ca`.
    let key = KeyPair::generate().expect("key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("name");
    let forged = format!("{}{}", params.signed_by(&key, &other.issuer).expect("leaf").pem(), ca.pem);
    let identity = Identity::from_pem(&forged, &key.serialize_pem().into()).expect("identity");
    let server = Server::start(IdentityStore::new(identity), &ca, Limits::default()).await;
    let error = tls::connect(&server.endpoint, &Trust::Pin(ca.pin), None).await.expect_err("forged");
    assert_eq!(error.reason, Reason::ServerCertificateInvalid, "{error}");
}

#[tokio::test]
async fn a_server_of_another_ca_name_or_time_is_refused() {
    let (ca, other) = (Ca::new(), Ca::new());
    for (bad, expected) in [
        (other.issue("127.0.0.1", 3600), "not from the trusted CA"),
        (ca.issue("cp.example", 3600), "not valid for name"),
        (ca.issue("127.0.0.1", -10), "expired"),
    ] {
        let server = Server::start(IdentityStore::new(bad), &ca, Limits::default()).await;
        for trust in [ca.trust(), Trust::Pin(ca.pin)] {
            let error = tls::connect(&server.endpoint, &trust, None).await.expect_err(expected);
            assert_eq!(error.reason, Reason::ServerCertificateInvalid, "{error}");
            let pinned = matches!(trust, Trust::Pin(_)) && error.message.contains("no certificate with SHA-256");
            assert!(pinned || error.message.contains(expected), "{error}");
        }
    }
}

#[tokio::test]
async fn nobody_listening_is_unavailable_and_names_the_endpoint() {
    let ca = Ca::new();
    let free = TcpListener::bind("127.0.0.1:0").await.expect("port").local_addr().expect("address");
    let error = tls::connect(&format!("https://{free}"), &ca.trust(), None).await.expect_err("nobody");
    assert_eq!(error.reason, Reason::Unavailable);
    assert!(error.message.contains(&free.to_string()) && error.message.contains("refused"), "{error}");
}

#[tokio::test]
async fn both_ends_rotate_while_a_stream_stays_open() {
    let ca = Ca::new();
    let (server_identity, client_identity) = (ca.store("127.0.0.1"), ca.store("host"));
    let server = Server::start(server_identity.clone(), &ca, Limits::default()).await;
    let pinned = Trust::Pin(ca.pin);
    let connect = || tls::connect(&server.endpoint, &pinned, Some(client_identity.clone()));

    let mut old = HealthClient::new(connect().await.expect("connects"));
    let mut stream = old.watch(HealthCheckRequest::default()).await.expect("watches").into_inner();
    stream.message().await.expect("first status").expect("open");
    let first = leaf(&client_identity);

    server_identity.replace(ca.issue("127.0.0.1", 3600));
    client_identity.replace(ca.issue("host", 3600));
    check(connect().await.expect("connects again")).await.expect("answers");
    assert_ne!(server.last_peer(), Some(first.clone()));
    assert_eq!(server.last_peer(), Some(leaf(&client_identity)), "a new connection shows the new certificate");

    server.health.set_service_status("", ServingStatus::NotServing).await;
    timeout(BOUND, stream.message()).await.expect("in time").expect("no error").expect("the old stream is open");
    old.check(HealthCheckRequest::default()).await.expect("the old connection works");
    assert_eq!(server.last_peer(), Some(first), "an open connection keeps its certificate");
}

#[tokio::test]
async fn a_rotated_server_certificate_is_the_one_that_new_clients_see() {
    let (ca, next) = (Ca::new(), Ca::new());
    let identity = ca.store("127.0.0.1");
    let server = Server::start(identity.clone(), &ca, Limits::default()).await;
    check(tls::connect(&server.endpoint, &ca.trust(), None).await.expect("old CA")).await.expect("answers");
    identity.replace(next.issue("127.0.0.1", 3600));
    tls::connect(&server.endpoint, &ca.trust(), None).await.expect_err("the old CA vouches no more");
    check(tls::connect(&server.endpoint, &next.trust(), None).await.expect("new CA")).await.expect("answers");
}

#[tokio::test]
async fn two_hundred_hostile_clients_do_not_delay_a_good_one() {
    let ca = Ca::new();
    let server = Server::start(ca.store("127.0.0.1"), &ca, Limits::default()).await;
    let mut hostile = Vec::new();
    for n in 0..200 {
        let mut stream = TcpStream::connect(server.address).await.expect("connects");
        match n % 4 {
            0 => {} // half-open: says nothing
            1 => stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("garbage"),
            2 => stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0]).await.expect("a hello that never ends"),
            _ => stream.write_all(&[0xff; 4096]).await.expect("noise"),
        }
        hostile.push(stream);
    }
    let begun = Instant::now();
    check(tls::connect(&server.endpoint, &ca.trust(), None).await.expect("connects")).await.expect("answers");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_handshake_beyond_the_limit_is_closed_and_the_slow_ones_time_out() {
    let ca = Ca::new();
    let limits = Limits { handshakes: 2, handshake_timeout: Duration::from_millis(300) };
    let server = Server::start(ca.store("127.0.0.1"), &ca, limits).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        slow.push(TcpStream::connect(server.address).await.expect("connects"));
    }
    let mut beyond = TcpStream::connect(server.address).await.expect("connects");
    assert_eq!(timeout(BOUND, beyond.read(&mut [0; 1])).await.expect("closed at once").unwrap_or(0), 0);
    for stream in &mut slow {
        assert_eq!(timeout(BOUND, stream.read(&mut [0; 1])).await.expect("timed out").unwrap_or(0), 0);
    }
    check(tls::connect(&server.endpoint, &ca.trust(), None).await.expect("connects")).await.expect("answers");
}

#[tokio::test(start_paused = true)]
async fn a_client_gives_up_on_a_server_that_never_answers() {
    let ca = Ca::new();
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let endpoint = format!("https://{}", silent.local_addr().expect("address"));
    let begun = tokio::time::Instant::now();
    let error =
        timeout(BOUND, tls::connect(&endpoint, &ca.trust(), None)).await.expect("gives up").expect_err("silent");
    assert_eq!(error.reason, Reason::Unavailable);
    assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn shutdown_ends_the_listener() {
    let ca = Ca::new();
    let server = Server::start(ca.store("127.0.0.1"), &ca, Limits::default()).await;
    server.shutdown.begin();
    server.shutdown.finish(BOUND).await.expect("clean");
    TcpStream::connect(server.address).await.expect_err("nobody listens");
}

#[test]
fn an_identity_is_refused_if_key_and_certificate_do_not_belong_together() {
    let ca = Ca::new();
    let key = KeyPair::generate().expect("key");
    let params = CertificateParams::new(vec!["x".to_owned()]).expect("name");
    let chain = params.signed_by(&key, &ca.issuer).expect("leaf").pem();
    let other = KeyPair::generate().expect("key").serialize_pem();
    for (chain, key, field) in [
        (chain.as_str(), other.as_str(), "key"),
        (chain.as_str(), "rubbish", "key"),
        ("rubbish", other.as_str(), "certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", other.as_str(), "certificate"),
    ] {
        let error = Identity::from_pem(chain, &key.to_owned().into()).expect_err(field);
        assert_eq!(error.violations[0].field, field, "{error}");
    }
}

#[test]
fn renewal_is_due_between_four_tenths_and_half_of_life() {
    let identity = Ca::new().issue("x", 3600);
    let life = identity.not_after().duration_since(identity.not_before());
    let due = |random| identity.renew_at(random).duration_since(identity.not_before());
    assert_eq!(due(0.0), life / 2);
    assert_eq!(due(1.0).as_secs(), life.as_secs() * 4 / 10);
}
