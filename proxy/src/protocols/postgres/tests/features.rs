//! What applications do with PostgreSQL, through the proxy, under both ways of pooling.

use futures::{SinkExt as _, TryStreamExt as _, future::try_join_all};

use super::world::World;
use crate::routes::Pooling;

/// Does it once under each way of pooling.
async fn under_both(check: impl AsyncFn(&World)) {
    let mut world = World::new(Pooling::Session).await;
    check(&world).await;
    world.servers[0].sql_in("loom", "drop table if exists t");
    world.publish(|route| route.settings.pooling = Some(Pooling::Transaction));
    check(&world).await;
}

#[tokio::test]
async fn statements_of_every_kind_give_what_a_direct_connection_gives() {
    under_both(async |world| {
        let mut client = world.connect().await;
        client.batch_execute("create table t (id int primary key, name text)").await.unwrap();
        let insert = client.prepare("insert into t values ($1, $2)").await.unwrap();
        for id in 0..50 {
            client.execute(&insert, &[&id, &format!("name {id}")]).await.unwrap();
        }
        let rows = client.query("select * from t where id < $1 order by id", &[&10]).await.unwrap();
        assert_eq!(rows.len(), 10);
        assert_eq!(rows[9].get::<_, &str>("name"), "name 9");

        let transaction = client.transaction().await.unwrap();
        transaction.execute("delete from t", &[]).await.unwrap();
        transaction.rollback().await.unwrap();
        let count: i64 = client.query_one("select count(*) from t", &[]).await.unwrap().get(0);
        assert_eq!(count, 50);

        // A statement that fails leaves the session usable.
        assert_eq!(super::world::code(client.execute(&insert, &[&1, &"again"]).await), "23505");
        assert_eq!(super::world::code(client.simple_query("selekt").await), "42601");
        client.simple_query("select 1").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn copy_goes_both_ways_and_an_error_in_it_is_the_servers() {
    under_both(async |world| {
        let client = world.connect().await;
        client.batch_execute("create table t (id int primary key, filler text)").await.unwrap();
        let filler = "x".repeat(1000);
        let sink = client.copy_in::<_, bytes::Bytes>("copy t from stdin").await.unwrap();
        futures::pin_mut!(sink);
        for id in 0..5000 {
            sink.send(format!("{id}\t{filler}\n").into_bytes().into()).await.unwrap();
        }
        assert_eq!(sink.finish().await.unwrap(), 5000);
        let stream = client.copy_out("copy t to stdout").await.unwrap();
        let bytes: Vec<_> = stream.try_collect().await.unwrap();
        assert!(bytes.iter().map(bytes::Bytes::len).sum::<usize>() > 5_000_000);

        let sink = client.copy_in::<_, bytes::Bytes>("copy t from stdin").await.unwrap();
        futures::pin_mut!(sink);
        sink.send(bytes::Bytes::from_static(b"1\ttwice\n")).await.unwrap();
        assert_eq!(super::world::code(sink.finish().await), "23505");
        let count: i64 = client.query_one("select count(*) from t", &[]).await.unwrap().get(0);
        assert_eq!(count, 5000);
        // Given up halfway.
        drop(client.copy_in::<_, bytes::Bytes>("copy t from stdin").await.unwrap());
        client.simple_query("select 1").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn pipelined_statements_are_answered_in_order_and_an_error_hits_only_its_own() {
    under_both(async |world| {
        let client = world.connect().await;
        let statement = client.prepare("select 100 / $1::int").await.unwrap();
        let all: Vec<_> = (0..200_i32)
            .map(|n| {
                let (client, statement) = (&client, &statement);
                async move { (n, client.query_one(statement, &[&n]).await) }
            })
            .collect();
        for (n, outcome) in futures::future::join_all(all).await {
            if n == 0 {
                assert_eq!(super::world::code(outcome), "22012");
            } else {
                assert_eq!(outcome.unwrap().get::<_, i32>(0), 100 / n);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn psql_with_tls_runs_a_script_of_real_features() {
    under_both(async |world| {
        let answer = world
            .script(
                "ada@app.team",
                r"
                create table t (id int, v text);
                copy t from stdin;
1	one
2	two
\.
                copy t to stdout;
                begin;
                declare c cursor for select generate_series(1, 100);
                fetch 3 from c;
                commit;
                declare h cursor with hold for select 42;
                fetch all from h;
                close h;
                select lo_from_bytea(0, 'large') as oid \gset
                begin;
                select convert_from(lo_get(:oid), 'UTF8');
                commit;
                listen news;
                notify news, 'heard';
                select 'after';
                set search_path to pg_catalog;
                show search_path;
                create temp table mine as select 7 as n;
                select n from mine;
                prepare p(int) as select $1 * 2;
                execute p(21);
                select pg_advisory_lock(1);
                select pg_advisory_unlock(1);
                do $$ begin raise notice 'from a block'; end $$;
                ",
            )
            .await;
        for expected in ["1\tone", "2\ttwo", "\n3\n", "\n42\n", "\nlarge", "after", "pg_catalog", "\n7\n", "\nt"] {
            assert!(answer.contains(expected), "{expected:?} in {answer}");
        }
        assert!(answer.contains("Asynchronous notification \"news\" with payload \"heard\""), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn many_clients_with_many_statements_share_few_connections() {
    let world = World::with(Pooling::Transaction, 1, |config| config.limits.backends = 3).await;
    let clients = try_join_all((0..40).map(|_| world.try_connect("ada@app.team"))).await.unwrap();
    let work = clients.iter().enumerate().map(|(n, client)| async move {
        for round in 0..20_i32 {
            let statement = client.prepare(&format!("select {} + $1::int", n % 7)).await?;
            let sum: i32 = client.query_one(&statement, &[&round]).await?.get(0);
            assert_eq!(sum, i32::try_from(n % 7).unwrap() + round);
        }
        Ok::<_, tokio_postgres::Error>(())
    });
    try_join_all(work).await.unwrap();
    let in_use: i32 =
        world.servers[0].sql("select count(*) from pg_stat_activity where usename = 'ada'").parse().unwrap();
    assert!((1..=3).contains(&in_use), "{in_use} connections");
}

#[tokio::test]
async fn a_copy_by_the_extended_protocol_ends_whichever_way_its_syncs_come() {
    use tokio::io::AsyncWriteExt as _;
    use windlass_wire_pg::{frame::write, frontend::Parse};

    let world = World::with(Pooling::Transaction, 1, |config| config.limits.backends = 1).await;
    let other = world.connect().await;
    other.batch_execute("create table t (id int primary key)").await.unwrap();
    let mut raw = super::raw::Raw::connect(&world, "ada@app.team").await;
    let begin = |out: &mut Vec<u8>| {
        Parse { name: b"", query: b"copy t from stdin", types: &[0, 0] }.write_as(out, b"");
        out.extend_from_slice(b"B\0\0\0\x0c\0\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0");
    };
    let data = |out: &mut Vec<u8>, id: i32| {
        write(out, b'd', |out| out.extend_from_slice(format!("{id}\n").as_bytes()));
    };
    let (sync, done) = (b"S\0\0\0\x04", b"c\0\0\0\x04");
    // As libpq does it: a Sync at once, which the server ignores, and one behind the data.
    let mut out = Vec::new();
    begin(&mut out);
    out.extend_from_slice(sync);
    raw.stream.write_all(&out).await.unwrap();
    while raw.message().await.0 != b'G' {}
    let mut out = Vec::new();
    data(&mut out, 1);
    out.extend_from_slice(done);
    out.extend_from_slice(sync);
    raw.stream.write_all(&out).await.unwrap();
    assert_eq!(raw.until_ready().await, "CZ");
    // Everything at once; then one that fails, with data behind the failure.
    for (id, answer) in [(2, "12GCZ"), (1, "12GEZ")] {
        let mut out = Vec::new();
        begin(&mut out);
        out.extend_from_slice(sync);
        data(&mut out, id);
        out.extend_from_slice(done);
        out.extend_from_slice(sync);
        raw.stream.write_all(&out).await.unwrap();
        assert_eq!(raw.until_ready().await, answer);
        // The only connection is free again.
        let count: i64 = other.query_one("select count(*) from t", &[]).await.unwrap().get(0);
        assert_eq!(count, 2);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_makes_the_server_wait() {
    use tokio::io::AsyncWriteExt as _;

    let world = World::new(Pooling::Transaction).await;
    let mut raw = super::raw::Raw::connect(&world, "ada@app.team").await;
    let mut out = Vec::new();
    windlass_wire_pg::frontend::write_query(&mut out, "select repeat('x', 1000) from generate_series(1, 100000)");
    raw.stream.write_all(&out).await.unwrap();
    let waits = "select count(*) from pg_stat_activity where wait_event = 'ClientWrite'";
    super::world::until("the wait", || world.servers[0].sql(waits) == "1").await;
    // It goes on where it stood, and others were not in its way.
    world.connect().await.simple_query("select 1").await.unwrap();
    let kinds = raw.until_ready().await;
    assert_eq!(kinds.len(), 100_003);
}
