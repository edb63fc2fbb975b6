//! Sharing connections: what belongs to a client stays with it, and nothing of it reaches another.

use super::world::{World, code, text};
use crate::routes::Pooling;

async fn pid(client: &tokio_postgres::Client) -> String {
    text(client, "select pg_backend_pid()").await
}

/// One server connection for all clients.
pub(super) async fn narrow() -> World {
    World::with(Pooling::Transaction, 1, |config| config.limits.backends = 1).await
}

#[tokio::test]
async fn settings_follow_their_client_and_no_other() {
    let world = narrow().await;
    let mut config = world.config("ada@app.team");
    config.application_name("weaver").options("-c work_mem=3MB");
    let (one, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let two = world.connect().await;
    one.batch_execute("set search_path to pg_catalog, public").await.unwrap();
    one.batch_execute("set my.tenant = '7'").await.unwrap();
    one.batch_execute("select set_config('my.other', 'it''s', false)").await.unwrap();
    assert_eq!(pid(&one).await, pid(&two).await, "they share");
    assert_eq!(text(&two, "show search_path").await, "\"$user\", public");
    assert_eq!(text(&two, "select current_setting('my.tenant', true)").await, "");
    assert_eq!(text(&two, "show work_mem").await, "4MB");
    for _ in 0..2 {
        assert_eq!(text(&one, "show search_path").await, "pg_catalog, public");
        assert_eq!(text(&one, "show my.tenant").await, "7");
        assert_eq!(text(&one, "show my.other").await, "it's");
        assert_eq!(text(&one, "show work_mem").await, "3MB");
        assert_eq!(text(&one, "show application_name").await, "weaver");
        assert_eq!(text(&two, "show work_mem").await, "4MB");
    }
    // Back to what the start asked for, as on a direct connection.
    one.batch_execute("set work_mem = '5MB'").await.unwrap();
    one.batch_execute("reset work_mem").await.unwrap();
    assert_eq!(text(&two, "select 1").await, "1");
    assert_eq!(text(&one, "show work_mem").await, "3MB");
    one.batch_execute("reset all").await.unwrap();
    assert_eq!(text(&one, "show search_path").await, "\"$user\", public");
    assert_eq!(text(&one, "show work_mem").await, "3MB");
}

#[tokio::test]
async fn a_setting_that_is_rolled_back_or_fails_is_none() {
    let world = narrow().await;
    let (one, two) = (world.connect().await, world.connect().await);
    one.batch_execute("begin").await.unwrap();
    one.batch_execute("set work_mem = '7MB'").await.unwrap();
    one.batch_execute("rollback").await.unwrap();
    assert_eq!(code(one.batch_execute("set work_mem = 'much'").await), "22023");
    assert_eq!(code(one.batch_execute("set work_mem = '9MB'; select 1/0").await), "22012");
    assert_eq!(text(&two, "show work_mem").await, "4MB");
    assert_eq!(text(&one, "show work_mem").await, "4MB");
    one.batch_execute("begin; set work_mem = '8MB'").await.unwrap();
    one.batch_execute("commit").await.unwrap();
    assert_eq!(text(&two, "show work_mem").await, "4MB");
    assert_eq!(text(&one, "show work_mem").await, "8MB");
}

#[tokio::test]
async fn prepared_statements_are_found_on_any_connection_and_stay_private() {
    let world = narrow().await;
    let (one, two) = (world.connect().await, world.connect().await);
    let a = one.prepare("select 'one', $1::int").await.unwrap();
    let b = two.prepare("select 'two', $1::int").await.unwrap();
    for n in 0..3 {
        assert_eq!(one.query_one(&a, &[&n]).await.unwrap().get::<_, &str>(0), "one");
        assert_eq!(two.query_one(&b, &[&n]).await.unwrap().get::<_, &str>(0), "two");
    }
    // The connection is lost between two transactions: nobody notices.
    world.servers[0].end_sessions();
    assert_eq!(one.query_one(&a, &[&1]).await.unwrap().get::<_, i32>(1), 1);
    // Equal texts are shared, and closing one is not closing the other.
    let c = two.prepare("select 'one', $1::int").await.unwrap();
    drop(c);
    assert_eq!(two.query_one(&b, &[&1]).await.unwrap().get::<_, &str>(0), "two");
    assert_eq!(one.query_one(&a, &[&2]).await.unwrap().get::<_, i32>(1), 2);
    // A statement that cannot be prepared is not known afterwards, and the session goes on.
    assert_eq!(code(one.prepare("select nonsense").await), "42703");
    one.batch_execute("create table t (id int)").await.unwrap();
    let d = one.prepare("select count(*) from t").await.unwrap();
    two.batch_execute("drop table t").await.unwrap();
    world.servers[0].end_sessions();
    assert_eq!(code(one.query(&d, &[]).await), "42P01", "it is prepared anew, and that fails");
    assert_eq!(one.query_one(&a, &[&3]).await.unwrap().get::<_, i32>(1), 3);
}

#[tokio::test]
async fn deallocate_and_discard_forget_what_the_client_prepared() {
    let world = narrow().await;
    let (one, two) = (world.connect().await, world.connect().await);
    let a = one.prepare("select 1").await.unwrap();
    let b = two.prepare("select 1").await.unwrap();
    one.batch_execute("deallocate s0").await.unwrap();
    assert_eq!(code(one.query(&a, &[]).await), "26000");
    two.query(&b, &[]).await.unwrap();
    let c = one.prepare("select 2").await.unwrap();
    one.batch_execute("discard all").await.unwrap();
    assert_eq!(code(one.query(&c, &[]).await), "26000");
    two.query(&b, &[]).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_shared_keeps_its_connection_until_it_is_discarded() {
    let world = World::with(Pooling::Transaction, 1, |config| config.limits.backends = 2).await;
    let (one, two) = (world.connect().await, world.connect().await);
    one.batch_execute("create temp table mine (id int)").await.unwrap();
    let own = pid(&one).await;
    assert_ne!(pid(&two).await, own);
    one.batch_execute("insert into mine values (1)").await.unwrap();
    assert_eq!(pid(&one).await, own);
    one.batch_execute("discard all").await.unwrap();
    one.batch_execute("select 1").await.unwrap();
    let (one_now, two_now) = (pid(&one).await, pid(&two).await);
    assert_eq!(one_now, two_now, "the one used last is taken by either");
    assert_eq!(text(&two, "select to_regclass('mine')").await, "");
    // A lock of a session that leaves is gone with it, and its connection is clean.
    let three = world.connect().await;
    three.batch_execute("select pg_advisory_lock(1)").await.unwrap();
    drop(three);
    two.batch_execute("select pg_advisory_lock(1)").await.unwrap();
}

#[tokio::test]
async fn a_session_returns_its_connection_clean() {
    let world = World::with(Pooling::Session, 1, |config| config.limits.backends = 1).await;
    let one = world.connect().await;
    let own = pid(&one).await;
    one.batch_execute("set work_mem = '9MB'; create temp table mine (id int); prepare p as select 1").await.unwrap();
    one.prepare("select 'kept'").await.unwrap();
    drop(one);
    let two = world.connect().await;
    assert_eq!(pid(&two).await, own, "the same connection");
    assert_eq!(text(&two, "show work_mem").await, "4MB");
    assert_eq!(text(&two, "select to_regclass('mine')").await, "");
    assert_eq!(text(&two, "select count(*) from pg_prepared_statements").await, "0");
    // One who leaves in the middle of a transaction leaves nothing of it.
    two.batch_execute("create table t (id int)").await.unwrap();
    two.batch_execute("begin; insert into t values (1)").await.unwrap();
    drop(two);
    let three = world.connect().await;
    assert_eq!(text(&three, "select count(*) from t").await, "0");
}

#[tokio::test]
async fn an_unnamed_statement_is_the_clients_own_even_in_a_later_transaction() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use windlass_wire_pg::frontend::{Parse, write_query};

    let world = narrow().await;
    let mut raw = super::raw::Raw::connect(&world, "ada@app.team").await;
    let other = world.connect().await;
    let mut out = Vec::new();
    Parse { name: b"", query: b"select 'mine'", types: &[0, 0] }.write_as(&mut out, b"");
    out.extend_from_slice(b"S\0\0\0\x04");
    raw.stream.write_all(&out).await.unwrap();
    assert_eq!(raw.until_ready().await, "1Z");
    // Another client's unnamed statement takes its place on the connection.
    assert_eq!(other.query_typed("select 'theirs'", &[]).await.unwrap()[0].get::<_, &str>(0), "theirs");
    let bind = b"B\0\0\0\x0c\0\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";
    raw.stream.write_all(bind).await.unwrap();
    assert_eq!(raw.until_ready().await, "2DCZ");
    assert!(raw.last.windows(4).any(|bytes| bytes == b"mine"));
    // A long one too.
    let mut out = Vec::new();
    let long = format!("select 'mine' -- {}", "x".repeat(100_000));
    Parse { name: b"", query: long.as_bytes(), types: &[0, 0] }.write_as(&mut out, b"");
    out.extend_from_slice(b"S\0\0\0\x04");
    raw.stream.write_all(&out).await.unwrap();
    assert_eq!(raw.until_ready().await, "1Z");
    other.query_typed("select 'theirs'", &[]).await.unwrap();
    raw.stream.write_all(bind).await.unwrap();
    assert_eq!(raw.until_ready().await, "2DCZ");
    assert!(raw.last.windows(4).any(|bytes| bytes == b"mine"));
    // A simple query ends it, as PostgreSQL does.
    let mut out = Vec::new();
    write_query(&mut out, "select 1");
    raw.stream.write_all(&out).await.unwrap();
    assert_eq!(raw.until_ready().await, "TDCZ");
    raw.stream.write_all(bind).await.unwrap();
    assert_eq!(raw.until_ready().await, "EZ");
    let mut nothing = [0; 1];
    let more = tokio::time::timeout(std::time::Duration::from_millis(50), raw.stream.read(&mut nothing)).await;
    assert!(more.is_err(), "nothing comes behind the end");
}

#[tokio::test]
async fn warnings_reach_the_client_whatever_it_sets() {
    let world = narrow().await;
    let (client, show) = (world.connect().await, "show client_min_messages");
    let long = "x".repeat(100_000);
    for script in [
        "set client_min_messages = error",
        "set client_min_messages = error; select 1",
        "begin; set local client_min_messages = error",
        "select set_config('client_min_messages', 'error', false)",
        "select set_config('client_min_messages', 'er' || 'ror', false)",
        "begin; select set_config('client_min_messages', 'error', true)",
        "begin; select set_config('client_min_messages', set_config('client_min_messages', 'panic', true), true)",
        &format!("set client_min_messages = error; select '{long}'; select 1"),
    ] {
        client.batch_execute(script).await.unwrap();
        assert_eq!(text(&client, show).await, "warning");
        client.batch_execute("rollback").await.unwrap();
        client.batch_execute("discard all").await.unwrap();
    }
    client.batch_execute("begin").await.unwrap();
    client.execute("set local client_min_messages = panic", &[]).await.unwrap();
    assert_eq!(text(&client, show).await, "warning");
    client.batch_execute("rollback").await.unwrap();
    // Neither by a default of the user or the database, which RESET and DISCARD would bring back.
    for whose in ["role ada", "database loom", "role ada in database loom"] {
        world.servers[0].sql(&format!("alter {whose} set client_min_messages = error"));
        world.servers[0].end_sessions();
        let client = world.connect().await;
        for script in
            ["select 1", "set client_min_messages = notice; reset client_min_messages", "reset all", "discard all"]
        {
            client.batch_execute(script).await.unwrap();
            assert_eq!(text(&client, show).await, "warning", "{whose}: {script}");
        }
        world.servers[0].sql(&format!("alter {whose} reset client_min_messages"));
    }
    world.servers[0].end_sessions();
    let client = world.connect().await;
    assert_eq!(text(&client, show).await, "notice");
    let call = "select set_config('client_min_messages', $1, false)";
    for (value, instead) in [("Fatal", "warning"), ("notice", "notice")] {
        assert_eq!(client.query_one(call, &[&value]).await.unwrap().get::<_, &str>(0), instead);
        assert_eq!(text(&client, show).await, instead);
    }
    assert_eq!(text(&client, "select set_config('client_min_messages', 'error', false)").await, "warning");
}
