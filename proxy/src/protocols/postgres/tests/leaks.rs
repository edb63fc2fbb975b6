//! Ways in which something of one client could reach another over a shared connection, and does not.

use tokio::io::AsyncWriteExt as _;

use super::{
    pooling::narrow,
    raw::Raw,
    world::{World, code, text, until},
};
use crate::routes::Pooling;

/// Fails a COPY while a message of its data is half sent; gives the rest of that message.
async fn fail_within_a_message(raw: &mut Raw) -> Vec<u8> {
    raw.queries(&["copy t from stdin"]).await;
    assert_eq!(raw.message().await.0, b'G');
    let mut out = Vec::new();
    windlass_wire_pg::frame::write(&mut out, b'd', |out| out.extend_from_slice(b"x\n"));
    windlass_wire_pg::frame::write(&mut out, b'd', |out| out.resize(out.len() + 1000, b'y'));
    let rest = out.split_off(out.len() - 990);
    raw.stream.write_all(&out).await.unwrap();
    assert_eq!(raw.until_ready().await, "EZ");
    rest
}

#[tokio::test]
async fn a_copy_that_fails_within_a_message_leaves_the_server_between_messages() {
    let world = narrow().await;
    let other = world.connect().await;
    other.batch_execute("create table t (id int)").await.unwrap();
    let mut raw = Raw::connect(&world, "ada@app.team").await;
    let rest = fail_within_a_message(&mut raw).await;
    let mut others = tokio::spawn(async move { text(&other, "select 'others'").await });
    let early = tokio::time::timeout(std::time::Duration::from_millis(50), &mut others).await;
    assert!(early.is_err(), "it would become the rest of that message");
    raw.stream.write_all(&rest).await.unwrap();
    assert_eq!(others.await.unwrap(), "others");
    raw.queries(&["select 1"]).await;
    assert_eq!(raw.until_ready().await, "TDCZ");

    let world = World::new(Pooling::Session).await;
    world.connect().await.batch_execute("create table t (id int)").await.unwrap();
    let mut raw = Raw::connect(&world, "ada@app.team").await;
    let rest = fail_within_a_message(&mut raw).await;
    raw.stream.write_all(&rest).await.unwrap();
    raw.queries(&["select 1"]).await;
    assert_eq!(raw.until_ready().await, "TDCZ");
}

#[tokio::test]
async fn a_setting_of_which_nobody_can_tell_whether_it_holds_reaches_nobody_else() {
    let world = World::with(Pooling::Transaction, 1, |config| config.limits.backends = 2).await;
    for scripts in [
        &["begin; set work_mem = '9MB'; commit; select 1/0"][..],
        &["begin", "set work_mem = '9MB'", "commit; select 1/0"],
        &["begin; set work_mem = '9MB'", "commit and chain", "rollback"],
        &["begin", "set work_mem = '9MB'", "commit; begin; select 1/0", "rollback"],
        &["begin", "set work_mem = '9MB'; savepoint s; select 1/0", "rollback to s", "commit"],
    ] {
        let (one, two) = (world.connect().await, world.connect().await);
        for script in scripts {
            let done = one.batch_execute(script).await;
            assert_eq!(done.is_err(), script.contains("1/0"), "{script}");
        }
        assert_eq!(text(&two, "show work_mem").await, "4MB", "{scripts:?}");
        assert_eq!(text(&one, "show work_mem").await, "9MB", "{scripts:?}");
        // Whoever has the connection next finds it clean.
        drop(one);
        let (three, four) = (world.connect().await, world.connect().await);
        three.batch_execute("begin").await.unwrap();
        for client in [&three, &four] {
            assert_eq!(text(client, "show work_mem").await, "4MB", "{scripts:?}");
        }
    }
    for scripts in [
        &["begin", "set work_mem = '7MB'", "rollback; select 1"][..],
        &["begin; savepoint s", "set work_mem = '7MB'", "rollback to s", "commit"],
        &["begin; savepoint s", "set work_mem = '7MB'", "rollback to s; select 1", "commit"],
    ] {
        let (one, two) = (world.connect().await, world.connect().await);
        for script in scripts {
            one.batch_execute(script).await.unwrap();
        }
        two.batch_execute("select 1").await.unwrap();
        assert_eq!(text(&one, "show work_mem").await, "4MB", "{scripts:?}");
    }
}

