//! The control plane is believed only with a certificate from the CA that was named.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use windlass_proto::api::v1 as pb;

use crate::bench::Bench;

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("CA")
}

#[tokio::test]
async fn another_ca_is_not_believed() {
    let bench = Bench::new().await;
    bench.fake.on("list_hosts", |_: &pb::ListHostsRequest| Ok(pb::ListHostsResponse::default()));
    let (ours, other) = (authority(), authority());
    let key = KeyPair::generate().expect("key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
    let leaf = params.signed_by(&key, &ours).expect("certificate");
    let identity = tonic::transport::Identity::from_pem(leaf.pem(), key.serialize_pem());
    let endpoint = format!("https://localhost:{}", bench.fake.serve_tls(identity).await.port());
    let write = |name: &str, pem: String| {
        let path = bench.home.path().join(name);
        fs::write(&path, pem).expect("write");
        path.display().to_string()
    };
    let (right, wrong, empty) =
        (write("right", ours.pem()), write("wrong", other.pem()), write("empty", String::new()));
    let list = async |ca: &str| bench.run(&["host", "list", "--endpoint", &endpoint, "--ca", ca]).await;
    let run = list(&right).await;
    assert_eq!(run.code, 0, "{}", run.stderr);
    let run = list(&wrong).await;
    assert!(run.code == 1 && run.stderr.contains("not trusted"), "{}", run.stderr);
    let run = list(&empty).await;
    assert!(run.code == 2 && run.stderr.contains("no certificate"), "{}", run.stderr);
    let run = bench.run(&["host", "list", "--endpoint", &endpoint]).await;
    assert!(run.code == 2 && run.stderr.contains("WINDLASS_CA"), "{}", run.stderr);
}
