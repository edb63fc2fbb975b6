//! What clients saw, what is there in the end, and both held against each other.

use anyhow::{Context, Result};

use super::session::{Session, Target};
use super::{ACCOUNTS, BALANCE};
use crate::checkers::append::{Append, Lists, Read};
use crate::checkers::bank::Sum;
use crate::checkers::{self, Row, Write};

/// What clients saw.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Ids that writers tried to insert.
    pub writes: Vec<Write>,
    /// Elements that appenders tried to append.
    pub appends: Vec<Append>,
    /// Lists that appenders read.
    pub reads: Vec<Read>,
    /// Sums that bankers read.
    pub sums: Vec<Sum>,
    /// Errors that clients met, the first of each text.
    pub errors: Vec<String>,
}

/// What is there in the end.
#[derive(Debug, Clone, Default)]
pub struct End {
    /// Ids.
    pub rows: Vec<Row>,
    /// Lists.
    pub lists: Lists,
    /// The bank's money.
    pub sum: i64,
}

impl End {
    /// Reads everything from the primary.
    ///
    /// # Errors
    /// The server refused.
    pub async fn read(target: &Target) -> Result<Self> {
        let session = Session::open(target).await?;
        let client = &session.client;
        let rows = client.query("select id, epoch, transaction from nemesis.write", &[]);
        let rows = session.within(rows).await?;
        let rows = rows.iter().map(|row| {
            let number = |at| row.get::<_, i64>(at).cast_unsigned();
            Row { id: row.get(0), epoch: number(1), transaction: number(2) }
        });
        let rows = rows.collect();
        let lists = session.within(client.query("select key, list from nemesis.list", &[])).await?;
        let lists = lists.iter().map(|row| (row.get(0), row.get(1))).collect();
        let sum = session.within(client.query_one("select sum(balance)::bigint from nemesis.account", &[])).await?;
        Ok(Self { rows, lists, sum: sum.try_get(0).context("sum of the accounts")? })
    }
}

impl History {
    pub(super) fn extend(&mut self, other: Self) {
        self.writes.extend(other.writes);
        self.appends.extend(other.appends);
        self.reads.extend(other.reads);
        self.sums.extend(other.sums);
        self.errors.extend(other.errors);
    }

    /// How many writes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.writes.iter().filter(|write| write.ack.is_some()).count()
    }

    /// Every breach, each with the name of its checker.
    pub fn breaches(&self, end: &End) -> Vec<String> {
        let must = BALANCE * i64::from(ACCOUNTS);
        let mut sums = self.sums.clone();
        sums.push(Sum { client: 0, sum: end.sum });
        let all = [
            ("acked-set", checkers::acked::check(&self.writes, &end.rows)),
            ("list-append", checkers::append::check(&self.appends, &self.reads, &end.lists)),
            ("bank", checkers::bank::check(&sums, must)),
            ("single-writer", checkers::writers::check(&self.writes, &end.rows)),
        ];
        all.into_iter()
            .flat_map(|(name, found)| found.into_iter().map(move |breach| format!("{name}: {breach}")))
            .collect()
    }
}

/// Notes an error, each text once, so that a long outage does not fill the memory.
pub(super) fn note(errors: &mut Vec<String>, error: &anyhow::Error) {
    let text = format!("{error:#}");
    if !errors.contains(&text) && errors.len() < 100 {
        errors.push(text);
    }
}
