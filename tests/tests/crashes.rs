//! A death at each exact point between two writes: the operation ends well and has one effect.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use windlass_core::engine::Engine;
use windlass_tests::api::instance_name;
use windlass_tests::stack::Metadata;
use windlass_tests::{Stack, leaks, wait_until};

const DEATH_LIMIT: Duration = Duration::from_secs(45);

/// Where an agent may die around one command.
const AGENT_POINTS: &[&str] = &[
    "journal.before_accept",
    "command.before_effect",
    "command.after_effect",
    "journal.after_finish",
    "report.before",
    "report.after_ack",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_dies_at_any_commit_of_a_saga_goes_on_after_its_restart() -> Result<()> {
    let mut stack = Stack::plan().start().await?;
    stack.api.create_project("shop").await?;
    let mut deaths = 0;
    for point in ["saga.before_commit", "saga.after_commit"] {
        for skip in 0..4 {
            let armed = format!("{point}=abort(skip={skip},once)");
            stack.control_plane.stop().await?;
            stack.control_plane.start(&[("WINDLASS_FAILPOINTS", &armed)])?;
            stack.answers().await?;
            let id = format!("db-{deaths}");
            let operation = stack.api.create_instance("shop", &id, Engine::Postgres.as_str()).await?;
            stack.control_plane.ended(DEATH_LIMIT).await.with_context(|| format!("{armed} was never reached"))?;
            deaths += 1;
            stack.control_plane.stop().await?;
            stack.control_plane.start(&[])?;
            stack.answers().await?;
            stack.api.succeeded(&operation).await.with_context(|| armed.clone())?;
            ensure!(stack.query("shop", &id, "psql", "select 1").await? == "1", "{armed}");
            leaks::consistent(&stack).await.with_context(|| armed.clone())?;
            stack.api.purge_instance(&instance_name("shop", &id)).await.with_context(|| armed.clone())?;
        }
    }
    leaks::nothing_left(&stack).await?;
    leaks::consistent(&stack).await?;
    stack.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_at_any_point_of_a_command_carries_it_out_once() -> Result<()> {
    let mut stack = Stack::plan().start().await?;
    stack.api.create_project("shop").await?;
    for (number, point) in AGENT_POINTS.iter().enumerate() {
        let engine = Engine::ALL[number % Engine::ALL.len()];
        let armed = format!("{point}=abort(once)");
        stack.hosts[0].agent.stop().await?;
        stack.hosts[0].agent.start(&[("WINDLASS_FAILPOINTS", &armed)])?;
        stack.hosts_online().await?;
        let id = format!("db-{number}");
        let operation = stack.api.create_instance("shop", &id, engine.as_str()).await?;
        stack.hosts[0].agent.ended(DEATH_LIMIT).await.with_context(|| format!("{armed} was never reached"))?;
        stack.hosts[0].agent.stop().await?;
        stack.hosts[0].agent.start(&[])?;
        stack.hosts_online().await?;
        stack.api.succeeded(&operation).await.with_context(|| armed.clone())?;
        ensure!(stack.query("shop", &id, engine.descriptor().client, "select 1").await? == "1", "{armed}");
        let members = std::fs::read_dir(stack.hosts[0].directory.join("state/members"))?.count();
        ensure!(members == 1, "{armed}: {members} directories");
        leaks::consistent(&stack).await.with_context(|| armed.clone())?;
        stack.api.purge_instance(&instance_name("shop", &id)).await.with_context(|| armed.clone())?;
    }
    leaks::nothing_left(&stack).await?;
    leaks::consistent(&stack).await?;
    stack.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_metadata_survives_the_control_plane_and_databases_survive_both() -> Result<()> {
    let mut stack = Stack::plan().metadata(Metadata::Embedded).start().await?;
    stack.api.create_project("shop").await?;
    let made = stack.api.make_instance("shop", "pg", Engine::Postgres.as_str()).await?;
    let pid = made.members[0].pid;
    stack.control_plane.kill()?;
    ensure!(i32::try_from(pid).is_ok_and(|pid| windlass_tests::database::start_time(pid).is_some()), "it serves on");
    stack.control_plane.start(&[])?;
    stack.answers().await?;
    stack.control_plane.stop().await?;
    wait_until("end of the embedded metadata", Duration::from_secs(20), async || {
        let left = windlass_tests::database::processes_below(&stack.directory().join("control-plane"));
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    stack.control_plane.start(&[])?;
    stack.answers().await?;
    stack.hosts_online().await?;
    let now = stack.api.instance(&instance_name("shop", "pg")).await?;
    ensure!(now.members[0].pid == pid, "the same process: {now:?}");
    ensure!(stack.query("shop", "pg", "psql", "select 1").await? == "1");
    stack.api.purge_instance(&now.name).await?;
    leaks::nothing_left(&stack).await?;
    stack.finish().await
}
