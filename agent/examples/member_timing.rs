//! How long a member takes from the order to a server that accepts connections, with a directory from the warm pool,
//! how long a restart takes, and how long a removal with the data.
//!
//! `cargo run --release -p windlass-agent --example member_timing -- [rounds] [directory]`. As root it needs the system
//! user `windlass-db`.

use std::{
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use async_trait::async_trait;
use rcgen::{CertificateParams, KeyPair};
use tokio_util::sync::CancellationToken;
use windlass_agent::{
    host::HostKind,
    members::{Disposal, IssuedCertificate, MemberCertificates, Members, MembersConfig, WarmPool},
};
use windlass_core::{
    Error,
    engine::Engine,
    id::{InstanceId, MemberId},
    size::Resources,
};
use windlass_kit::failpoint::Failpoints;
use windlass_proto::agent::v1::{self as pb, apply_object::Kind, member_goal};

struct SelfSigned;

#[async_trait]
impl MemberCertificates for SelfSigned {
    async fn issue(&self, _member: MemberId) -> Result<IssuedCertificate, Error> {
        let failed = |error: rcgen::Error| Error::internal(error.to_string());
        let key = KeyPair::generate().map_err(failed)?;
        let params = CertificateParams::new(vec!["localhost".to_owned()]).map_err(failed)?;
        let pem = params.self_signed(&key).map_err(failed)?.pem();
        Ok(IssuedCertificate { chain_pem: pem.clone(), key_pem: key.serialize_pem(), ca_pem: pem })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(7), |text| text.parse()).context("rounds")?;
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::Builder::new().prefix("wl-").tempdir_in(parent)?;
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))?;
    let config = MembersConfig {
        state_dir: directory.path().join("state"),
        run_dir: directory.path().join("run"),
        run_as: nix::unistd::Uid::effective().is_root().then(|| "windlass-db".to_owned()),
        process_host: HostKind::Direct,
        bind_address: "127.0.0.1".to_owned(),
        warm_pool: WarmPool::On,
        ..MembersConfig::default()
    };
    let members = Members::open(config.clone(), Arc::new(SelfSigned), Failpoints::none()).await?;
    let shutdown = CancellationToken::new();
    let run = tokio::spawn(members.clone().run(shutdown.clone()));
    for engine in Engine::ALL.iter().copied() {
        let (mut creates, mut restarts, mut removes) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            wait_for_pool(&config, &members).await?;
            let mut goal = goal(&members, engine)?;
            creates.push(timed(&members, &goal).await?);
            goal.restarts += 1;
            goal.generation += 1;
            restarts.push(timed(&members, &goal).await?);
            let started = Instant::now();
            members.remove(goal.member_id.parse()?, Disposal::Purge).await?;
            removes.push(started.elapsed());
        }
        let [create, restart, remove] = [creates, restarts, removes].map(median);
        println!("{engine}: create {create:.0?}, restart {restart:.0?}, remove {remove:.0?} (medians of {rounds})");
    }
    shutdown.cancel();
    run.await?;
    Ok(())
}

async fn timed(members: &Members, goal: &pb::MemberGoal) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let facts = members.apply(goal.clone(), &CancellationToken::new()).await?;
    ensure!(facts.process() == pb::member_facts::Process::Running);
    Ok(started.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

async fn wait_for_pool(config: &MembersConfig, members: &Members) -> anyhow::Result<()> {
    let full = || {
        members.engines().iter().all(|known| {
            let name = format!("warm/{}-{}/data", known.engine, known.version);
            config.state_dir.join(name).exists() && known.catalogue.is_some()
        })
    };
    for _ in 0..6000 {
        if full() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("the pool was not full within a minute")
}

fn goal(members: &Members, engine: Engine) -> anyhow::Result<pb::MemberGoal> {
    let installed = members.engines();
    let versions = installed.iter().filter(|known| known.engine == engine).map(|known| known.version.as_str());
    let size = Resources::DEFAULT;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let verifier = match engine {
        Engine::Postgres => postgres_protocol::password::scram_sha_256(b"secret"),
        Engine::Mariadb => format!("*{}", "0".repeat(40)),
    };
    Ok(pb::MemberGoal {
        instance_id: InstanceId::new().to_string(),
        member_id: MemberId::new().to_string(),
        title: format!("timing/{engine}"),
        generation: 1,
        engine: engine.to_string(),
        version: engine.newest(versions).context("no version is installed")?.to_owned(),
        port: port.into(),
        cpu_millis: size.cpu_millis,
        memory_bytes: size.memory_bytes,
        disk_bytes: size.disk_bytes,
        parameters: (engine.descriptor().defaults)(&size),
        power: member_goal::Power::On.into(),
        data: member_goal::DataSource::Initialise.into(),
        admin: Some(pb::ApplyObject {
            kind: Kind::User.into(),
            name: "app".to_owned(),
            verifier,
            administrator: true,
            ..Default::default()
        }),
        ..Default::default()
    })
}
