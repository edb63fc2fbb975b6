//! The authority's certificates against real TLS ends and against the rules of `peer_host`.

use std::{net::IpAddr, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, SanType};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use windlass_core::{
    Reason,
    id::{HostId, MemberId},
};
use windlass_kit::{
    shutdown::Shutdown,
    tls::{self, CertificateDer, Identity, IdentityStore, KeyRequest, Limits, Trust},
};

use super::*;
use crate::secrets::Sealer;

const BOUND: Duration = Duration::from_secs(10);

struct Fixture {
    dir: tempfile::TempDir,
    sealer: Sealer,
    stored: StoredAuthority,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let sealer = Sealer::open_file(&dir.path().join("kek")).expect("sealer");
        let stored = Authority::create(&sealer, Timestamp::now()).expect("CA");
        Self { dir, sealer, stored }
    }

    fn authority(&self, validity: Validity) -> Authority {
        Authority::open(&self.stored, &self.sealer, validity).expect("opens")
    }
}

fn authority() -> Authority {
    Fixture::new().authority(Validity::default())
}

fn key_request() -> (SecretString, RequestedKey) {
    let request = KeyRequest::generate().expect("request");
    let key = RequestedKey::from_csr(&request.csr_der).expect("CSR");
    (request.key_pem, key)
}

fn host_identity(authority: &Authority, host: HostId, now: Timestamp) -> Identity {
    let (key_pem, key) = key_request();
    let signed = authority.sign_host(&key, host, "host-1", now).expect("signed");
    Identity::from_pem(&signed.chain_pem, &key_pem).expect("identity")
}

/// Accepts one connection of a client with this identity and tells which chain the server saw.
async fn seen_by_server(authority: &Authority, client: Option<Identity>) -> Option<Vec<CertificateDer<'static>>> {
    let shutdown = Shutdown::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let endpoint = format!("https://localhost:{}", listener.local_addr().expect("address").port());
    let server = authority.issue_server(&["localhost".to_owned()], Timestamp::now()).expect("server identity");
    let authorities = authority.authorities().expect("authorities");
    let mut incoming =
        tls::serve(listener, IdentityStore::new(server), &authorities, Limits::default(), &shutdown).expect("serves");
    let pin = Trust::Pin(authority.pin());
    let connect = tls::connect(&endpoint, &pin, client.map(IdentityStore::new));
    let (accepted, _channel) = tokio::join!(tokio::time::timeout(BOUND, incoming.next()), connect);
    let stream = accepted.expect("in time").expect("open").expect("accepted");
    shutdown.begin();
    stream.get_ref().1.peer_certificates().map(|chain| chain.iter().map(|c| c.clone().into_owned()).collect())
}

#[tokio::test]
async fn a_host_is_known_by_its_certificate_over_real_tls() {
    let (authority, host) = (authority(), HostId::new());
    let chain = seen_by_server(&authority, Some(host_identity(&authority, host, Timestamp::now()))).await;
    assert_eq!(peer_host(chain.as_deref(), Timestamp::now()).expect("a host").host, host);
    let none = seen_by_server(&authority, None).await;
    let error = peer_host(none.as_deref(), Timestamp::now()).expect_err("no certificate");
    assert_eq!(error.reason, Reason::HostCertificateInvalid);
    assert!(error.message.contains("join token"), "{error}");
}

#[test]
fn a_host_certificate_says_who_it_is_and_expires_even_on_an_open_connection() {
    let validity = Validity { host: SignedDuration::from_secs(5), ..Validity::default() };
    let authority = Fixture::new().authority(validity);
    let (host, now) = (HostId::new(), Timestamp::now());
    let (_, key) = key_request();
    let signed = authority.sign_host(&key, host, "host-1", now).expect("signed");
    let identity = host_identity(&authority, host, now);

    let peer = peer_host(Some(identity.chain()), now).expect("valid now");
    assert_eq!((peer.host, peer.serial.len(), peer.not_after), (host, signed.serial.len(), signed.not_after));
    assert_eq!(signed.not_after.as_second(), now.as_second() + 5);
    let day = Fixture::new().authority(Validity::default());
    let day = day.sign_host(&key, host, "host-1", now).expect("signed");
    assert_eq!(day.not_before.as_second(), now.as_second() - 60);
    assert_eq!(day.not_after.as_second(), now.as_second() + 24 * 3600);

    let late = peer_host(Some(identity.chain()), now + SignedDuration::from_secs(7)).expect_err("expired");
    assert!(late.message.contains("expired at"), "{late}");
    let early = peer_host(Some(identity.chain()), now - SignedDuration::from_secs(3)).expect_err("not yet");
    assert!(early.message.contains("check the clocks"), "{early}");
}

