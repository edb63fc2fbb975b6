//! Faults in the middle of changes of roles (43, 50 to 57).

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use windlass_core::replication::epoch_name;
use windlass_proto::api::v1::{AddReplicaRequest, Operation, RemoveReplicaRequest, SwitchoverInstanceRequest};

use super::round::Round;
use crate::api::request_id;
use crate::lab::faults::Cut;
use crate::workload::{Session, Target};

/// Between two looks for a process that lives shortly.
const GLANCE: Duration = Duration::from_millis(2);

pub(super) async fn cancels(round: &mut Round<'_>) -> Result<()> {
    let (primary, standby) = (round.primary().await?, round.standbys().await?[0]);
    round.mark();
    for _ in 0..3 {
        // Commits wait, and some are cancelled, until it is back.
        let cut = Cut::off(&round.node(standby))?;
        round.lasts(0.8).await;
        drop(cut);
        round.lasts(0.5).await;
    }
    round.writes_go_on(30).await?;
    round.whole(Duration::from_secs(30)).await?;
    let last = Cut::off(&round.node(standby))?;
    round.lasts(0.5).await;
    let dead = Cut::off(&round.node(primary))?;
    drop(last);
    round.lasts(5.0).await;
    drop(dead);
    round.writes_go_on(30).await
}

pub(super) async fn rewind_killed(round: &mut Round<'_>) -> Result<()> {
    let primary = round.primary().await?;
    let node = round.node(primary);
    round.mark();
    let cut = Cut::off(&node)?;
    round.fails_over(30).await?;
    round.writes_go_on(30).await?;
    drop(cut);
    let begin = Instant::now();
    // It may rejoin without a rewind, so there may be nothing to kill.
    while begin.elapsed() < Duration::from_secs(10) {
        let rewind = node.pids().into_iter().find(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim() == "pg_rewind"
        });
        if let Some(pid) = rewind {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            return Ok(());
        }
        tokio::time::sleep(GLANCE).await;
    }
    Ok(())
}

pub(super) async fn same_timeline(round: &mut Round<'_>) -> Result<()> {
    let (primary, standbys) = (round.primary().await?, round.standbys().await?);
    for standby in &standbys {
        round.host(*standby).program().stop().await?;
        round.host(*standby).start_with(&[("WINDLASS_FAILPOINTS", "ha.after_promote=abort(once)")])?;
    }
    round.whole(Duration::from_secs(30)).await?;
    round.mark();
    let dead = Cut::off(&round.node(primary))?;
    let died = crate::wait_until("death after the promotion", Duration::from_secs(30), async || {
        let mut dead = standbys.iter().filter(|standby| !round.site.hosts[**standby].program().running());
        dead.next().copied().context("both live")
    })
    .await?;
    // It has promoted and is lost; whoever is promoted instead draws the same timeline.
    let lost = Cut::off(&round.node(died))?;
    drop(dead);
    for standby in standbys.iter().filter(|standby| **standby != died) {
        round.host(*standby).program().stop().await?;
        round.host(*standby).start()?;
    }
    round.lasts(5.0).await;
    round.host(died).start()?;
    drop(lost);
    round.writes_go_on(60).await
}

pub(super) async fn long_read(round: &mut Round<'_>) -> Result<()> {
    let (primary, standby) = (round.primary().await?, round.standbys().await?[0]);
    let direct = round.site.direct(round.id).await?;
    let address = direct.addresses.iter().find(|address| address.ip() == round.node(standby).address());
    let addresses = vec![*address.context("address of the standby")?];
    let reader = Session::open(&Target { addresses, patience: Duration::from_secs(60), ..direct }).await?;
    reader.client.batch_execute("begin isolation level repeatable read; select count(*) from nemesis.write").await?;
    let sleep = reader.client.batch_execute("select pg_sleep(60)");
    let writer = Session::open(&round.target).await?;
    // What the reader's snapshot still needs goes, so that replay has a conflict.
    writer.within(writer.client.batch_execute("drop table if exists nemesis.filler")).await?;
    round.mark();
    let cut = Cut::off(&round.node(primary))?;
    let (ended, ()) = tokio::try_join!(async { Ok(sleep.await.is_err()) }, async {
        round.fails_over(30).await?;
        round.writes_go_on(30).await
    })?;
    ensure!(ended, "the long read outlived the promotion");
    drop(cut);
    Ok(())
}

/// Every agent hears its orders again, late and behind younger ones, through a whole life: alone, with a follower
/// again, by a switchover and a failover.
pub(super) async fn orders_again(round: &mut Round<'_>) -> Result<()> {
    for host in &mut round.site.hosts {
        host.program().stop().await?;
        host.start_with(&[("WINDLASS_FAILPOINTS", "ha.orders_again=error")])?;
    }
    round.whole(Duration::from_secs(30)).await?;
    round.mark();
    let (primary, standby) = (round.primary().await?, round.standbys().await?[0]);
    let cut = Cut::off(&round.node(standby))?;
    round.writes_go_on(30).await?;
    drop(cut);
    round.whole(Duration::from_secs(60)).await?;
    let operation = ask_switchover(round).await?;
    round.api.succeeded(&operation).await?;
    round.whole(Duration::from_secs(60)).await?;
    ensure!(round.primary().await? != primary, "a switchover that changed nothing");
    let cut = Cut::off(&round.node(standby))?;
    round.writes_go_on(30).await?;
    drop(cut);
    for host in &mut round.site.hosts {
        host.program().stop().await?;
        host.start()?;
    }
    Ok(())
}

