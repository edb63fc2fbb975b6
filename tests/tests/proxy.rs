//! The proxy with a whole installation behind it: names, restarts without an outage, and rude clients.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use windlass_proto::api::v1::GetConnectionRequest;
use windlass_tests::api::instance_name;
use windlass_tests::proxy::{DOMAIN, Proxy, Session, session};
use windlass_tests::stack::free_ports;
use windlass_tests::{Stack, wait_until};

const LIMIT: Duration = Duration::from_secs(30);

async fn answer(session: &Session) -> Result<i32> {
    Ok(session.client.query_one("select 40 + 2", &[]).await?.get(0))
}

async fn ended(session: Session) -> Result<()> {
    tokio::time::timeout(LIMIT, session.connection).await.context("the connection does not end")??.ok();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_brought_to_their_instance_by_name_by_suffix_and_by_port() -> Result<()> {
    let stack = Stack::plan().start().await?;
    stack.api.create_project("shop").await?;
    stack.api.make_instance("shop", "db", "postgres").await?;
    let fixed = free_ports(1)?;
    let more = format!("domain = {DOMAIN:?}\n[fixed_ports]\n{fixed} = \"db.shop\"\n");
    let mut proxy = Proxy::start(&stack, "front", &more).await?;
    let to = stack.credentials("shop", "db").await?;

    ensure!(answer(&proxy.by_name(&to, "db.shop").await?).await? == 42, "by the name in the handshake");
    ensure!(answer(&proxy.by_suffix(&to, "db.shop").await?).await? == 42, "by the user's suffix");
    let port = session(([127, 0, 0, 1], fixed).into(), &to, "localhost", &to.user).await?;
    ensure!(answer(&port).await? == 42, "by a port of its own");
    ensure!(
        answer(&proxy.by_name(&to, "db-ro.shop").await?).await? == 42,
        "readers go to the primary without a replica"
    );
    let unknown = proxy.by_suffix(&to, "nothing.shop").await.err().context("an unknown instance was served")?;
    ensure!(format!("{unknown:#}").contains("nothing.shop"), "{unknown:#}");

    let given = |direct| {
        let name = instance_name("shop", "db");
        let request = GetConnectionRequest { name, direct, ..Default::default() };
        async { Ok::<_, anyhow::Error>(stack.api.instances().get_connection(request).await?.into_inner()) }
    };
    let through = given(false).await?;
    ensure!((through.host.as_str(), through.via.as_str()) == ("db.shop.db.test", "proxy"), "{through:?}");
    ensure!(u32::from(proxy.address.port()) == through.port, "{through:?}");
    ensure!(given(true).await?.via == "direct", "--direct");
    wait_until("endpoint of the proxy", LIMIT, async || {
        let made = stack.api.instance(&instance_name("shop", "db")).await?;
        ensure!(made.endpoints.iter().any(|e| e.via == "proxy" && e.host == "db.shop.db.test"), "{made:?}");
        Ok(())
    })
    .await?;
    ensure!(stack.run(&["proxy", "list"]).await?.contains("ONLINE"), "the proxy is in the list");

    // A project that comes later has a name in the certificate within moments.
    stack.api.create_project("late").await?;
    stack.api.make_instance("late", "db", "postgres").await?;
    let to_late = stack.credentials("late", "db").await?;
    wait_until("certificate for a new project", LIMIT, async || {
        answer(&proxy.by_name(&to_late, "db.late").await?).await?;
        Ok(())
    })
    .await?;

    // Without the control plane, even after a restart.
    let mut stack = stack;
    stack.control_plane.stop().await?;
    ensure!(answer(&proxy.by_name(&to, "db.shop").await?).await? == 42, "the control plane is away");
    proxy.program.stop().await?;
    proxy.program = proxy.process()?;
    proxy.serves().await?;
    ensure!(answer(&proxy.by_name(&to_late, "db.late").await?).await? == 42, "restarted without the control plane");
    proxy.program.stop().await?;
    stack.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_takes_over_while_clients_work_and_the_old_one_lets_them_end() -> Result<()> {
    let stack = Stack::plan().start().await?;
    stack.api.create_project("shop").await?;
    stack.api.make_instance("shop", "db", "postgres").await?;
    let mut proxy = Proxy::start(&stack, "front", "[drain]\nhandover_patience = \"60s\"\n").await?;
    let to = stack.credentials("shop", "db").await?;

    let old = proxy.by_suffix(&to, "db.shop").await?;
    old.client.batch_execute("begin; create temp table t (n int)").await?;
    // Somebody connects all the while.
    let (address, busy_to) = (proxy.address, to.clone());
    let busy = tokio::spawn(async move {
        let (mut made, begin) = (0, Instant::now());
        while begin.elapsed() < Duration::from_secs(3) {
            let user = format!("{}@db.shop", busy_to.user);
            answer(&session(address, &busy_to, "localhost", &user).await?).await?;
            made += 1;
        }
        Ok::<_, anyhow::Error>(made)
    });
    let new = proxy.process()?;
    let mut former = std::mem::replace(&mut proxy.program, new);
    wait_until("take-over", LIMIT, async || {
        ensure!(former.log().contains("a new process serves"), "not yet");
        Ok(())
    })
    .await?;
    ensure!(former.running(), "the old one has a client");
    ensure!(busy.await?? > 0, "nobody was refused");
    old.client.batch_execute("insert into t values (1); commit").await?;
    ensure!(answer(&old).await? == 42, "the old client goes on");
    // Its cancellation comes in at the new process.
    let (token, sleep) = (old.client.cancel_token(), old.client.batch_execute("select pg_sleep(600)"));
    let cancel = async {
        wait_until("a statement that runs", LIMIT, async || {
            let sleeps =
                "select count(*) from pg_stat_activity where query = 'select pg_sleep(600)' and state = 'active'";
            let one = proxy.by_suffix(&to, "db.shop").await?.client.query_one(sleeps, &[]).await?.get::<_, i64>(0);
            ensure!(one == 1, "none");
            Ok(())
        })
        .await?;
        proxy.cancel(&to, token).await
    };
    let (slept, cancelled) = tokio::join!(sleep, cancel);
    cancelled?;
    let code = slept.err().and_then(|error| error.code().cloned());
    ensure!(code == Some(tokio_postgres::error::SqlState::QUERY_CANCELED), "{code:?}");
    drop(old.client);
    former.ended(LIMIT).await?;
    proxy.serves().await?;

    // SIGTERM: a transaction may end, a client at rest is told to go.
    let (idle, working) = (proxy.by_suffix(&to, "db.shop").await?, proxy.by_suffix(&to, "db.shop").await?);
    answer(&idle).await?;
    working.client.batch_execute("begin; select 1").await?;
    proxy.program.signal(Signal::SIGTERM)?;
    ended(idle).await?;
    working.client.batch_execute("select 1; commit").await?;
    ended(working).await?;
    proxy.program.ended(LIMIT).await?;
    stack.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rude_clients_do_not_hurt_others() -> Result<()> {
    let stack = Stack::plan().start().await?;
    stack.api.create_project("shop").await?;
    stack.api.make_instance("shop", "db", "postgres").await?;
    let more = "[limits]\nstarting = 500\nstartup_timeout = \"3s\"\nclients_per_user = 20\n";
    let mut proxy = Proxy::start(&stack, "front", more).await?;
    let to = stack.credentials("shop", "db").await?;
    let calm = proxy.by_suffix(&to, "db.shop").await?;

    // A thousand that say nothing, more than there are places.
    let mut silent = Vec::new();
    for _ in 0..1000 {
        silent.push(TcpStream::connect(proxy.address).await?);
    }
    // One that says one byte at a time of a startup packet that never ends.
    let slow = tokio::spawn(slowloris(proxy.address));
    // A packet that is too big, a handshake that is none, a plain-text client.
    let too_big = [0x7f_u8, 0xff, 0xff, 0xff, 0, 3, 0, 0];
    let not_tls = [0_u8, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    let plain = [&[0_u8, 0, 0, 0x17, 0, 3, 0, 0][..], b"user\0a@db.shop\0\0"].concat();
    for rude in [&too_big[..], &not_tls, &plain] {
        let mut stream = TcpStream::connect(proxy.address).await?;
        stream.write_all(rude).await?;
        if rude == not_tls {
            stream.write_all(&[b'x'; 600]).await?;
        }
        let mut rest = Vec::new();
        // Closed, with words or without.
        let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await.context("it was not closed")?;
    }

    let begin = Instant::now();
    for _ in 0..10 {
        ensure!(answer(&calm).await? == 42, "a client that is in");
        ensure!(answer(&proxy.by_suffix(&to, "db.shop").await?).await? == 42, "a client that comes");
    }
    ensure!(begin.elapsed() < Duration::from_secs(10), "others were held up for {:?}", begin.elapsed());
    ensure!(proxy.metric("windlass_proxy_clients_starting").await? <= 500.0, "there are only so many places");
    ensure!(tokio::time::timeout(LIMIT, slow).await.context("slowloris was not closed")???, "slowloris was closed");
    ensure!(proxy.metric("windlass_proxy_connections_refused_total").await? >= 500.0, "the oldest were closed");
    drop(silent);

    // The limit of a user.
    let mut many = Vec::new();
    let refused = loop {
        match proxy.by_suffix(&to, "db.shop").await {
            Ok(session) => many.push(session),
            Err(error) => break format!("{error:#?}"),
        }
        ensure!(many.len() <= 20, "no limit");
    };
    ensure!(refused.contains("53300") && refused.contains("20 clients"), "{refused}");
    proxy.program.stop().await?;
    stack.finish().await
}

/// True if it was closed before it had sent everything.
async fn slowloris(address: std::net::SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let packet = [&[0_u8, 0, 0x10, 0, 0, 3, 0, 0][..], &[b'a'; 200]].concat();
    for byte in packet {
        let mut end = [0_u8; 1];
        if stream.write_all(&[byte]).await.is_err() {
            return Ok(true);
        }
        match tokio::time::timeout(Duration::from_millis(100), stream.read(&mut end)).await {
            Err(_) => {}
            Ok(_) => return Ok(true),
        }
    }
    Ok(false)
}
