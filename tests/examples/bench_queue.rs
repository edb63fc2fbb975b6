//! The command queue: from before the transaction that queues a command until its agent begins it, in open loop, while
//! a thousand agents hold a poll; beside a bare insert and commit in the same database at the same time. Prints one
//! line of JSON for each series.
//!
//! The agents are simulated (real link, TLS, journal in memory) and share this process with the control plane, whose
//! metadata is embedded and durable. Times count from when a submission was due, so that one that waited for its turn
//! counts its wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use secrecy::ExposeSecret;
use tokio::runtime::Handle;
use windlass_agent::link::{Enrolment, TokenSource};
use windlass_agent::sim::{SimAgent, SimConnection, SimPlan};
use windlass_control_plane::app::keys::KeyRequest;
use windlass_control_plane::config::Config;
use windlass_control_plane::local;
use windlass_control_plane::metadata::Embedded;
use windlass_control_plane::plane::Plane;
use windlass_core::command::CommandKind;
use windlass_core::id::{CommandId, HostId, InstanceId, MemberId};
use windlass_core::role::Role;
use windlass_db::Guard;
use windlass_db::commands::{NewCommand, command_enqueue_tx};
use windlass_kit::failpoint::Failpoints;
use windlass_proto::agent::v1 as pb;
use windlass_proto::api::v1::{CreateJoinTokenRequest, JoinToken};
use windlass_tests::ground::Ground;
use windlass_tests::measure::Samples;
use windlass_tests::stack::run_as;
use windlass_tests::{Api, wait_until};

const AGENTS: usize = 1000;
const PER_SECOND: usize = 100;
const SECONDS: usize = 30;
const PAUSE: Duration = Duration::from_millis(1000 / PER_SECOND as u64);
/// One in so many submissions is followed by a bare insert.
const BARE_EVERY: usize = 5;
/// In milliseconds.
const AIM: f64 = 3.0;
const AIM_P99: f64 = 10.0;
const LEASE: &str = "orchestrator";

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

    let hosts: Vec<HostId> = agents.iter().map(|(host, _)| *host).collect();
    let submissions = submit(&plane, &hosts).await?;
    let baseline = "bare insert and commit";
    let mut delivered = Samples::new(&format!("submit to begin, {PER_SECOND}/s, {AGENTS} agents"), "ms");
    let mut committed = Samples::new("of it, to the end of the commit", "ms");
    let mut bare = Samples::new(baseline, "ms");
    delivered = delivered.against(baseline).aim(AIM).aim_p99(AIM_P99);
    for submission in submissions {
        let target = agents[submission.agent].1.target();
        let begun = async || target.begun(submission.uid).context("not yet");
        let begun = wait_until("delivery", Duration::from_secs(10), begun).await?;
        delivered.add_time(begun.saturating_duration_since(submission.due));
        committed.add_time(submission.committed);
        if let Some(time) = submission.bare {
            bare.add_time(time);
        }
    }
    delivered.print()?;
    committed.print()?;
    bare.print()?;
    for (_, agent) in &mut agents {
        agent.kill().await;
    }
    plane.shutdown().await?;
    Ok(())
}

/// One submission and, for some, the time of a bare insert at the same moment.
struct Submission {
    agent: usize,
    uid: CommandId,
    due: Instant,
    committed: Duration,
    bare: Option<Duration>,
}

/// Submits at a fixed pace, whether or not earlier ones are through.
async fn submit(plane: &Plane, hosts: &[HostId]) -> Result<Vec<Submission>> {
    let lease = plane.db().lease_by_name(LEASE).await?.context("the lease is held")?;
    let guard = Guard { name: LEASE.to_owned(), epoch: lease.epoch };
    let bare = Arc::new(BareInserts::prepare(&Embedded::locate(&plane.context.config)?.url()).await?);
    let mut order: Vec<usize> = (0..PER_SECOND * SECONDS).map(|n| n % hosts.len()).collect();
    order.shuffle(&mut StdRng::seed_from_u64(1));
    let plans: Vec<(usize, HostId)> = order.into_iter().map(|agent| (agent, hosts[agent])).collect();
    let (db, waker, runtime) = (plane.db().clone(), plane.context.hosts.clone(), Handle::current());
    // A thread keeps the pace: the runtime's clock has steps of a millisecond.
    let pace = move || {
        let begin = Instant::now() + Duration::from_millis(100);
        let spawn = |(number, (agent, host)): (usize, (usize, HostId))| {
            let due = begin + Duration::from_secs_f64(number as f64 / PER_SECOND as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let (db, waker, guard, bare) = (db.clone(), waker.clone(), guard.clone(), bare.clone());
            runtime.spawn(async move {
                let command = command(host, guard.epoch)?;
                let mut tx = db.guarded(&guard).await?;
                command_enqueue_tx(&mut tx, &command).await?;
                tx.commit().await?;
                let committed = due.elapsed();
                waker.wake(&[host]);
                let bare = if number % BARE_EVERY == 0 { Some(bare.insert().await?) } else { None };
                anyhow::Ok(Submission { agent, uid: command.uid, due, committed, bare })
            })
        };
        plans.into_iter().enumerate().map(spawn).collect::<Vec<_>>()
    };
    let mut submissions = Vec::new();
    for submission in tokio::task::spawn_blocking(pace).await? {
        submissions.push(submission.await??);
    }
    Ok(submissions)
}

/// The least that making something durable in this database costs.
struct BareInserts {
    client: tokio_postgres::Client,
    insert: tokio_postgres::Statement,
}

impl BareInserts {
    async fn prepare(url: &str) -> Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        let table = "create table bench (id bigint generated always as identity primary key, words text not null)";
        client.batch_execute(table).await?;
        let insert = client.prepare("insert into bench (words) values ($1)").await?;
        Ok(Self { client, insert })
    }

    async fn insert(&self) -> Result<Duration> {
        // In the middle of the pause after a submission, so that neither waits for the other.
        tokio::time::sleep(PAUSE / 2).await;
        let begin = Instant::now();
        self.client.execute(&self.insert, &[&"an order that changes nothing"]).await?;
        Ok(begin.elapsed())
    }
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
fn command(host: HostId, epoch: i64) -> Result<NewCommand> {
    let body = pb::command::Body::PurgeMember(pb::PurgeMember {});
    Ok(NewCommand {
        uid: CommandId::new(),
        shard: 0,
        host,
        instance: Some(InstanceId::new()),
        member: Some(MemberId::new()),
        saga: None,
        epoch,
        generation: 1,
        kind: CommandKind::PurgeMember,
        args: serde_json::to_value(pb::Command { body: Some(body), ..Default::default() })?,
        timeout: jiff::SignedDuration::from_secs(60),
        expire: None,
    })
}
