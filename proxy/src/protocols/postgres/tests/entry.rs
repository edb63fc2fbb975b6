//! Coming in: who is let in, by which name, and who is not.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::world::{SOON, World, code};
use crate::routes::Pooling;

#[tokio::test]
async fn names_and_passwords_decide_who_comes_in() {
    let world = World::new(Pooling::Transaction).await;
    world.try_connect("ada@app.team").await.unwrap();
    world.try_connect("ada@APP.team").await.unwrap();
    assert_eq!(code(world.try_connect("ada@other.team").await.map(drop)), "3D000");
    assert_eq!(code(world.try_connect("ada").await.map(drop)), "28000");
    assert_eq!(code(world.try_connect("nobody@app.team").await.map(drop)), "28P01");
    // It may log in, but has no password.
    assert_eq!(code(world.try_connect("root@app.team").await.map(drop)), "28P01");
    let mut wrong = world.config("ada@app.team");
    wrong.password("looms");
    assert_eq!(code(wrong.connect(tokio_postgres::NoTls).await.map(drop)), "28P01");
    let mut wrong = world.config("ada@app.team");
    wrong.dbname("nowhere");
    assert_eq!(code(wrong.connect(tokio_postgres::NoTls).await.map(drop)), "3D000");
    let mut wrong = world.config("ada@app.team");
    wrong.options("-c work_mem=much");
    assert_eq!(code(wrong.connect(tokio_postgres::NoTls).await.map(drop)), "22023");
    // By the name in the TLS handshake, with the login bound to it.
    let by_sni = tokio::process::Command::new("psql")
        .args(["-X", "-A", "-t", "-c", "select current_user"])
        .arg(format!(
            "host=app.team.db.test hostaddr=127.0.0.1 port={} user=ada password=loom dbname=loom sslmode=require channel_binding=require",
            world.address.port()
        ))
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&by_sni.stdout).trim(), "ada", "{by_sni:?}");
}

#[tokio::test]
async fn a_changed_password_ends_what_the_old_one_allowed() {
    let world = World::new(Pooling::Transaction).await;
    world.connect().await.batch_execute("select 1").await.unwrap();
    world.servers[0].sql("alter role ada password 'other'");
    let began = std::time::Instant::now();
    while world.try_connect("ada@app.team").await.is_ok() {
        assert!(began.elapsed() < SOON, "the old password does not end");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let mut config = world.config("ada@app.team");
    config.password("other");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("select 1").await.unwrap();
}

#[tokio::test]
async fn limits_are_told_by_their_own_code() {
    let world = World::with(Pooling::Transaction, 1, |config| {
        config.limits.clients_per_user = 2;
        config.limits.backends = 1;
        config.hold.time = jiff::SignedDuration::from_millis(300);
    })
    .await;
    let (one, two) = (world.connect().await, world.connect().await);
    assert_eq!(code(world.try_connect("ada@app.team").await.map(drop)), "53300");
    one.batch_execute("begin").await.unwrap();
    let error = two.simple_query("select 1").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "53300");
    assert!(error.as_db_error().unwrap().message().contains("all 1 are in use"), "{error:?}");
    one.batch_execute("commit").await.unwrap();
    world.connect().await.batch_execute("select 1").await.unwrap();
}

#[tokio::test]
async fn bytes_that_are_no_start_get_an_answer_and_no_memory() {
    let world = World::new(Pooling::Transaction).await;
    let long = [&20_000_u32.to_be_bytes()[..], &196_608_u32.to_be_bytes()].concat();
    for (bytes, code) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "08P01"),
        (&long, "08P01"),
        (&[0, 0, 0, 8, 0, 2, 0, 0][..], "08P01"),
        (&[0, 0, 0, 9, 0, 3, 0, 0, 0][..], "28000"),
    ] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains(code), "{code}: {answer}");
    }
    // A TLS hello that is none, and none at all.
    for bytes in [&b"\x16\x03\x01\x00\x05hello"[..], &[]] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
    }
    world.connect().await.batch_execute("select 1").await.unwrap();
}

