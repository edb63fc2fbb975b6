//! The command queue: from the commit of a command to the moment when its agent begins it, in open loop, while a
//! thousand agents hold a poll. Prints one line of JSON.
//!
//! The agents are simulated (real link, TLS, journal in memory) and share this process with the control plane, whose
//! metadata is embedded and durable.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use secrecy::ExposeSecret;
use windlass_agent::link::{Enrolment, TokenSource};
use windlass_agent::sim::{SimAgent, SimConnection, SimPlan};
use windlass_control_plane::app::keys::KeyRequest;
use windlass_control_plane::config::Config;
use windlass_control_plane::local;
use windlass_control_plane::plane::Plane;
use windlass_core::command::CommandKind;
use windlass_core::id::{CommandId, HostId, InstanceId, MemberId};
use windlass_core::role::Role;
use windlass_db::commands::{NewCommand, command_enqueue_tx};
use windlass_kit::failpoint::Failpoints;
use windlass_proto::agent::v1 as pb;
use windlass_proto::api::v1::{CreateJoinTokenRequest, JoinToken};
use windlass_tests::bare::Ground;
use windlass_tests::measure::Samples;
use windlass_tests::stack::run_as;
use windlass_tests::{Api, wait_until};

const AGENTS: usize = 1000;
const PER_SECOND: usize = 100;
const SECONDS: usize = 30;

#[tokio::main]
async fn main() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let ground = Ground::make()?;
    let plane = Plane::start(config(&ground), Failpoints::none()).await?;
    let endpoint = format!("https://localhost:{}", plane.address.port());
    let api = administrator(&plane, &endpoint).await?;
    let mut agents = Vec::new();
    for batch in 0..AGENTS / 50 {
        agents.extend(try_join_all((0..50).map(|n| enrolled(&api, &endpoint, &ground, batch * 50 + n))).await?);
    }
    for (_, agent) in &mut agents {
        agent.start()?;
    }
    for (_, agent) in &agents {
        agent.connected().await;
    }
    // The first heartbeats and polls are done.
    tokio::time::sleep(Duration::from_secs(5)).await;

    let mut order: Vec<usize> = (0..AGENTS * PER_SECOND * SECONDS / AGENTS).map(|n| n % AGENTS).collect();
    order.shuffle(&mut StdRng::seed_from_u64(1));
    let begin = Instant::now();
    let mut submissions = Vec::new();
    for (number, agent) in order.into_iter().enumerate() {
        let due = begin + Duration::from_secs_f64(number as f64 / PER_SECOND as f64);
        tokio::time::sleep_until(due.into()).await;
        let (db, waker, host) = (plane.db().clone(), plane.context.hosts.clone(), agents[agent].0);
        submissions.push(tokio::spawn(async move {
            let command = command(host)?;
            let uid = command.uid;
            let mut tx = db.begin().await?;
            command_enqueue_tx(&mut tx, &command).await?;
            tx.commit().await?;
            let committed = Instant::now();
            waker.wake(&[host]);
            anyhow::Ok((agent, uid, committed))
        }));
    }
    let mut samples = Samples::new(&format!("commit to begin, {PER_SECOND}/s, {AGENTS} agents"), "ms");
    for submission in submissions {
        let (agent, uid, committed) = submission.await??;
        let target = agents[agent].1.target();
        let begun = wait_until("delivery", Duration::from_secs(10), async || target.begun(uid).context("not yet"));
        samples.add_time(begun.await?.saturating_duration_since(committed));
    }
    samples.print()?;
    for (_, agent) in &mut agents {
        agent.kill().await;
    }
    plane.shutdown().await?;
    Ok(())
}

fn config(ground: &Ground) -> Config {
    let mut config = Config { state_dir: ground.path("state"), ..Config::default() };
    config.listen = ([127, 0, 0, 1], 0).into();
    config.metadata.run_as = run_as().map(str::to_owned);
    config.limits.burst = 1_000_000;
    config.limits.calls_per_second = 1_000_000;
    config
}

async fn administrator(plane: &Plane, endpoint: &str) -> Result<Api> {
    let request = KeyRequest { title: "bench".to_owned(), role: Role::Admin, project: None, ttl: None };
    let key = local::create_key(&plane.context.config, request).await?.key;
    Api::new(endpoint, &std::fs::read_to_string(&plane.ca_file)?, key.text().expose_secret())
}

async fn enrolled(api: &Api, endpoint: &str, ground: &Ground, number: usize) -> Result<(HostId, SimAgent)> {
    let host_name = format!("sim-{number}");
    let request = CreateJoinTokenRequest {
        join_token: Some(JoinToken { host_name: host_name.clone(), ..Default::default() }),
        ..Default::default()
    };
    let token = TokenSource::Given(api.hosts().create_join_token(request).await?.into_inner().token.into());
    let enrolment = Enrolment { identity_path: ground.path(&format!("{host_name}.json")), token, host_name };
    let identity = enrolment.attempt(endpoint).await?;
    let host = identity.host_id();
    let connection = SimConnection::Enrolled { endpoints: vec![endpoint.to_owned()], identity };
    Ok((host, SimAgent::new(connection, SimPlan::default())))
}

/// An order that changes nothing, for a member that does not exist.
fn command(host: HostId) -> Result<NewCommand> {
    let body = pb::command::Body::PurgeMember(pb::PurgeMember {});
    Ok(NewCommand {
        uid: CommandId::new(),
        shard: 0,
        host,
        instance: Some(InstanceId::new()),
        member: Some(MemberId::new()),
        saga: None,
        epoch: 1,
        generation: 1,
        kind: CommandKind::PurgeMember,
        args: serde_json::to_value(pb::Command { body: Some(body), ..Default::default() })?,
        timeout: jiff::SignedDuration::from_secs(60),
        expire: None,
    })
}
