//! A standby of another history must not acknowledge: what PostgreSQL does with plain names, and what it does when the
//! epoch is part of the name.
//!
//! An ex-primary with commits that nobody acknowledged is started as a standby of the new primary, without a rewind.
//! Its walreceiver starts at the beginning of a segment before the fork and reports its own, foreign end of WAL as
//! flushed. Under a name that the new primary waits for, that releases a commit that is nowhere else.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use windlass_tests::ground::Ground;
use windlass_tests::lab::plain::Plain;
use windlass_tests::stack::free_ports;
use windlass_tests::wait_until;

const LIMIT: Duration = Duration::from_secs(20);
const SETTINGS: &str = "fsync=off\nwal_keep_size=128MB\nwal_receiver_timeout=1500ms\nwal_retrieve_retry_interval=200ms";

/// An old primary of another history, down, and a new one with a commit that waits.
struct Diverged {
    old: Plain,
    new: Plain,
    commit: Child,
}

impl Diverged {
    /// `wanted` is what the new primary waits for.
    async fn arrange(ground: &Arc<Ground>, wanted: &str) -> Result<Self> {
        let port = free_ports(2)?;
        let (mut old, mut new) = (Plain::new(ground, "old", port), Plain::new(ground, "new", port + 1));
        old.initialise()?;
        old.configure(SETTINGS)?;
        old.start().await?;
        old.sql("create table t(k text); create table filler(f text)")?;
        new.copy(&old)?;
        new.configure(&format!("primary_conninfo='host=127.0.0.1 port={port} user=root application_name=new'"))?;
        new.start().await?;
        // The standby that starts at the beginning of this segment has a good piece of WAL to ask for again.
        old.sql("select pg_switch_wal()")?;
        old.sql("insert into filler select repeat('x', 500) from generate_series(1, 16000)")?;
        let end = old.sql("select pg_current_wal_flush_lsn()")?;
        wait_until("a standby that has everything", LIMIT, async || {
            let at = new.sql("select pg_last_wal_replay_lsn()")?;
            ensure!(new.sql(&format!("select '{at}'::pg_lsn >= '{end}'"))? == "t", "{at} of {end}");
            Ok(())
        })
        .await?;
        new.stop()?;
        old.sql("insert into t select 'diverged ' || g from generate_series(1, 3000) g")?;
        old.kill()?;
        new.configure(&format!("primary_conninfo=''\nsynchronous_standby_names='ANY 1 ({wanted})'"))?;
        new.start().await?;
        new.sql("select pg_promote(true)")?;
        let commit = new.psql("insert into t values ('new')").stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut diverged = Self { old, new, commit };
        diverged.waits().await?;
        Ok(diverged)
    }

    /// Waits until the commit waits for its acknowledgement.
    async fn waits(&mut self) -> Result<()> {
        wait_until("a commit that waits", LIMIT, async || {
            ensure!(self.new.sql("select count(*) from pg_stat_activity where wait_event = 'SyncRep'")? == "1");
            Ok(())
        })
        .await
    }

    /// The old one comes back as a standby, without a rewind, under a name.
    async fn follow(&mut self, name: &str) -> Result<()> {
        let port = self.new.port();
        self.old.standby()?;
        self.old
            .configure(&format!("primary_conninfo='host=127.0.0.1 port={port} user=root application_name={name}'"))?;
        self.old.start().await
    }

    /// Waits until the old one was connected and PostgreSQL noticed the fork.
    async fn noticed(&self) -> Result<()> {
        wait_until("a fork that is noticed", LIMIT, async || {
            let log = self.old.log_text();
            let connected = log.contains("started streaming WAL") || log.contains("forked off");
            if connected { Ok(()) } else { bail!("{log}") }
        })
        .await
    }

    fn committed(&mut self) -> Result<bool> {
        Ok(self.commit.try_wait()?.is_some_and(|status| status.success()))
    }
}

impl Drop for Diverged {
    fn drop(&mut self) {
        let _ = self.commit.kill();
        let _ = self.commit.wait();
    }
}

#[tokio::test]
async fn with_plain_names_postgresql_takes_the_word_of_a_diverged_standby() -> Result<()> {
    // Timing decides whether a single try shows it; in most it does.
    for _ in 0..5 {
        let ground = Arc::new(Ground::make()?);
        let mut diverged = Diverged::arrange(&ground, "m1").await?;
        diverged.follow("m1").await?;
        let seen = wait_until("a commit that was acknowledged", Duration::from_secs(5), async || {
            diverged.committed()?.then_some(()).context("it waits")
        })
        .await;
        if seen.is_ok() {
            let there = diverged.old.sql("select count(*) from t where k = 'new'")?;
            ensure!(there == "0", "it has the row, so this was no false acknowledgement");
            return Ok(());
        }
    }
    bail!("PostgreSQL did not do it in 5 tries; if it never does any more, epoch names are one guard of two")
}

#[tokio::test]
async fn with_the_epoch_in_the_name_nobody_takes_it() -> Result<()> {
    for _ in 0..2 {
        let ground = Arc::new(Ground::make()?);
        let mut diverged = Diverged::arrange(&ground, "m1_e7").await?;
        diverged.follow("m1_e6").await?;
        diverged.noticed().await?;
        // Far longer than it takes with plain names.
        tokio::time::sleep(Duration::from_secs(3)).await;
        ensure!(!diverged.committed()?, "acknowledged by a standby of another epoch");
        diverged.waits().await?;
    }
    Ok(())
}
