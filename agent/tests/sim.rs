//! Many simulated agents at once: cheap while they are idle, and quick to get a command.

mod plane;

use std::{sync::Arc, time::Instant};

use plane::{BOUND, Plane, apply, cadence, succeeded};
use tokio::time::timeout;
use tonic::metadata::MetadataMap;
use windlass_agent::{
    link::{Enrolment, TokenSource},
    sim::{SimAgent, SimConnection, SimPlan},
};
use windlass_core::id::MemberId;
use windlass_kit::tls;

const AGENTS: usize = 1000;

/// Resident memory of this process, bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("proc");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("number") * 1024
}

#[tokio::test]
async fn a_thousand_idle_agents_share_a_connection_and_cost_little() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    plane.state().cadence = cadence(600_000, 600_000);
    let enrolment = Enrolment {
        identity_path: directory.path().join("identity.json"),
        token: TokenSource::Given(plane.token().into()),
        host_name: "crowd".to_owned(),
    };
    let identity = enrolment.attempt(&plane.endpoint).await.expect("enrols");
    let trust = identity.trust().expect("trust");
    let channel = tls::connect(&plane.endpoint, &trust, Some(identity.store())).await.expect("connects");
    let before = resident();
    let mut agents: Vec<_> = (0..AGENTS)
        .map(|n| {
            let mut metadata = MetadataMap::new();
            metadata.insert("x-host", n.to_string().parse().expect("value"));
            SimAgent::new(SimConnection::Shared { channel: channel.clone(), metadata }, SimPlan::default())
        })
        .collect();
    for agent in &mut agents {
        agent.start().expect("starts");
    }
    plane.wait("all are parked", |s| (s.polls.len() >= AGENTS && s.heartbeats.len() >= AGENTS).then_some(())).await;
    let each = (resident() - before) / AGENTS as u64;
    println!("{each} bytes for one idle agent and its server side");
    // Both ends, without optimisation. Measured: about 60 KiB.
    assert!(each < 200 << 10, "{each} bytes for one idle agent and its server side");

    let target = Arc::clone(agents[AGENTS / 2].target());
    let order = apply(MemberId::new(), 1);
    let begun = Instant::now();
    plane.queue(order.clone());
    succeeded(&plane.result(&order.uid).await);
    assert!(begun.elapsed() < BOUND / 4, "{:?}", begun.elapsed());
    let carried_out: u32 = agents.iter().map(|agent| agent.target().runs(order.uid.parse().expect("uid"))).sum();
    assert_eq!(carried_out, 1, "by one of them: {}", target.count().0);
    timeout(BOUND, async {
        for agent in &mut agents {
            agent.kill().await;
        }
    })
    .await
    .expect("all end");
}
