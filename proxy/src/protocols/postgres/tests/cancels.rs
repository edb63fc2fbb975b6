//! Cancellations: they reach the statement that they are for, and no other.

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};
use tokio_postgres::NoTls;
use windlass_wire_pg::startup::{CancelKey, write_cancel};

use super::{
    raw::Raw,
    world::{SOON, World, code, until},
};
use crate::routes::Pooling;

async fn send_cancel(world: &World, key: CancelKey) {
    let mut packet = Vec::new();
    write_cancel(&mut packet, key);
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(&packet).await.unwrap();
}

#[tokio::test]
async fn a_statement_is_cancelled_and_the_session_goes_on() {
    let mut world = World::new(Pooling::Session).await;
    for pooling in [Pooling::Session, Pooling::Transaction] {
        world.publish(|route| route.settings.pooling = Some(pooling));
        let client = world.connect().await;
        let token = client.cancel_token();
        let slow = tokio::spawn(async move { (client.simple_query("select pg_sleep(60)").await, client) });
        until("the statement", || world.instance().running() == 1).await;
        let began = std::time::Instant::now();
        while !slow.is_finished() {
            assert!(began.elapsed() < SOON);
            token.cancel_query(NoTls).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (outcome, client) = slow.await.unwrap();
        assert_eq!(code(outcome), "57014");
        client.simple_query("select 1").await.unwrap();
    }
}

#[tokio::test]
async fn a_storm_of_cancellations_meets_nobody_elses_statement() {
    let world = World::with(Pooling::Transaction, 1, |config| config.limits.backends = 2).await;
    let idle = Raw::connect(&world, "ada@app.team").await;
    let mut target = Raw::connect(&world, "ada@app.team").await;
    let busy = world.connect().await;
    let keys = [target.key, idle.key];
    let storm = async {
        for n in 0.. {
            send_cancel(&world, keys[n as usize % 2]).await;
            // Keys that nobody has.
            send_cancel(&world, CancelKey { pid: n, secret: n }).await;
        }
    };
    let work = async {
        for _ in 0..200 {
            busy.simple_query("select count(*) from generate_series(1, 2000)").await.unwrap();
        }
    };
    let targets = async {
        let mut out = Vec::new();
        windlass_wire_pg::frontend::write_query(&mut out, "select pg_sleep(0.05)");
        let mut cancelled = 0;
        for _ in 0..40 {
            target.stream.write_all(&out).await.unwrap();
            cancelled += usize::from(target.until_ready().await.contains('E'));
        }
        cancelled
    };
    let met = async { tokio::join!(work, targets).1 };
    let cancelled = tokio::select! {
        cancelled = timeout(SOON * 2, met) => cancelled.expect("the work ends"),
        () = storm => unreachable!("the storm does not end by itself"),
    };
    assert!(cancelled > 0, "some met their target");
}

#[tokio::test]
async fn a_commit_is_not_cancelled() {
    let world = World::new(Pooling::Transaction).await;
    let client = world.connect().await;
    client.batch_execute("create table t (id int)").await.unwrap();
    world.servers[0].sql("alter system set synchronous_standby_names = 'nobody'; select pg_reload_conf()");
    let token = client.cancel_token();
    let commit = tokio::spawn(async move {
        client.batch_execute("begin; insert into t values (1)").await.unwrap();
        (client.batch_execute("commit").await, client)
    });
    let waiting = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    until("the wait", || world.servers[0].sql(waiting) == "1").await;
    for _ in 0..10 {
        token.cancel_query(NoTls).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.servers[0].sql(waiting), "1", "it waits on");
    world.servers[0].sql("alter system reset synchronous_standby_names; select pg_reload_conf()");
    let (outcome, client) = timeout(SOON, commit).await.unwrap().unwrap();
    outcome.unwrap();
    client.simple_query("select 1").await.unwrap();
}