#[tokio::test]
async fn what_is_sent_behind_discard_all_keeps_its_connection() {
    let world = World::with(Pooling::Transaction, 1, |config| config.limits.backends = 2).await;
    let other = world.connect().await;
    let mut raw = Raw::connect(&world, "ada@app.team").await;
    raw.queries(&["discard all", "create temp table mine (id int)"]).await;
    assert_eq!(raw.until_ready().await, "CZ");
    assert_eq!(raw.until_ready().await, "CZ");
    assert_eq!(text(&other, "select to_regclass('mine')").await, "");
    // A lock outlives the statement that failed behind it.
    raw.queries(&["discard all", "select pg_advisory_lock(7); select 1/0"]).await;
    assert!(raw.until_ready().await.ends_with("CZ"));
    assert_eq!(raw.until_ready().await, "TDCEZ");
    assert_eq!(text(&other, "select pg_try_advisory_lock(7)").await, "f");
}

#[tokio::test]
async fn statements_of_others_survive_what_one_client_forgets_or_fails_to() {
    let world = narrow().await;
    let (one, two) = (world.connect().await, world.connect().await);
    // The client library names them s0, s1 and so on.
    let a = one.prepare("select 1").await.unwrap();
    let b = two.prepare("select 2").await.unwrap();
    let ones = async || assert_eq!(one.query_one(&a, &[]).await.unwrap().get::<_, i32>(0), 1);
    ones().await;
    // Prepared and not executed, it forgets nothing.
    let discard = two.prepare("discard all").await.unwrap();
    ones().await;
    assert_eq!(two.query_one(&b, &[]).await.unwrap().get::<_, i32>(0), 2);
    two.execute(&discard, &[]).await.unwrap();
    ones().await;
    assert_eq!(code(two.query(&b, &[]).await), "26000");
    // By name, for itself only.
    let c = two.prepare("select 1").await.unwrap();
    two.query_one(&c, &[]).await.unwrap();
    two.execute("deallocate s3", &[]).await.unwrap();
    assert_eq!(code(two.query(&c, &[]).await), "26000");
    ones().await;
    // One that fails.
    let e = two.prepare("select 1").await.unwrap();
    two.query_one(&e, &[]).await.unwrap();
    two.batch_execute("begin").await.unwrap();
    assert_eq!(code(two.batch_execute("select 1/0").await), "22012");
    for forget in ["deallocate s5", "deallocate all"] {
        assert_eq!(code(two.batch_execute(forget).await), "25P02");
    }
    two.batch_execute("rollback").await.unwrap();
    ones().await;
    // What a transaction forgot stays forgotten, and the connection is still good.
    let f = two.prepare("select 1").await.unwrap();
    two.query_one(&f, &[]).await.unwrap();
    two.batch_execute("begin").await.unwrap();
    two.batch_execute("deallocate all").await.unwrap();
    two.batch_execute("rollback").await.unwrap();
    assert_eq!(code(two.query(&f, &[]).await), "26000");
    ones().await;
    // A session that has to keep its connection goes on with it.
    two.batch_execute("listen news").await.unwrap();
    drop(one);
    let g = two.prepare("select 7").await.unwrap();
    two.query_one(&g, &[]).await.unwrap();
    two.batch_execute("begin").await.unwrap();
    assert_eq!(code(two.batch_execute("select 1/0").await), "22012");
    assert_eq!(code(two.batch_execute("deallocate all").await), "25P02");
    two.batch_execute("rollback").await.unwrap();
    let h = two.prepare("select 7").await.unwrap();
    assert_eq!(two.query_one(&h, &[]).await.unwrap().get::<_, i32>(0), 7);
}

#[tokio::test]
async fn statements_of_others_survive_a_script_that_ends_a_transaction_and_fails_to_forget() {
    let world = narrow().await;
    let one = world.connect().await;
    let a = one.prepare("select 1").await.unwrap();
    // The client library counts all its statements: those of the others are s1 and so on.
    for (script, error) in [
        ("commit; begin; deallocate s1", "26000"),
        ("commit; deallocate s2", "26000"),
        ("commit; begin; select 1/0; deallocate all", "22012"),
    ] {
        let two = world.connect().await;
        let b = two.prepare("select 1").await.unwrap();
        two.query_one(&b, &[]).await.unwrap();
        assert_eq!(code(two.batch_execute(script).await), error);
        two.batch_execute("rollback").await.unwrap();
        assert_eq!(one.query_one(&a, &[]).await.unwrap().get::<_, i32>(0), 1, "{script}");
    }
}

