//! Who may be a host, for how long, and how that ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tonic::transport::Channel;
use tonic::{Code, Status};
use windlass_kit::tls::{self, Identity, IdentityStore, KeyRequest, Trust};
use windlass_proto::agent::v1::agent_service_client::AgentServiceClient;
use windlass_proto::agent::v1::enrolment_service_client::EnrolmentServiceClient;
use windlass_proto::agent::v1::{Capacity, EnrolRequest, EnrolResponse, HelloRequest, PollRequest};
use windlass_proto::api::v1::{
    CreateJoinTokenRequest, HostVerbRequest, JoinToken, ListProjectsRequest, RevokeJoinTokenRequest, host,
};
use windlass_tests::api::{instance_name, reason, request_id, windlass_proto_duration};
use windlass_tests::{Api, Stack, wait_until};

/// The shortest lifetime that certificates of hosts may have.
const SHORT_LIVES: &str = "[certificates]\nhost = \"1m\"\n";

async fn token(api: &Api, host_name: &str) -> Result<JoinToken> {
    let request = CreateJoinTokenRequest {
        join_token: Some(JoinToken { host_name: host_name.to_owned(), ..Default::default() }),
        ttl: Some(windlass_proto_duration(60)),
        request_id: request_id(),
    };
    Ok(api.hosts().create_join_token(request).await?.into_inner())
}

async fn channel(stack: &Stack, identity: Option<Arc<IdentityStore>>) -> Result<Channel> {
    let ca = std::fs::read_to_string(stack.ca_file())?;
    Ok(tls::connect(&stack.endpoint, &Trust::from_pem(&ca)?, identity).await?)
}

