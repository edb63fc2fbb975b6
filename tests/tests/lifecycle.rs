//! The main job, end to end: from a request to a database that psql and mariadb connect to, through its whole life.

use std::time::Duration;

use anyhow::{Result, ensure};
use windlass_core::engine::Engine;
use windlass_proto::api::v1::{
    CreateObjectRequest, DatabaseObject, DeleteInstanceRequest, Instance, InstanceVerbRequest, Resources,
    UndeleteInstanceRequest, UpdateInstanceRequest, database_object, instance,
};
use windlass_tests::api::{instance_name, request_id};
use windlass_tests::{Stack, leaks};

const LIMIT: Duration = Duration::from_secs(30);

fn verb(name: &str) -> InstanceVerbRequest {
    InstanceVerbRequest { name: name.to_owned(), request_id: request_id(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_each_engine_lives_its_whole_life() -> Result<()> {
    let stack = Stack::plan().start().await?;
    stack.api.create_project("shop").await?;
    for engine in Engine::ALL {
        whole_life(&stack, *engine).await?;
    }
    leaks::nothing_left(&stack).await?;
    leaks::consistent(&stack).await?;
    stack.finish().await
}

async fn whole_life(stack: &Stack, engine: Engine) -> Result<()> {
    let api = &stack.api;
    let client = engine.descriptor().client;
    let id = format!("{engine}-1");
    let name = instance_name("shop", &id);

    let made = api.make_instance("shop", &id, engine.as_str()).await?;
    ensure!(made.state() == instance::State::Running, "{made:?}");
    ensure!(made.endpoints.len() == 1 && made.members.len() == 1, "{made:?}");
    ensure!(stack.query("shop", &id, client, "select 40 + 2").await? == "42");
    ensure!(
        stack.run(&["--project", "shop", "instance", "list", "-o", "name"]).await?.contains(&id),
        "the list has it"
    );
    stack.query("shop", &id, client, "create table kept (n int)").await?;
    stack.query("shop", &id, client, "insert into kept values (7)").await?;

    let stopped = api.instances().stop_instance(verb(&name)).await?.into_inner();
    api.succeeded(&stopped).await?;
    let now = api.instance(&name).await?;
    ensure!(now.state() == instance::State::Stopped, "{now:?}");
    ensure!(stack.query("shop", &id, client, "select 1").await.is_err(), "a stopped database answers nobody");
    let started = api.instances().start_instance(verb(&name)).await?.into_inner();
    api.succeeded(&started).await?;
    ensure!(stack.query("shop", &id, client, "select n from kept").await? == "7");

    let before = api.instance_until(&name, "runs", LIMIT, |i| i.members[0].pid > 0).await?.members[0].pid;
    let restarted = api.instances().restart_instance(verb(&name)).await?.into_inner();
    api.succeeded(&restarted).await?;
    api.instance_until(&name, "has a new process", LIMIT, |i| i.members[0].pid > 0 && i.members[0].pid != before)
        .await?;

    resize(stack, &name).await?;
    objects(stack, &name, &id, engine).await?;

    let delete = DeleteInstanceRequest { name: name.clone(), request_id: request_id(), ..Default::default() };
    let deleted = api.instances().delete_instance(delete).await?.into_inner();
    api.succeeded(&deleted).await?;
    ensure!(stack.query("shop", &id, client, "select 1").await.is_err(), "a deleted database answers nobody");
    let undelete = UndeleteInstanceRequest { name: name.clone(), request_id: request_id() };
    let undeleted = api.instances().undelete_instance(undelete).await?.into_inner();
    api.succeeded(&undeleted).await?;
    ensure!(stack.query("shop", &id, client, "select n from kept").await? == "7", "undelete brings the data back");
    api.purge_instance(&name).await
}

async fn resize(stack: &Stack, name: &str) -> Result<()> {
    let wanted = Resources { cpu_millis: 200, memory_bytes: 512 << 20, disk_bytes: 1 << 30 };
    let request = UpdateInstanceRequest {
        instance: Some(Instance { name: name.to_owned(), resources: Some(wanted), ..Default::default() }),
        update_mask: Some(pbjson_types::FieldMask { paths: vec!["resources".to_owned()] }),
        request_id: request_id(),
        restart_if_needed: true,
        ..Default::default()
    };
    let operation = stack.api.instances().update_instance(request).await?.into_inner();
    stack.api.succeeded(&operation).await?;
    let now = stack.api.instance(name).await?;
    ensure!(now.resources == Some(wanted) && now.state() == instance::State::Running, "{now:?}");
    ensure!(now.pending_restart.is_empty(), "it was restarted: {:?}", now.pending_restart);
    Ok(())
}

async fn objects(stack: &Stack, name: &str, id: &str, engine: Engine) -> Result<()> {
    let make = async |kind: database_object::Kind, object_id: &str, object: DatabaseObject| -> Result<()> {
        let request = CreateObjectRequest {
            parent: name.to_owned(),
            object_id: object_id.to_owned(),
            object: Some(DatabaseObject { kind: kind.into(), ..object }),
            request_id: request_id(),
            ..Default::default()
        };
        let operation = stack.api.objects().create_object(request).await?.into_inner();
        stack.api.succeeded(&operation).await
    };
    make(database_object::Kind::Database, "orders", DatabaseObject::default()).await?;
    make(database_object::Kind::User, "clerk", DatabaseObject { databases: "orders".to_owned(), ..Default::default() })
        .await?;
    let client = engine.descriptor().client;
    let statement = if engine.descriptor().has_extensions { "select current_database()" } else { "select database()" };
    let mut arguments = vec!["--project", "shop", "connect", id, "--user", "clerk", "--database", "orders", "--"];
    let native = windlass_tests::database::query(client, statement);
    arguments.extend(native.iter().map(String::as_str));
    ensure!(stack.run(&arguments).await? == "orders", "the new user reaches the new database");
    if engine.descriptor().has_extensions {
        let object = DatabaseObject { database: "orders".to_owned(), ..Default::default() };
        make(database_object::Kind::Extension, "pg_trgm", object).await?;
    }
    Ok(())
}