#[tokio::test]
async fn a_session_keeps_its_connection_when_it_forgets_a_statement() {
    let world = World::new(Pooling::Session).await;
    let client = world.connect().await;
    let (a, b) = (client.prepare("select 1").await.unwrap(), client.prepare("select 2").await.unwrap());
    let pid = "select pg_backend_pid()";
    let before = text(&client, pid).await;
    client.batch_execute("create sequence q; select nextval('q')").await.unwrap();
    client.execute("deallocate s0", &[]).await.unwrap();
    assert_eq!(text(&client, pid).await, before);
    assert_eq!(text(&client, "select currval('q')").await, "1");
    assert_eq!(code(client.query(&a, &[]).await), "26000");
    for _ in 0..2 {
        assert_eq!(client.query_one(&b, &[]).await.unwrap().get::<_, i32>(0), 2);
    }
    client.execute("deallocate all", &[]).await.unwrap();
    assert_eq!(code(client.query(&b, &[]).await), "26000");
    let c = client.prepare("select 2").await.unwrap();
    assert_eq!(client.query_one(&c, &[]).await.unwrap().get::<_, i32>(0), 2);
    assert_eq!(text(&client, pid).await, before);
}

#[tokio::test]
async fn what_stands_behind_a_long_statement_is_not_overlooked() {
    let world = World::with(Pooling::Transaction, 1, |config| config.limits.backends = 2).await;
    let (one, two) = (world.connect().await, world.connect().await);
    let long = "x".repeat(100_000);
    one.batch_execute(&format!("select '{long}'; set work_mem = '9MB'")).await.unwrap();
    assert_eq!(text(&two, "show work_mem").await, "4MB");
    assert_eq!(text(&one, "show work_mem").await, "9MB");
    one.batch_execute("discard all").await.unwrap();
    // A single one is data.
    one.batch_execute(&format!("select '{long}'")).await.unwrap();
    two.batch_execute("begin").await.unwrap();
    two.batch_execute("rollback").await.unwrap();
    let pid = "select pg_backend_pid()";
    assert_eq!(text(&one, pid).await, text(&two, pid).await, "they share again");
}

#[tokio::test]
async fn a_commit_behind_a_long_statement_may_have_happened() {
    let mut world = World::new(Pooling::Transaction).await;
    let client = world.connect().await;
    client.batch_execute("begin").await.unwrap();
    let script = format!("select length('{}'); select pg_sleep(60); commit", "x".repeat(100_000));
    let runs = tokio::spawn(async move { client.batch_execute(&script).await });
    let sleeps = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    until("the sleep", || world.servers[0].sql(sleeps) == "1").await;
    world.servers[0].kill();
    assert_eq!(code(runs.await.unwrap()), "08007");
}

#[tokio::test]
async fn settings_that_go_by_other_names_or_end_with_a_transaction_trouble_nobody() {
    let world = narrow().await;
    let (one, two) = (world.connect().await, world.connect().await);
    one.batch_execute("set schema 'pg_catalog'").await.unwrap();
    assert_eq!(text(&two, "show search_path").await, "\"$user\", public");
    assert_eq!(text(&one, "show search_path").await, "pg_catalog");
    for name in ["transaction_isolation = 'serializable'", "transaction_read_only = on", "transaction_deferrable = on"]
    {
        one.batch_execute("begin").await.unwrap();
        one.batch_execute(&format!("set {name}")).await.unwrap();
        one.batch_execute("commit").await.unwrap();
        assert_eq!(text(&two, "show transaction_isolation").await, "read committed", "{name}");
        assert_eq!(text(&one, "show transaction_isolation").await, "read committed", "{name}");
    }
}

#[tokio::test]
async fn what_an_error_skips_is_taken_back_in_the_order_in_which_it_was_sent() {
    use windlass_wire_pg::frontend::{Parse, write_close_statement};

    let world = narrow().await;
    let mut raw = Raw::connect(&world, "ada@app.team").await;
    let (sync, use_it) = (&b"S\0\0\0\x04"[..], b"B\0\0\0\x0e\0s1\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04");
    let parse = |out: &mut Vec<u8>, name: &[u8], query: &[u8]| {
        Parse { name, query, types: &[0, 0] }.write_as(out, name);
    };
    let mut out = Vec::new();
    parse(&mut out, b"s1", b"select 'old'");
    out.extend_from_slice(sync);
    parse(&mut out, b"", b"selekt");
    write_close_statement(&mut out, b"s1");
    parse(&mut out, b"s1", b"select 'new'");
    parse(&mut out, b"s2", b"select 2");
    write_close_statement(&mut out, b"s2");
    out.extend_from_slice(sync);
    raw.stream.write_all(&out).await.unwrap();
    assert_eq!((raw.until_ready().await, raw.until_ready().await), ("1Z".into(), "EZ".into()));
    raw.stream.write_all(use_it).await.unwrap();
    assert_eq!(raw.until_ready().await, "2DCZ");
    assert!(raw.last.windows(3).any(|bytes| bytes == b"old"));
    let mut out = Vec::new();
    parse(&mut out, b"s2", b"select 2");
    out.extend_from_slice(sync);
    raw.stream.write_all(&out).await.unwrap();
    assert_eq!(raw.until_ready().await, "1Z", "it is as if it had never been there");
}

