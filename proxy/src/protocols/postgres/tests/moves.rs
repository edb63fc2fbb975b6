//! Another server becomes the primary: clean sessions do not notice, others are told the truth.

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, time::timeout};
use windlass_wire_pg::frontend;

use super::{
    raw::Raw,
    world::{SOON, World, code, text, until},
};
use crate::routes::{Pooling, State};

async fn port(client: &tokio_postgres::Client) -> String {
    text(client, "show port").await
}

/// The error may come before the next statement: then the client only sees its end.
async fn told_or_closed(client: &tokio_postgres::Client, expected: &str) {
    let error = client.simple_query("select 1").await.unwrap_err();
    assert!(error.is_closed() || error.code().is_some_and(|code| code.code() == expected), "{error:?}");
}

#[tokio::test]
async fn clean_sessions_are_held_and_go_on_at_the_new_primary() {
    let mut world = World::with(Pooling::Session, 2, |_| {}).await;
    for (pooling, old, new) in [(Pooling::Session, 0, 1), (Pooling::Transaction, 1, 0)] {
        world.publish(|route| route.settings.pooling = Some(pooling));
        let client = world.connect().await;
        let statement = client.prepare("select current_setting('work_mem'), $1::int").await.unwrap();
        client.batch_execute("set work_mem = '7MB'").await.unwrap();
        assert_eq!(port(&client).await, world.servers[old].port.to_string());
        world.pause();
        let held = client.query_one(&statement, &[&5]);
        tokio::pin!(held);
        assert!(timeout(Duration::from_millis(100), &mut held).await.is_err(), "it is held");
        assert_eq!(world.shared.metrics.held.get(), 1);
        world.servers[old].crash();
        world.promote(new);
        let row = timeout(SOON, held).await.unwrap().unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, i32>(1)), ("7MB", 5));
        assert_eq!(port(&client).await, world.servers[new].port.to_string());
        assert_eq!(world.shared.metrics.held.get(), 0);
        world.servers[old].run();
    }
}

