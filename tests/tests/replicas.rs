//! Replicated instances, end to end with the real programs: made, moved, scaled, stopped, deleted and brought back,
//! with every row that was committed still there.

use std::time::Duration;

use anyhow::{Result, ensure};
use windlass_core::replication::ReplicaState;
use windlass_proto::api::v1::{Instance, Member, instance};
use windlass_tests::api::instance_name;
use windlass_tests::{Stack, leaks};

const LIMIT: Duration = Duration::from_secs(60);

fn primary(instance: &Instance) -> Option<&Member> {
    instance.members.iter().find(|member| member.role == "primary")
}

/// In service, with so many replicas that acknowledge for sure: they may be promoted.
fn in_step(instance: &Instance, acks: usize) -> bool {
    let Some(status) = &instance.replication_status else { return false };
    status.phase == "STEADY"
        && (status.acknowledging.len(), status.candidates.len()) == (acks, acks)
        && primary(instance).is_some_and(|member| member.replica_state == ReplicaState::Open.as_str())
        && instance.health() == instance::Health::Healthy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replicated_instance_lives_its_whole_life_and_loses_nothing() -> Result<()> {
    let stack = Stack::plan().hosts(3).start().await?;
    let api = &stack.api;
    api.create_project("shop").await?;
    let name = instance_name("shop", "ha");
    let windlass =
        async |arguments: &[&str]| stack.run(&[&["--project", "shop"], arguments, &["--wait"]].concat()).await;
    windlass(&["instance", "create", "ha", "--engine", "postgres", "--replicas", "1"]).await?;
    let made = api.instance_until(&name, "is in step", LIMIT, |i| in_step(i, 1)).await?;
    ensure!(made.members.len() == 2 && made.members[0].host != made.members[1].host, "{made:?}");
    stack.query("shop", "ha", "psql", "create table kept (n int)").await?;
    stack.query("shop", "ha", "psql", "insert into kept values (1)").await?;

    let before = primary(&made).map(|member| member.uid.clone());
    windlass(&["instance", "switchover", "ha"]).await?;
    let moved = api.instance_until(&name, "is in step again", LIMIT, |i| in_step(i, 1)).await?;
    ensure!(primary(&moved).map(|member| member.uid.clone()) != before, "the primary was moved: {moved:?}");
    stack.query("shop", "ha", "psql", "insert into kept values (2)").await?;

    windlass(&["replica", "add", "ha"]).await?;
    let grown = api.instance_until(&name, "has two replicas", LIMIT, |i| in_step(i, 2)).await?;
    ensure!(grown.members.len() == 3, "{grown:?}");
    windlass(&["instance", "restart", "ha"]).await?;
    windlass(&["instance", "stop", "ha"]).await?;
    ensure!(stack.query("shop", "ha", "psql", "select 1").await.is_err(), "a stopped instance answers nobody");
    windlass(&["instance", "start", "ha"]).await?;
    api.instance_until(&name, "is in step after a start", LIMIT, |i| in_step(i, 2)).await?;
    stack.query("shop", "ha", "psql", "insert into kept values (3)").await?;

    windlass(&["instance", "failover", "ha", "--force"]).await?;
    api.instance_until(&name, "is in step after a failover", LIMIT, |i| in_step(i, 2)).await?;
    stack.query("shop", "ha", "psql", "insert into kept values (4)").await?;

    windlass(&["instance", "update", "ha", "--replicas", "0"]).await?;
    let alone = api.instance_until(&name, "is alone", LIMIT, |i| in_step(i, 0)).await?;
    ensure!(alone.members.len() == 1, "{alone:?}");
    windlass(&["instance", "update", "ha", "--replicas", "1"]).await?;
    api.instance_until(&name, "has a replica again", LIMIT, |i| in_step(i, 1)).await?;
    ensure!(
        stack.query("shop", "ha", "psql", "select string_agg(n::text, ',' order by n) from kept").await? == "1,2,3,4"
    );

    windlass(&["instance", "delete", "ha", "--yes"]).await?;
    windlass(&["instance", "undelete", "ha"]).await?;
    api.instance_until(&name, "is in step after an undelete", LIMIT, |i| in_step(i, 1)).await?;
    ensure!(stack.query("shop", "ha", "psql", "select count(*) from kept").await? == "4");
    let why = stack.run(&["--project", "shop", "instance", "explain", "ha"]).await?;
    ensure!(why.contains("commits wait for 1 of") && why.contains("may be promoted without loss"), "{why}");

    windlass(&["instance", "delete", "ha", "--yes", "--purge"]).await?;
    leaks::nothing_left(&stack).await?;
    leaks::consistent(&stack).await?;
    stack.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_with_one_member_gets_its_first_replica_in_service() -> Result<()> {
    let stack = Stack::plan().hosts(2).start().await?;
    let api = &stack.api;
    api.create_project("shop").await?;
    api.make_instance("shop", "small", "postgres").await?;
    stack.query("shop", "small", "psql", "create table kept as select generate_series(1, 1000) n").await?;
    stack.run(&["--project", "shop", "replica", "add", "small", "--wait"]).await?;
    let name = instance_name("shop", "small");
    api.instance_until(&name, "is in step", LIMIT, |i| in_step(i, 1)).await?;
    stack.run(&["--project", "shop", "instance", "switchover", "small", "--wait"]).await?;
    api.instance_until(&name, "is in step again", LIMIT, |i| in_step(i, 1)).await?;
    ensure!(stack.query("shop", "small", "psql", "select count(*) from kept").await? == "1000");
    stack.finish().await
}
