//! What tokio-postgres offers, in the order of its documentation.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{SinkExt, StreamExt, TryStreamExt, future, stream};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::TlsConnect;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use super::Reach;
use crate::client::Handshake;

const LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn run(reach: &Reach) -> Result<()> {
    match &reach.ca_file {
        None => with(reach, NoTls).await,
        Some(file) => with(reach, Handshake::with(&reach.host, &std::fs::read_to_string(file)?)?).await,
    }
}

async fn with<T>(reach: &Reach, tls: T) -> Result<()>
where
    T: TlsConnect<TcpStream> + Clone,
    T::Stream: Send + 'static,
{
    let (mut client, mut messages) = open(reach, tls.clone()).await?;
    queries(&client).await?;
    pipelines(&client).await?;
    transactions(&mut client).await?;
    copies(&client).await?;
    notifications(&client, &mut messages).await?;
    let token = client.cancel_token();
    let stream = TcpStream::connect((reach.host.as_str(), reach.port)).await?;
    let (result, cancelled) = tokio::join!(client.batch_execute("select pg_sleep(30)"), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        token.cancel_query_raw(stream, tls).await
    });
    cancelled?;
    let error = result.expect_err("the cancel did not arrive");
    ensure!(error.code() == Some(&SqlState::QUERY_CANCELED), "{error}");
    Ok(client.batch_execute("drop table tokio_suite").await?)
}

async fn open<T>(reach: &Reach, tls: T) -> Result<(Client, mpsc::UnboundedReceiver<AsyncMessage>)>
where
    T: TlsConnect<TcpStream>,
    T::Stream: Send + 'static,
{
    let mut config = tokio_postgres::Config::new();
    config.user(&reach.user).password(&reach.password).dbname(&reach.database).application_name("suite-tokio");
    config.ssl_mode(if reach.ca_file.is_some() { SslMode::Require } else { SslMode::Disable });
    let stream = TcpStream::connect((reach.host.as_str(), reach.port)).await?;
    let (client, mut connection) = config.connect_raw(stream, tls).await?;
    let (sender, messages) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut all = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = all.next().await {
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    Ok((client, messages))
}

async fn queries(client: &Client) -> Result<()> {
    client
        .batch_execute("drop table if exists tokio_suite; create table tokio_suite(id int primary key, name text)")
        .await?;
    let insert = client.prepare("insert into tokio_suite values ($1, $2)").await?;
    for id in 0..20_i32 {
        ensure!(client.execute(&insert, &[&id, &format!("name {id}")]).await? == 1);
    }
    let rows = client.query("select name from tokio_suite where id = any($1) order by id", &[&vec![3, 5]]).await?;
    ensure!(rows.iter().map(|row| row.get::<_, &str>(0)).eq(["name 3", "name 5"]));
    ensure!(client.query_opt("select 1 from tokio_suite where id = -1", &[]).await?.is_none());
    let error = client.execute(&insert, &[&1, &"again"]).await.expect_err("a duplicate key went in");
    let detail = error.as_db_error().context("an error of the server")?;
    ensure!(detail.code() == &SqlState::UNIQUE_VIOLATION && detail.constraint() == Some("tokio_suite_pkey"));
    let simple = client.simple_query("select 1; select 2, 3").await?;
    ensure!(simple.len() > 3, "{simple:?}");
    let big = "x".repeat(4 << 20);
    let back: String = client.query_one("select $1::text", &[&big]).await?.get(0);
    ensure!(back == big);
    Ok(())
}

/// Requests of one client that are polled together go out together.
async fn pipelines(client: &Client) -> Result<()> {
    let statement = client.prepare("select $1::int * 2").await?;
    let doubled = future::try_join_all((0..300_i32).map(async |number| {
        let row = client.query_one(&statement, &[&number]).await?;
        Ok::<_, tokio_postgres::Error>(row.get::<_, i32>(0))
    }))
    .await?;
    ensure!(doubled == (0..300).map(|number| number * 2).collect::<Vec<i32>>());
    let some_fail = future::join_all(
        (0..20_i32).map(async |number| client.query_one("select 10 / $1::int", &[&(number % 2)]).await.is_ok()),
    )
    .await;
    ensure!(some_fail == (0..20).map(|number| number % 2 == 1).collect::<Vec<bool>>());
    Ok(())
}

async fn transactions(client: &mut Client) -> Result<()> {
    let mut transaction = client.transaction().await?;
    transaction.execute("insert into tokio_suite values (100, 'kept')", &[]).await?;
    let savepoint = transaction.transaction().await?;
    savepoint.batch_execute("select 1/0").await.expect_err("a division by zero");
    savepoint.rollback().await?;
    let portal = transaction.bind("select generate_series(1, 250)", &[]).await?;
    let mut sizes = Vec::new();
    for _ in 0..3 {
        sizes.push(transaction.query_portal(&portal, 100).await?.len());
    }
    ensure!(sizes == [100, 100, 50], "{sizes:?}");
    transaction.commit().await?;
    let dropped =
        client.build_transaction().isolation_level(tokio_postgres::IsolationLevel::Serializable).start().await?;
    dropped.execute("insert into tokio_suite values (101, 'dropped')", &[]).await?;
    drop(dropped);
    let count: i64 = client.query_one("select count(*) from tokio_suite where id >= 100", &[]).await?.get(0);
    ensure!(count == 1, "{count} rows");
    Ok(())
}

async fn copies(client: &Client) -> Result<()> {
    let mut sink = pin!(client.copy_in("copy tokio_suite from stdin").await?);
    let mut lines = stream::iter((1000..6000).map(|id| Ok(bytes::Bytes::from(format!("{id}\tcopied\n")))));
    sink.send_all(&mut lines).await?;
    ensure!(sink.finish().await? == 5000);
    let out = client.copy_out("copy (select * from tokio_suite where id >= 1000) to stdout").await?;
    let text = out.try_fold(Vec::new(), async |mut all, part| {
        all.extend_from_slice(&part);
        Ok(all)
    });
    let text = text.await?;
    ensure!(text.iter().filter(|byte| **byte == b'\n').count() == 5000);
    // One that is dropped is rolled back, and the connection is good.
    drop(client.copy_in::<_, bytes::Bytes>("copy tokio_suite from stdin").await?);
    ensure!(client.query_one("select 1", &[]).await?.get::<_, i32>(0) == 1);
    Ok(())
}

async fn notifications(client: &Client, messages: &mut mpsc::UnboundedReceiver<AsyncMessage>) -> Result<()> {
    client
        .batch_execute("do $$ begin raise notice 'heard'; end $$; listen tokio_suite; notify tokio_suite, 'hello'")
        .await?;
    let (mut heard, mut told) = (false, false);
    while !(heard && told) {
        let message = timeout(LIMIT, messages.recv()).await?.context("the connection ended")?;
        if let AsyncMessage::Notice(notice) = &message {
            heard |= notice.message() == "heard";
        }
        if let AsyncMessage::Notification(note) = &message {
            told |= note.payload() == "hello";
        }
    }
    Ok(client.batch_execute("unlisten *").await?)
}