#[test]
fn the_serial_that_was_stored_is_the_serial_that_is_read() {
    let authority = authority();
    for _ in 0..20 {
        let (key_pem, key) = key_request();
        let signed = authority.sign_host(&key, HostId::new(), "h", Timestamp::now()).expect("signed");
        let identity = Identity::from_pem(&signed.chain_pem, &key_pem).expect("identity");
        assert_eq!(peer_host(Some(identity.chain()), Timestamp::now()).expect("host").serial, signed.serial);
    }
}

#[test]
fn a_member_or_server_certificate_is_not_a_hosts() {
    let authority = authority();
    let (key_pem, key) = key_request();
    let addresses = ["10.0.0.7".parse::<IpAddr>().expect("address")];
    let member = authority
        .sign_member(&key, MemberId::new(), &["db.example".to_owned()], &addresses, Timestamp::now())
        .expect("signed");
    let member = Identity::from_pem(&member.chain_pem, &key_pem).expect("identity");
    let server = authority.issue_server(&["127.0.0.1".to_owned()], Timestamp::now()).expect("issued");
    for identity in [member, server] {
        let error = peer_host(Some(identity.chain()), Timestamp::now()).expect_err("not a host");
        assert_eq!(error.message, "the client certificate is not a host's");
    }
    peer_host(Some(&[CertificateDer::from(vec![0x30, 0x00])]), Timestamp::now()).expect_err("rubbish");
}

#[test]
fn a_member_certificate_carries_the_names_and_addresses_asked_for() {
    let (_, key) = key_request();
    let addresses = ["10.0.0.7".parse::<IpAddr>().expect("address")];
    let signed = authority()
        .sign_member(&key, MemberId::new(), &["db.example".to_owned()], &addresses, Timestamp::now())
        .expect("signed");
    let (_, pem) = x509_parser::pem::parse_x509_pem(signed.chain_pem.as_bytes()).expect("PEM");
    let certificate = pem.parse_x509().expect("X.509");
    let names = certificate.subject_alternative_name().expect("readable").expect("names").value;
    let text = format!("{:?}", names.general_names);
    assert!(text.contains("DNSName(\"db.example\")") && text.contains("IPAddress([10, 0, 0, 7])"), "{text}");
    for bad in ["dätenbank", "", "a b", "-"] {
        let error = authority().sign_member(&key, MemberId::new(), &[bad.to_owned()], &[], Timestamp::now());
        assert_eq!(error.expect_err(bad).violations[0].field, "names");
    }
}

#[test]
fn only_the_key_of_a_request_counts() {
    // The request asks to be another host and a CA.
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::default();
    let wished = format!("windlass://host/{}", HostId::new());
    params.subject_alt_names = vec![SanType::URI(wished.try_into().expect("URI"))];
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let request = params.serialize_request(&key).expect("request");
    let host = HostId::new();
    let requested = RequestedKey::from_csr(request.der()).expect("CSR");
    let signed = authority().sign_host(&requested, host, "h", Timestamp::now()).expect("signed");
    let identity = Identity::from_pem(&signed.chain_pem, &key.serialize_pem().into()).expect("identity");
    assert_eq!(peer_host(Some(identity.chain()), Timestamp::now()).expect("host").host, host);
    let (_, certificate) = x509_parser::parse_x509_certificate(&identity.chain()[0]).expect("X.509");
    assert!(!certificate.is_ca());
}

#[test]
fn the_same_key_has_the_same_hash_in_every_request() {
    let key = KeyPair::generate().expect("key");
    let hash = |name: &str| {
        let request = CertificateParams::new(vec![name.to_owned()]).expect("name").serialize_request(&key);
        RequestedKey::from_csr(request.expect("request").der()).expect("CSR").sha256()
    };
    assert_eq!(hash("a"), hash("b"));
    assert_ne!(hash("a"), key_request().1.sha256());
}

#[test]
fn a_bad_request_is_refused_by_field() {
    let mut forged = KeyRequest::generate().expect("request").csr_der;
    *forged.last_mut().expect("a signature") ^= 1;
    for bad in [Vec::new(), b"rubbish".to_vec(), forged, vec![0; 9000]] {
        let error = RequestedKey::from_csr(&bad).expect_err("bad");
        assert_eq!(error.violations[0].field, "csr_der", "{error}");
    }
}

