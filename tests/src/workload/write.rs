//! A writer: one unique id after the other. What it was told goes into a file, durably, before it counts.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::RngExt;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Work;
use super::history::{History, note};
use super::session::{Session, value};
use crate::checkers::{Ack, Write};

/// After a connection that was refused.
const PAUSE: Duration = Duration::from_millis(5);

/// Whether a writer cancels its own statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancels {
    Never,
    Sometimes,
}

/// Writes until told to stop.
pub(super) async fn run(work: Work, every: Duration, cancels: Cancels) -> Result<History> {
    let mut log = File::create(&work.log)?;
    let mut history = History::default();
    let mut session = None;
    let mut next = i64::from(work.client) * 1_000_000_000;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while work.goes_on() {
        ticks.tick().await;
        next += 1;
        let begun = work.now();
        let result = insert(&work, &mut session, next, cancels).await;
        let ack = match result {
            Ok(epoch) => {
                let at = work.now();
                writeln!(log, "{next} {epoch} {}", at.as_micros())?;
                log.sync_data()?;
                work.acknowledged(at);
                Some(Ack { at, epoch })
            }
            Err(error) => {
                note(&mut history.errors, &error);
                if session.as_ref().is_none_or(|session: &Session| session.client.is_closed()) {
                    session = None;
                    sleep(PAUSE).await;
                }
                None
            }
        };
        history.writes.push(Write { client: work.client, id: next, begun, ack });
    }
    Ok(history)
}

async fn insert(work: &Work, session: &mut Option<Session>, id: i64, cancels: Cancels) -> Result<u64> {
    let open = match session.take() {
        Some(open) => open,
        None => Session::open(&work.target).await?,
    };
    let statement = format!(
        "insert into nemesis.write values ({id},
             coalesce(nullif(current_setting('windlass.epoch', true), '')::bigint, 0),
             pg_current_xact_id()::text::bigint) returning epoch"
    );
    if cancels == Cancels::Sometimes && rand::rng().random_bool(0.2) {
        let (token, target, address) = (open.client.cancel_token(), work.target.clone(), open.address);
        let after = Duration::from_micros(rand::rng().random_range(0..15_000));
        tokio::spawn(async move {
            sleep(after).await;
            // A cancel that does not arrive is none.
            let _ = Session::cancel(token, &target, address).await;
        });
    }
    let result = open.within(open.client.simple_query(&statement)).await;
    match &result {
        // The server answered, so the session is good.
        Err(error) if !error.is::<tokio_postgres::Error>() => {}
        Ok(_) | Err(_) => *session = Some(open),
    }
    value(&result?).context("no answer")?.parse().context("epoch")
}