#[tokio::test]
async fn nonsense_costs_the_client_its_session_and_nobody_else() {
    use windlass_wire_pg::{
        frame::write,
        frontend::{Parse, tag},
    };

    let world = World::with(Pooling::Transaction, 1, |config| config.limits.backends = 1).await;
    let other = world.connect().await;
    let private = other.prepare("select 'private'").await.unwrap();
    let message = |tag: u8, body: &[u8]| {
        let mut out = Vec::new();
        write(&mut out, tag, |out| out.extend_from_slice(body));
        out
    };
    let mut cut = message(tag::PARSE, b"s\0select 1\0\0\0");
    cut.truncate(9);
    for (what, bytes, answer) in [
        ("an unknown kind", message(b'!', b""), "08P01"),
        ("a password", message(tag::PASSWORD, b"x"), "08P01"),
        ("no end of a name", message(tag::BIND, &[b'x'; 8000]), "08P01"),
        ("neither statement nor portal", message(tag::DESCRIBE, b"X\0"), "08P01"),
        ("types that are missing", message(tag::PARSE, b"s\0select 1\0\0\x05"), "08P01"),
        ("a length below its own", vec![tag::QUERY, 0, 0, 0, 1], "08P01"),
        ("two gigabytes", vec![tag::QUERY, 0x7f, 255, 255, 255], "08P01"),
        (
            "a name too long to keep",
            message(tag::PARSE, &[&b"s\0"[..], &[b'x'; 2 << 20], &b"\0\0\0"[..]].concat()),
            "54000",
        ),
        ("a cut message and the end", cut, ""),
    ] {
        let mut raw = super::raw::Raw::connect(&world, "ada@app.team").await;
        // It may be closed before all of it is written.
        let _ = raw.stream.write_all(&bytes).await;
        let _ = raw.stream.shutdown().await;
        let mut told = Vec::new();
        let _ = timeout(SOON, raw.stream.read_to_end(&mut told)).await.unwrap();
        assert!(String::from_utf8_lossy(&told).contains(answer), "{what}: {}", String::from_utf8_lossy(&told));
        assert_eq!(other.query_one(&private, &[]).await.unwrap().get::<_, &str>(0), "private", "after {what}");
    }
    // Names of other clients' statements on the server lead nowhere.
    let mut raw = super::raw::Raw::connect(&world, "ada@app.team").await;
    let mut out = Vec::new();
    for name in ["windlass_0", "windlass_1"] {
        out.extend(message(tag::BIND, format!("\0{name}\0\0\0\0\0\0\0").as_bytes()));
        out.extend(message(tag::SYNC, b""));
    }
    raw.stream.write_all(&out).await.unwrap();
    for _ in 0..2 {
        assert_eq!(raw.until_ready().await, "EZ");
        assert!(String::from_utf8_lossy(&raw.last).contains("26000"));
    }
    // One that is never asked for in another transaction may be long.
    let long = format!("select length('{}')", "x".repeat(2 << 20));
    let mut out = Vec::new();
    Parse { name: b"", query: long.as_bytes(), types: &[0, 0] }.write_as(&mut out, b"");
    out.extend_from_slice(b"B\0\0\0\x0c\0\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04");
    raw.stream.write_all(&out).await.unwrap();
    assert_eq!(raw.until_ready().await, "12DCZ");
}

#[tokio::test]
async fn a_client_of_a_newer_protocol_comes_in_by_the_old_one() {
    let world = World::new(Pooling::Transaction).await;
    let (mut raw, negotiated) = super::raw::Raw::connect_as(&world, "ada@app.team", 0x0003_0002).await;
    assert_eq!(negotiated.unwrap(), [0, 3, 0, 0, 0, 0, 0, 0]);
    raw.queries(&["select 1"]).await;
    assert_eq!(raw.until_ready().await, "TDCZ");
}
