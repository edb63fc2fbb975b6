//! Random kills of agents and of the control plane while commands are under way: every command ends with one result and
//! has one effect.

mod plane;

use std::time::{Duration, Instant};

use plane::{Acknowledge, BOUND, Plane, apply, cadence, command, succeeded};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use windlass_agent::{
    link::{Enrolment, TokenSource},
    sim::{SimAgent, SimConnection, SimPlan},
};
use windlass_core::id::MemberId;
use windlass_proto::agent::v1::{self as pb, command::Body};

const MEMBERS: usize = 20;
const KILLS: usize = 40;

/// Queues again what got lost on the way, under a new attempt: the agent has polled since and does not list it.
fn deliver_again(plane: &Plane, orders: &[pb::Command]) {
    let mut state = plane.state();
    let Some(poll) = state.polls.last().cloned() else { return };
    for order in orders {
        let queued = state.queue.iter().any(|command| command.uid == order.uid);
        if queued || poll.running.contains(&order.uid) || state.accepted.contains_key(&order.uid) {
            continue;
        }
        if let Some(attempt) = state.attempts.get(&order.uid).copied() {
            state.queue.push_back(pb::Command { attempt: attempt + 1, ..order.clone() });
        }
    }
}

async fn run(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut plane, directory) = (Plane::start().await, tempfile::tempdir().expect("directory"));
    plane.state().cadence = cadence(100, 50);
    plane.state().acknowledge = Acknowledge::Latest;
    let enrolment = Enrolment {
        identity_path: directory.path().join("identity.json"),
        token: TokenSource::Given(plane.token().into()),
        host_name: "host-1".to_owned(),
    };
    let identity = enrolment.attempt(&plane.endpoint).await.expect("enrols");
    let connection = SimConnection::Enrolled { endpoints: vec![plane.endpoint.clone()], identity };
    let mut agent = SimAgent::new(connection, SimPlan::default());
    agent.target().set_latency(Duration::from_millis(5));
    agent.start().expect("starts");

    // Each member is made, changed and, every second one, removed; one command of a member after the other, as sagas do.
    let mut orders = Vec::new();
    for n in 0..MEMBERS {
        let member = MemberId::new();
        orders.push(vec![apply(member, 1), apply(member, 2)]);
        if n % 2 == 0 {
            orders[n].push(command(member, Body::RemoveMember(pb::RemoveMember { purge: true })));
        }
    }
    let all: Vec<_> = orders.iter().flatten().cloned().collect();
    let mut waiting: Vec<_> = orders.into_iter().map(|of_member| of_member.into_iter().peekable()).collect();
    let mut issued: Vec<pb::Command> = Vec::new();
    let begun = Instant::now();
    let mut kills = 0;
    while plane.state().accepted.len() < all.len() || kills < KILLS {
        assert!(begun.elapsed() < 3 * BOUND, "seed {seed}: {} of {} ended", plane.state().accepted.len(), all.len());
        tokio::time::sleep(Duration::from_millis(random.random_range(1..60))).await;
        let open: Vec<_> = issued.iter().filter(|order| !plane.state().accepted.contains_key(&order.uid)).collect();
        let busy: Vec<_> = open.iter().map(|order| order.member_id.clone()).collect();
        let room = random.random_range(1..8usize).saturating_sub(busy.len());
        let free = waiting.iter_mut().filter_map(|of| of.next_if(|order| !busy.contains(&order.member_id))).take(room);
        for order in free.collect::<Vec<_>>() {
            plane.queue(order.clone());
            issued.push(order);
        }
        match random.random_range(0..6) {
            0 | 1 => {
                agent.restart().await.expect("restarts");
                kills += 1;
            }
            2 => {
                plane.down();
                plane.up().await;
                kills += 1;
            }
            _ => deliver_again(&plane, &issued),
        }
    }
    assert_eq!(agent.target().repeated(), [], "seed {seed}");
    assert_eq!(agent.target().count(), (MEMBERS / 2, 0), "seed {seed}");
    for order in &all {
        let result = plane.state().accepted[&order.uid].clone();
        succeeded(&result);
        assert_eq!(agent.target().effects(order.uid.parse().expect("uid")), 1, "seed {seed}: {order:?}");
    }
}

#[tokio::test]
async fn every_command_ends_once_through_random_kills() {
    for seed in 1..=3 {
        Box::pin(run(seed)).await;
    }
}
