//! An appender: transactions that lock a list, read it and append to it, and plain reads between them.

use std::time::Duration;

use anyhow::Result;
use rand::RngExt;
use tokio::time::sleep;

use super::history::{History, note};
use super::session::Session;
use super::{LISTS, Work};
use crate::checkers::append::{Append, Read};

const PAUSE: Duration = Duration::from_millis(10);

/// Appends until told to stop.
pub(super) async fn run(work: Work) -> Result<History> {
    let mut history = History::default();
    let mut element = i64::from(work.client) * 1_000_000_000;
    let mut session = 0;
    while work.goes_on() {
        session += 1;
        let number = u64::from(work.client) * 1_000_000 + session;
        if let Err(error) = one_session(&work, number, &mut element, &mut history).await {
            note(&mut history.errors, &error);
        }
        sleep(PAUSE).await;
    }
    Ok(history)
}

async fn one_session(work: &Work, session: u64, element: &mut i64, history: &mut History) -> Result<()> {
    let open = Session::open(&work.target).await?;
    while work.goes_on() {
        let key = rand::rng().random_range(0..LISTS);
        if rand::rng().random_bool(0.3) {
            let read = "select list from nemesis.list where key = $1";
            let list = open.within(open.client.query_one(read, &[&key])).await?.get(0);
            history.reads.push(Read { key, session, list });
        } else {
            *element += 1;
            history.appends.push(Append { key, element: *element, acked: None });
            let list = transaction(&open, key, *element).await?;
            let last = history.appends.last_mut().expect("one was pushed");
            last.acked = Some(work.now());
            history.reads.push(Read { key, session, list });
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Gives the list as it was before.
async fn transaction(open: &Session, key: i32, element: i64) -> Result<Vec<i64>> {
    let client = &open.client;
    open.within(client.batch_execute("begin")).await?;
    let lock = "select list from nemesis.list where key = $1 for update";
    let before = open.within(client.query_one(lock, &[&key])).await?.get(0);
    let append = "update nemesis.list set list = array_append(list, $2) where key = $1";
    open.within(client.execute(append, &[&key, &element])).await?;
    open.within(client.batch_execute("commit")).await?;
    Ok(before)
}