#[test]
fn a_stored_authority_opens_again_and_only_with_its_own_key_and_certificate() {
    let (one, other) = (Fixture::new(), Fixture::new());
    let again = Sealer::open_file(&one.dir.path().join("kek")).expect("sealer");
    let authority = Authority::open(&one.stored, &again, Validity::default()).expect("opens");
    assert_eq!(authority.ca_pem(), one.stored.cert_pem);
    Authority::open(&one.stored, &other.sealer, Validity::default()).expect_err("another installation's key file");
    let swapped = StoredAuthority { cert_pem: other.stored.cert_pem, ..one.stored.clone() };
    let error = Authority::open(&swapped, &one.sealer, Validity::default()).expect_err("another certificate");
    assert!(error.message.contains("cannot open the secret in certificate_authority/"), "{error}");
}

#[tokio::test]
async fn the_server_certificate_is_renewed_before_it_expires() {
    let validity = Validity { server: SignedDuration::from_secs(1), ..Validity::default() };
    let authority = Arc::new(Fixture::new().authority(validity));
    let shutdown = Shutdown::new();
    let store = keep_server_identity(authority, vec!["localhost".to_owned()], &shutdown).expect("issued");
    let mut changes = store.watch();
    tokio::time::timeout(BOUND, changes.changed()).await.expect("in time").expect("alive");
    shutdown.begin();
    shutdown.finish(BOUND).await.expect("clean");
}

proptest! {
    #[test]
    fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(RequestedKey::from_csr(&bytes).is_err());
        prop_assert!(peer_host(Some(&[CertificateDer::from(bytes)]), Timestamp::now()).is_err());
    }
}

#[tokio::test]
async fn hosts_reach_each_other_by_identity_and_not_by_address() {
    let (authority, stranger) = (authority(), authority());
    let (here, there) = (HostId::new(), HostId::new());
    let shutdown = Shutdown::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let endpoint = format!("https://{}", listener.local_addr().expect("address"));
    let authorities = authority.authorities().expect("authorities");
    let server = IdentityStore::new(host_identity(&authority, there, Timestamp::now()));
    let mut incoming = tls::serve(listener, server, &authorities, Limits::default(), &shutdown).expect("serves");
    let client = IdentityStore::new(host_identity(&authority, here, Timestamp::now()));
    let dial = async |trust| tls::connect(&endpoint, &trust, Some(client.clone())).await;

    let (accepted, channel) =
        tokio::join!(tokio::time::timeout(BOUND, incoming.next()), dial(Trust::Host(authorities.clone(), there)));
    channel.expect("the host dialled answers");
    let stream = accepted.expect("in time").expect("open").expect("accepted");
    let seen = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
    assert_eq!(peer_host(seen.as_deref(), Timestamp::now()).expect("a host").host, here);

    let error = dial(Trust::Host(authorities, here)).await.expect_err("another host answers");
    assert_eq!(error.reason, Reason::ServerCertificateInvalid, "{error}");
    assert!(error.message.contains("not host"), "{error}");
    let error = dial(Trust::Host(stranger.authorities().expect("authorities"), there)).await.expect_err("another CA");
    assert_eq!(error.reason, Reason::ServerCertificateInvalid, "{error}");
    shutdown.begin();
}

#[test]
fn what_a_host_signed_is_believed_and_nothing_else() {
    let (authority, stranger, host) = (authority(), authority(), HostId::new());
    let now = Timestamp::now();
    let identity = host_identity(&authority, host, now);
    let (message, leaf) = (b"facts", &identity.chain()[0]);
    let signature = identity.sign(message).expect("signs");
    let authorities = authority.authorities().expect("authorities");
    let check = |certificate: &[u8], message: &[u8], signature: &[u8]| {
        tls::signed_by(&authorities, certificate, message, signature, now)
    };
    assert_eq!(check(leaf, message, &signature).expect("its own").host, host);
    check(leaf, b"lies", &signature).expect_err("another message");
    check(leaf, message, &[]).expect_err("no signature");
    check(&[], message, &signature).expect_err("no certificate");
    let other = host_identity(&authority, host, now);
    check(&other.chain()[0], message, &signature).expect_err("another key of the same host");
    let forged = host_identity(&stranger, host, now);
    let signature = forged.sign(message).expect("signs");
    check(&forged.chain()[0], message, &signature).expect_err("another CA");
    let late = now + SignedDuration::from_hours(48);
    let signature = identity.sign(message).expect("signs");
    tls::signed_by(&authorities, leaf, message, &signature, late).expect_err("expired");
}
