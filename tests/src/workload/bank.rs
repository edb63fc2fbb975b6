//! A banker: serializable transfers, and sums read in one snapshot.

use std::time::Duration;

use anyhow::Result;
use rand::RngExt;
use tokio::time::sleep;

use super::history::{History, note};
use super::session::Session;
use super::{ACCOUNTS, Work};
use crate::checkers::bank::Sum;

const PAUSE: Duration = Duration::from_millis(10);

/// Transfers until told to stop.
pub(super) async fn run(work: Work) -> Result<History> {
    let mut history = History::default();
    while work.goes_on() {
        if let Err(error) = one_session(&work, &mut history).await {
            note(&mut history.errors, &error);
        }
        sleep(PAUSE).await;
    }
    Ok(history)
}

async fn one_session(work: &Work, history: &mut History) -> Result<()> {
    let open = Session::open(&work.target).await?;
    let client = &open.client;
    while work.goes_on() {
        let from = rand::rng().random_range(0..ACCOUNTS);
        let to = (from + rand::rng().random_range(1..ACCOUNTS)) % ACCOUNTS;
        let amount: i64 = rand::rng().random_range(1..20);
        open.within(client.batch_execute("begin isolation level serializable")).await?;
        let take = "update nemesis.account set balance = balance - $2 where id = $1";
        open.within(client.execute(take, &[&from, &amount])).await?;
        open.within(client.execute(take, &[&to, &-amount])).await?;
        open.within(client.batch_execute("commit")).await?;
        let sum = client.query_one("select sum(balance)::bigint from nemesis.account", &[]);
        let sum = open.within(sum).await?.get(0);
        history.sums.push(Sum { client: work.client, sum });
        sleep(PAUSE).await;
    }
    Ok(())
}
