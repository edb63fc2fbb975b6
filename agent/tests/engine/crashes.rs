//! The agent dies at every interesting place; the repeated order has the same end, and one effect.

use windlass_agent::members::Disposal;
use windlass_core::engine::Engine;
use windlass_proto::agent::v1 as pb;

use crate::{
    agent_process::{Order, dies_at},
    client::{query, setting},
    fixture::{Host, apply, member, runs, with},
};

#[tokio::test]
async fn a_postgres_create_is_repeated_after_a_death_anywhere() {
    create(Engine::Postgres).await;
}

#[tokio::test]
async fn a_mariadb_create_is_repeated_after_a_death_anywhere() {
    create(Engine::Mariadb).await;
}

async fn create(engine: Engine) {
    let host = Host::new();
    let template = host.template(engine).await;
    for point in [
        "members.after_goal",
        "members.after_take_warm",
        "members.after_certificate",
        "members.after_config",
        "host.after_spawn",
        "members.after_start",
        "members.after_admin",
    ] {
        template.fill_pool();
        let goal = host.goal(&*host.open().await, engine);
        dies_at(&host, point, Order::Apply(goal.clone()));
        let members = host.open().await;
        let facts = apply(&members, &goal).await;
        assert!(runs(&facts), "{engine} {point}: {facts:?}");
        assert_eq!(query(&host, &goal, "select 41 + 1"), "42", "{engine} {point}");
        let servers = host.servers(&goal);
        assert_eq!(servers, [facts.pid], "{engine} {point}: one server");
        members.remove(member(&goal), Disposal::Purge).await.expect("remove");
        host.assert_clean();
    }
}

#[tokio::test]
async fn a_postgres_change_with_a_restart_is_repeated_after_a_death_anywhere_and_restarts_once() {
    change(Engine::Postgres).await;
}

#[tokio::test]
async fn a_mariadb_change_with_a_restart_is_repeated_after_a_death_anywhere_and_restarts_once() {
    change(Engine::Mariadb).await;
}

async fn change(engine: Engine) {
    let host = Host::new();
    let members = host.open().await;
    let mut goal = host.goal(&members, engine);
    apply(&members, &goal).await;
    let mut members = Some(members);
    for point in ["members.after_goal", "members.after_config", "members.after_stop", "members.after_start"] {
        let connections = 60 + goal.generation;
        goal = with(&goal, &[("max_connections", &connections.to_string())]);
        goal.restarts += 1;
        drop(members.take());
        dies_at(&host, point, Order::Apply(goal.clone()));
        let after_death = host.servers(&goal);
        let next = host.open().await;
        let facts = apply(&next, &goal).await;
        assert!(runs(&facts) && facts.restarts == goal.restarts, "{engine} {point}: {facts:?}");
        if point == "members.after_start" {
            assert_eq!(host.servers(&goal), after_death, "{engine}: the restart was done before the death");
        }
        assert_eq!(setting(&host, &goal, "max_connections"), connections.to_string(), "{engine} {point}");
        assert_eq!(facts.pending_restart, [""; 0], "{engine} {point}");
        members = Some(next);
    }
}

#[tokio::test]
async fn a_postgres_removal_is_repeated_after_a_death_anywhere_and_keeps_the_data() {
    removal(Engine::Postgres).await;
}

#[tokio::test]
async fn a_mariadb_removal_is_repeated_after_a_death_anywhere_and_keeps_the_data() {
    removal(Engine::Mariadb).await;
}

async fn removal(engine: Engine) {
    let host = Host::new();
    let template = host.template(engine).await;
    for point in ["members.after_retire", "members.after_halt", "members.after_data"] {
        template.fill_pool();
        let members = host.open().await;
        let goal = host.goal(&members, engine);
        let identity = apply(&members, &goal).await.engine_identity;
        drop(members);
        dies_at(&host, point, Order::Remove(goal.clone()));
        let members = host.open().await;
        members.remove(member(&goal), Disposal::Retain).await.expect("remove");
        assert_eq!(host.names("retained").len(), 1, "{engine} {point}");
        assert_eq!(host.servers(&goal), [0i64; 0]);
        let source = pb::member_goal::DataSource::Retained;
        let back = pb::MemberGoal { data: source.into(), generation: 9, ..goal.clone() };
        assert_eq!(apply(&members, &back).await.engine_identity, identity, "{engine} {point}");
        members.remove(member(&goal), Disposal::Purge).await.expect("remove");
        host.assert_clean();
    }
}

/// The agent is replaced while clients are connected: same server, same connection.
#[tokio::test]
async fn the_death_of_the_agent_leaves_servers_and_their_connections_alone() {
    for engine in Engine::ALL.iter().copied() {
        let host = Host::new();
        let members = host.open().await;
        let goal = host.goal(&members, engine);
        let before = apply(&members, &goal).await;
        drop(members);
        let mut session = host.client(&goal).await;
        session.set_variable().await;
        let fixed = match engine {
            Engine::Postgres => "max_connections",
            Engine::Mariadb => "back_log",
        };
        // Dies while it changes something else about the member.
        dies_at(&host, "members.after_config", Order::Apply(with(&goal, &[(fixed, "61")])));
        let members = host.open().await;
        assert_eq!(members.facts()[0].pid, before.pid, "found again");
        let goal = with(&goal, &[(fixed, "62")]);
        let after = apply(&members, &goal).await;
        assert_eq!((after.pid, &after.process_start), (before.pid, &before.process_start));
        assert_eq!(after.pending_restart, [fixed]);
        assert!(after.connections >= 1, "{after:?}");
        assert!(session.variable_is_set().await, "{engine}: the same connection");
    }
}