#[tokio::test]
async fn a_pause_is_taken_when_the_last_transaction_ended() {
    let mut world = World::new(Pooling::Session).await;
    let (one, two) = (world.connect().await, world.connect().await);
    let instance = world.instance();
    one.batch_execute("begin").await.unwrap();
    two.batch_execute("select 1").await.unwrap();
    until("the end of the second's statement", || instance.running() == 1).await;
    world.pause();
    let held = two.simple_query("select 1");
    tokio::pin!(held);
    assert!(timeout(Duration::from_millis(50), &mut held).await.is_err());
    // A transaction that runs goes on until its end.
    one.batch_execute("select 1").await.unwrap();
    assert_eq!(instance.running(), 1);
    one.batch_execute("commit").await.unwrap();
    until("the end of the transaction", || instance.running() == 0).await;
    world.publish(|route| route.state = State::Open);
    timeout(SOON, held).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_held_client_that_hangs_up_gives_its_place_back() {
    let mut world = World::new(Pooling::Session).await;
    let mut client = Raw::connect(&world, "ada@app.team").await;
    world.publish(|route| route.settings.hold = Some(Duration::from_secs(3600)));
    world.pause();
    let mut query = Vec::new();
    frontend::write_query(&mut query, "select 1");
    client.stream.write_all(&query).await.unwrap();
    until("a held client", || world.shared.metrics.held.get() == 1).await;
    drop(client);
    until("a free place", || world.shared.metrics.held.get() == 0).await;
}

#[tokio::test]
async fn a_client_can_come_in_while_nobody_leads() {
    let mut world = World::with(Pooling::Transaction, 2, |_| {}).await;
    world.connect().await.batch_execute("select 1").await.unwrap();
    world.publish(|route| {
        route.state = State::Paused("failover".to_owned());
        route.primary = None;
    });
    world.servers[0].crash();
    let client = timeout(SOON, world.try_connect("ada@app.team")).await.unwrap().unwrap();
    let held = client.simple_query("select 1");
    tokio::pin!(held);
    assert!(timeout(Duration::from_millis(50), &mut held).await.is_err());
    world.promote(1);
    timeout(SOON, held).await.unwrap().unwrap();
}

#[tokio::test]
async fn pinned_sessions_are_told_at_the_end_of_their_transaction() {
    let mut world = World::with(Pooling::Session, 2, |_| {}).await;
    for (pooling, new) in [(Pooling::Session, 1), (Pooling::Transaction, 0)] {
        world.publish(|route| route.settings.pooling = Some(pooling));
        let client = world.connect().await;
        client.batch_execute("listen news").await.unwrap();
        world.pause();
        world.promote(new);
        told_or_closed(&client, "57P01").await;
    }
}

#[tokio::test]
async fn what_is_under_way_when_the_primary_dies_gets_an_honest_error() {
    let mut world = World::with(Pooling::Transaction, 2, |_| {}).await;
    let (open, running, idle) = (world.connect().await, world.connect().await, world.connect().await);
    idle.batch_execute("select 1").await.unwrap();
    open.batch_execute("begin; create table t (id int)").await.unwrap();
    let slow = tokio::spawn(async move { running.simple_query("select pg_sleep(60)").await });
    until("the statement", || world.instance().running() == 2).await;
    // Not the server says so, but its end: nothing is known of the statement in flight.
    world.servers[0].kill();
    let error = timeout(SOON, slow).await.unwrap().unwrap();
    assert_eq!(code(error), "08007");
    told_or_closed(&open, "08006").await;
    world.promote(1);
    timeout(SOON, idle.simple_query("select 1")).await.unwrap().unwrap();
}

#[tokio::test]
async fn those_who_wait_for_a_connection_follow_the_new_primary_at_once() {
    let mut world = World::with(Pooling::Transaction, 2, |config| config.limits.backends = 1).await;
    let (open, waits) = (world.connect().await, world.connect().await);
    open.batch_execute("begin").await.unwrap();
    let waiting = tokio::spawn(async move { waits.simple_query("show port").await });
    let pool = (world.route.instance, world.servers[0].member);
    until("the queue", || world.shared.postgres.pools().of(pool, 1).waiting() == 1).await;
    // The old primary stays as it is, with its only connection in use.
    world.promote(1);
    timeout(SOON / 4, waiting).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_session_in_a_transaction_leaves_a_primary_that_another_replaced() {
    let mut world = World::with(Pooling::Transaction, 2, |_| {}).await;
    let client = world.connect().await;
    client.batch_execute("begin").await.unwrap();
    // The old one does not know and goes on answering.
    world.promote(1);
    told_or_closed(&client, "08006").await;
}

#[tokio::test]
async fn a_server_that_does_not_show_the_epoch_is_not_written_to() {
    let mut world = World::with(Pooling::Transaction, 1, |config| {
        config.hold.time = jiff::SignedDuration::from_millis(1500);
    })
    .await;
    let client = world.connect().await;
    client.batch_execute("create table t (id int)").await.unwrap();
    world.publish(|route| route.epoch = 2);
    // Neither the connection that it has nor a new one.
    assert_eq!(code(client.simple_query("insert into t values (1)").await), "08001");
    let client = world.connect().await;
    let insert = client.simple_query("insert into t values (2)");
    tokio::pin!(insert);
    assert!(timeout(Duration::from_millis(50), &mut insert).await.is_err());
    world.servers[0].sql("alter system set windlass.epoch = '2'; select pg_reload_conf()");
    timeout(SOON, insert).await.unwrap().unwrap();
    assert_eq!(world.servers[0].sql_in("loom", "select sum(id) from t"), "2");
}

#[tokio::test]
async fn a_shut_gate_holds_and_a_budget_ends_the_wait() {
    let mut world = World::with(Pooling::Transaction, 1, |config| {
        config.hold.time = jiff::SignedDuration::from_secs(2);
    })
    .await;
    let client = world.connect().await;
    world.servers[0].shut_gate();
    let held = client.simple_query("select 1");
    tokio::pin!(held);
    assert!(timeout(Duration::from_millis(200), &mut held).await.is_err());
    world.servers[0].open_gate();
    timeout(SOON, held).await.unwrap().unwrap();
    world.pause();
    let error = client.simple_query("select 1").await;
    assert_eq!(code(error), "57P03");
    world.publish(|route| route.state = State::Closed("it was stopped".to_owned()));
    let error = world.try_connect("ada@app.team").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57P03");
    assert!(error.as_db_error().unwrap().message().contains("it was stopped"), "{error:?}");
}

#[tokio::test]
async fn a_cancelled_wait_for_replicas_is_not_success() {
    let world = World::new(Pooling::Transaction).await;
    let client = world.connect().await;
    client.batch_execute("create table t (id int)").await.unwrap();
    let statement = client.prepare("insert into t values ($1)").await.unwrap();
    world.servers[0].sql("alter system set synchronous_standby_names = 'nobody'; select pg_reload_conf()");
    let insert = tokio::spawn(async move { (client.execute(&statement, &[&1]).await, client) });
    let waiting = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    until("the wait", || world.servers[0].sql(waiting) == "1").await;
    world.servers[0].sql("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'");
    let (outcome, client) = timeout(SOON, insert).await.unwrap().unwrap();
    assert_eq!(code(outcome), "08007");
    until("the end of the session", || client.is_closed()).await;
}

#[tokio::test]
async fn readers_go_to_a_replica_and_fall_back_by_policy() {
    let mut world = World::with(Pooling::Transaction, 2, |_| {}).await;
    let reader = world.try_connect("ada@app-ro.team").await.unwrap();
    assert_eq!(port(&reader).await, world.servers[1].port.to_string());
    // A pause of the primary does not concern them.
    world.pause();
    assert_eq!(port(&reader).await, world.servers[1].port.to_string());
    world.publish(|route| {
        route.state = State::Open;
        route.replicas.clear();
    });
    assert_eq!(port(&reader).await, world.servers[0].port.to_string());
}