/// A primary with commits of its own is started by hand as a standby of its successor, without a rewind and under the
/// name by which it was known: nothing is acknowledged by it.
pub(super) async fn old_name(round: &mut Round<'_>) -> Result<()> {
    let (old, standbys) = (round.primary().await?, round.standbys().await?);
    let name = epoch_name(round.member(old).await?, round.epoch);
    round.mark();
    round.host(old).program().kill()?;
    let cut = Cut::off(&round.node(old))?;
    let own = "set synchronous_commit = local; create table own as select generate_series(1, 50000)";
    round.site.ask_member(old, own)?;
    round.fails_over(30).await?;
    round.writes_go_on(30).await?;
    let new = round.primary().await?;
    let other = *standbys.iter().find(|standby| **standby != new).context("another standby")?;
    let followed = crate::wait_until("a standby that follows", Duration::from_secs(30), async || {
        let line = round.site.ask_member(other, "show primary_conninfo")?;
        ensure!(!line.is_empty() && !line.contains(&format!("host='{}'", round.node(old).address())), "{line}");
        Ok(line)
    })
    .await?;
    round.end_server(old).await?;
    drop(cut);
    let directory = round.member_directory(old)?;
    disguise(&directory, &followed, &name)?;
    let log = directory.join("log/by-hand.log");
    let mut server = round.site.start_by_hand(old, &log)?;
    let connected = crate::wait_until("a connection of the diverged one", Duration::from_secs(20), async || {
        let log = std::fs::read_to_string(&log)?;
        ensure!(log.contains("started streaming WAL") || log.contains("forked off"), "{log}");
        Ok(())
    })
    .await;
    // Nobody is left whose word counts: what waits now would be released by a leader that takes the diverged one's. After
    // 1.5 s the leader may be told to go on alone.
    let alone = Cut::off(&round.node(other))?;
    let silent = round.nothing_acknowledged(1.2).await;
    drop(alone);
    round.end_server(old).await?;
    server.wait()?;
    connected?;
    silent
}

/// Makes a member's directory one of a standby that follows as another does, but under this name.
fn disguise(directory: &Path, followed: &str, name: &str) -> Result<()> {
    let (head, tail) = followed.split_once("application_name='").context("a name in primary_conninfo")?;
    let (_, tail) = tail.split_once('\'').context("the end of the name")?;
    let conninfo = format!("{head}application_name='{name}'{tail}").replace('\'', "''");
    let data = directory.join("data");
    std::fs::write(data.join("standby.signal"), "")?;
    let settings = format!("primary_conninfo = '{conninfo}'\nprimary_slot_name = ''\nsynchronous_standby_names = ''\n");
    // Read behind every other file.
    Ok(std::fs::write(data.join("postgresql.auto.conf"), settings)?)
}

async fn ask_switchover(round: &Round<'_>) -> Result<Operation> {
    let request = SwitchoverInstanceRequest { name: round.name(), request_id: request_id(), ..Default::default() };
    Ok(round.api.instances().switchover_instance(request).await?.into_inner())
}

pub(super) async fn switchover(round: &mut Round<'_>) -> Result<()> {
    round.mark();
    let operation = ask_switchover(round).await?;
    round.api.succeeded(&operation).await?;
    round.writes_go_on(10).await
}

pub(super) async fn idle_in_transaction(round: &mut Round<'_>) -> Result<()> {
    let idle = Session::open(&round.target).await?;
    idle.client.batch_execute("begin; select count(*) from nemesis.write").await?;
    round.mark();
    let operation = ask_switchover(round).await?;
    let (reason, message) = round.api.failed(&operation).await?;
    ensure!(!reason.is_empty() && !message.is_empty(), "it says why it was given up");
    round.writes_go_on(10).await?;
    idle.client.batch_execute("commit").await.context("the transaction that was waited for")?;
    Ok(())
}

pub(super) async fn candidate_dies(round: &mut Round<'_>) -> Result<()> {
    let standby = round.standbys().await?[0];
    let to = format!("hosts/{}", round.host(standby).name());
    let node = round.node(standby);
    round.mark();
    let request = SwitchoverInstanceRequest { name: round.name(), request_id: request_id(), to, ..Default::default() };
    let operation = round.api.instances().switchover_instance(request).await?.into_inner();
    let cut = Cut::off(&node)?;
    round.api.ended(&operation).await?;
    round.writes_go_on(30).await?;
    drop(cut);
    Ok(())
}

pub(super) async fn during_clone(round: &mut Round<'_>) -> Result<()> {
    let request = AddReplicaRequest { name: round.name(), request_id: request_id(), ..Default::default() };
    let add = round.api.instances().add_replica(request).await?.into_inner();
    let primary = round.primary().await?;
    round.lasts(0.3).await;
    round.mark();
    let cut = Cut::off(&round.node(primary))?;
    round.fails_over(30).await?;
    round.writes_go_on(30).await?;
    drop(cut);
    round.api.ended(&add).await?;
    round.whole(Duration::from_secs(90)).await?;
    let members = round.instance().await?.members.len();
    match members {
        3 => Ok(()),
        4 => {
            let request = RemoveReplicaRequest { name: round.name(), request_id: request_id(), ..Default::default() };
            let remove = round.api.instances().remove_replica(request).await?.into_inner();
            round.api.succeeded(&remove).await
        }
        other => bail!("{other} members"),
    }
}

pub(super) async fn twice(round: &mut Round<'_>) -> Result<()> {
    let first = round.primary().await?;
    round.mark();
    let cut = Cut::off(&round.node(first))?;
    round.fails_over(30).await?;
    round.writes_go_on(30).await?;
    let second = round.primary().await?;
    let again = Cut::off(&round.node(second))?;
    round.lasts(8.0).await;
    drop(again);
    drop(cut);
    round.writes_go_on(60).await
}
