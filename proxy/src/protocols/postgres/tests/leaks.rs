//! Ways in which something of one client could reach another over a shared connection, and does not.

use tokio::io::AsyncWriteExt as _;

use super::{
    pooling::narrow,
    raw::Raw,
    world::{World, text},
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