#[tokio::test]
async fn literals_of_a_prepared_statement_mean_what_its_client_set() {
    let world = narrow().await;
    let (one, two) = (world.connect().await, world.connect().await);
    one.batch_execute("set timezone = 'UTC'").await.unwrap();
    two.batch_execute("set timezone = 'America/New_York'").await.unwrap();
    let query = "select extract(epoch from timestamptz '2024-01-01')::float8";
    let (utc, new_york) = (1_704_067_200.0, 1_704_085_200.0);
    let (a, b) = (two.prepare(query).await.unwrap(), one.prepare(query).await.unwrap());
    let of = async |client: &tokio_postgres::Client, statement| -> f64 {
        client.query_one(statement, &[]).await.unwrap().get(0)
    };
    assert_eq!((of(&two, &a).await, of(&one, &b).await), (new_york, utc));
    // Also when the connection has to prepare it anew, and under a zone that is set later or for one transaction.
    world.servers[0].end_sessions();
    two.batch_execute("begin; set local timezone = 'UTC'").await.unwrap();
    assert_eq!(of(&two, &a).await, utc);
    two.batch_execute("commit").await.unwrap();
    assert_eq!((of(&two, &a).await, of(&one, &b).await), (new_york, utc));
    one.batch_execute("set timezone = 'America/New_York'").await.unwrap();
    assert_eq!((of(&two, &a).await, of(&one, &b).await), (new_york, new_york));
    // Of equal texts over different tables, neither has the other one's columns.
    two.batch_execute("create schema s; create table s.t as select 's' as a; create table t as select 1 as a")
        .await
        .unwrap();
    two.batch_execute("set search_path to s").await.unwrap();
    let c = two.prepare("select a from t").await.unwrap();
    let d = one.prepare("select a from t").await.unwrap();
    for _ in 0..2 {
        assert_eq!(two.query_one(&c, &[]).await.unwrap().get::<_, &str>(0), "s");
        assert_eq!(one.query_one(&d, &[]).await.unwrap().get::<_, i32>(0), 1);
    }
}

#[tokio::test]
async fn literals_read_under_a_setting_of_one_transaction_are_not_shared() {
    use windlass_wire_pg::frontend::{Parse, write_query};

    let world = narrow().await;
    let (utc, new_york) = (world.connect().await, world.connect().await);
    utc.batch_execute("set timezone = 'UTC'").await.unwrap();
    new_york.batch_execute("set timezone = 'America/New_York'").await.unwrap();
    let query = "select extract(epoch from timestamptz '2024-01-01')::float8";
    let (a, b) = (utc.prepare(query).await.unwrap(), new_york.prepare(query).await.unwrap());
    let mut raw = Raw::connect(&world, "ada@app.team").await;
    raw.queries(&["set timezone = 'UTC'"]).await;
    raw.until_ready().await;
    let prepare = |out: &mut Vec<u8>, name: &[u8; 2]| {
        Parse { name, query: query.as_bytes(), types: &[0, 0] }.write_as(out, name);
        out.extend_from_slice(b"B\0\0\0\x0e\0");
        out.extend_from_slice(name);
        out.extend_from_slice(b"\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04");
    };
    let others = async |what: &str| {
        assert_eq!(utc.query_one(&a, &[]).await.unwrap().get::<_, f64>(0), 1_704_067_200.0, "{what}");
        assert_eq!(new_york.query_one(&b, &[]).await.unwrap().get::<_, f64>(0), 1_704_085_200.0, "{what}");
    };
    for (n, local) in
        ["set local timezone = 'America/New_York'", "select set_config('TimeZone', 'America/New_York', true)"]
            .into_iter()
            .enumerate()
    {
        let n = u8::try_from(n).unwrap();
        // Behind the setting before it is answered.
        let mut out = Vec::new();
        write_query(&mut out, &format!("begin; {local}"));
        prepare(&mut out, &[b'a', b'0' + n]);
        write_query(&mut out, "commit");
        raw.stream.write_all(&out).await.unwrap();
        for _ in 0..3 {
            assert!(!raw.until_ready().await.contains('E'));
        }
        others(local).await;
        // Behind the end of its transaction, also of one that began behind another.
        for begin in ["begin", "begin; select 1; commit; begin"] {
            raw.queries(&[&format!("{begin}; {local}")]).await;
            raw.until_ready().await;
            let name = &[if begin == "begin" { b'b' } else { b'c' }, b'0' + n];
            let mut out = Vec::new();
            write_query(&mut out, "commit");
            prepare(&mut out, name);
            raw.stream.write_all(&out).await.unwrap();
            for _ in 0..2 {
                assert!(!raw.until_ready().await.contains('E'));
            }
            others(begin).await;
        }
    }
}