async fn enrol(stack: &Stack, token: &str, key: &KeyRequest) -> Result<Result<EnrolResponse, Status>> {
    let request =
        EnrolRequest { token: token.to_owned(), csr_der: key.csr_der.clone(), host_name: "stranger".to_owned() };
    let answer = EnrolmentServiceClient::new(channel(stack, None).await?).enrol(request).await;
    Ok(answer.map(|response| response.into_inner()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_admits_one_key_while_it_lives() -> Result<()> {
    let stack = Stack::plan().hosts(0).start().await?;
    let refused = async |what: &str, token: &str| -> Result<()> {
        let answer = enrol(&stack, token, &KeyRequest::generate()?).await?;
        let status = answer.err().with_context(|| format!("a token that is {what} was taken"))?;
        ensure!(status.code() == Code::Unauthenticated, "{what}: {status:?}");
        ensure!(reason(&status) == "JOIN_TOKEN_INVALID", "{what}: {status:?}");
        Ok(())
    };
    let garbage = enrol(&stack, "garbage", &KeyRequest::generate()?).await?.expect_err("garbage");
    ensure!(garbage.code() == Code::InvalidArgument && garbage.message().contains("token"), "{garbage:?}");
    let good = token(&stack.api, "host-a").await?;
    let mut forged = good.token.clone();
    let middle = forged.len() / 4;
    let other = if forged.as_bytes()[middle] == b'x' { "y" } else { "x" };
    forged.replace_range(middle..=middle, other);
    refused("forged", &forged).await?;

    let revoked = token(&stack.api, "host-b").await?;
    let revoke = RevokeJoinTokenRequest { name: revoked.name, request_id: request_id() };
    stack.api.hosts().revoke_join_token(revoke).await?;
    refused("revoked", &revoked.token).await?;

    let expired = token(&stack.api, "host-c").await?;
    let url = stack.database_url.as_deref().context("external metadata")?;
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let driver = tokio::spawn(connection);
    let statement = "update join_token set expire_time = now() - interval '1 second' where id = $1::text::uuid";
    ensure!(client.execute(statement, &[&expired.uid]).await? == 1);
    drop(client);
    driver.await??;
    refused("expired", &expired.token).await?;

    let key = KeyRequest::generate()?;
    let first = enrol(&stack, &good.token, &key).await?.context("a good token")?;
    ensure!(first.host_name == "host-a", "the token's name wins: {}", first.host_name);
    let again = enrol(&stack, &good.token, &key).await?.context("the same key, because the answer may be lost")?;
    ensure!(again.host_id == first.host_id, "one host");
    refused("used by another key", &good.token).await?;
    ensure!(stack.api.all_hosts().await?.len() == 1, "one host");
    stack.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_and_users_each_keep_to_their_own_door() -> Result<()> {
    let stack = Stack::plan().hosts(0).start().await?;
    let mut nobody = AgentServiceClient::new(channel(&stack, None).await?);
    let refused = nobody.poll(PollRequest::default()).await.expect_err("no certificate");
    ensure!(refused.code() == Code::Unauthenticated, "{refused:?}");

    let key = KeyRequest::generate()?;
    let enrolled = enrol(&stack, &token(&stack.api, "host-a").await?.token, &key).await?.context("enrolled")?;
    let certificate = enrolled.certificate.context("a certificate")?;
    let store = IdentityStore::new(Identity::from_pem(&certificate.chain_pem, &key.key_pem)?);
    let mut agent = AgentServiceClient::new(channel(&stack, Some(Arc::clone(&store))).await?);
    let hello = HelloRequest {
        session_id: request_id(),
        boot_id: request_id(),
        agent_version: "0.0.0".to_owned(),
        address: "127.0.0.1".to_owned(),
        port_low: 20_000,
        port_high: 20_001,
        capacity: Some(Capacity { cpu_millis: 1000, memory_bytes: 1 << 30, disk_bytes: 1 << 30 }),
        ..Default::default()
    };
    agent.hello(hello.clone()).await.context("its certificate opens the agents' door")?;
    let mut projects =
        windlass_proto::api::v1::project_service_client::ProjectServiceClient::new(channel(&stack, Some(store)).await?);
    let refused = projects.list_projects(ListProjectsRequest::default()).await.expect_err("no key");
    ensure!(refused.code() == Code::Unauthenticated, "a host's certificate is no key: {refused:?}");

    let revoke = HostVerbRequest { name: "hosts/host-a".to_owned(), request_id: request_id(), ..Default::default() };
    stack.api.hosts().revoke_host(revoke).await?;
    let refused = agent.hello(hello).await.expect_err("revoked, on the open connection");
    ensure!(refused.code() == Code::Unauthenticated || refused.code() == Code::PermissionDenied, "{refused:?}");
    ensure!(reason(&refused) == "HOST_REVOKED", "{refused:?}");
    stack.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_host_is_refused_at_once_and_its_databases_serve_on() -> Result<()> {
    let stack = Stack::plan().start().await?;
    stack.api.create_project("shop").await?;
    let made = stack.api.make_instance("shop", "pg", "postgres").await?;
    let revoke = HostVerbRequest { name: "hosts/host-1".to_owned(), request_id: request_id(), ..Default::default() };
    stack.api.hosts().revoke_host(revoke).await?;
    let hosts = stack.api.all_hosts().await?;
    ensure!(hosts[0].state() == host::State::Revoked, "{hosts:?}");
    let log = async || {
        let log = stack.hosts[0].agent.log().to_lowercase();
        ensure!(log.contains("revoked"), "the agent does not say so");
        Ok(())
    };
    wait_until("the agent's word that it was revoked", Duration::from_secs(20), log).await?;
    ensure!(stack.query("shop", "pg", "psql", "select 1").await? == "1", "{}", made.name);
    let refused = stack.api.create_instance("shop", "pg-2", "postgres").await.expect_err("nobody is left");
    ensure!(reason(&refused) == "NO_HOST_FITS" || reason(&refused) == "ENGINE_UNAVAILABLE", "{refused:?}");
    stack.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_live_and_an_expired_one_is_refused() -> Result<()> {
    let mut stack = Stack::plan().hosts(2).control_plane(SHORT_LIVES).start().await?;
    stack.api.create_project("shop").await?;
    stack.api.make_instance("shop", "pg", "postgres").await?;
    // One of the two sleeps past the end of its certificate.
    stack.hosts[1].agent.signal(Signal::SIGSTOP)?;
    let before = expiries(&stack).await?;
    let limit = Duration::from_secs(90);
    wait_until("two renewals of the one that is awake", limit, async || {
        let now = expiries(&stack).await?;
        ensure!(now[0] - before[0] > 45, "{before:?} {now:?}");
        let left = before[1] - jiff::Timestamp::now().as_second();
        ensure!(left < -2, "the other still has {left} s");
        Ok(())
    })
    .await?;
    ensure!(stack.hosts[0].agent.running(), "the same process");
    ensure!(stack.query("shop", "pg", "psql", "select 1").await? == "1");
    stack.hosts[1].agent.kill()?;
    stack.hosts[1].agent.start(&[])?;
    wait_until("refusal of the expired one", Duration::from_secs(30), async || {
        let log = stack.hosts[1].agent.log().to_lowercase();
        ensure!(log.contains("expired"), "its log does not say so");
        Ok(())
    })
    .await?;
    let hosts = stack.api.all_hosts().await?;
    let expired = hosts.iter().find(|host| host.name == "hosts/host-2").context("host-2")?;
    ensure!(expired.state() == host::State::Offline, "{expired:?}");
    stack.api.purge_instance(&instance_name("shop", "pg")).await?;
    stack.finish().await
}

/// When the certificates of the two hosts end, in seconds since 1970.
async fn expiries(stack: &Stack) -> Result<[i64; 2]> {
    let hosts = stack.api.all_hosts().await?;
    let of = |name: &str| {
        let host = hosts.iter().find(|host| host.name == name).with_context(|| name.to_owned())?;
        anyhow::Ok(host.certificate_expire_time.context("it has a certificate")?.seconds)
    };
    Ok([of("hosts/host-1")?, of("hosts/host-2")?])
}
