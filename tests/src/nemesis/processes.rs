//! Faults of single processes and files (1 to 3, 5, 8 to 10, 40).

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::round::Round;
use crate::database::{self, start_time};
use crate::lab::faults::{Cut, Freeze};
use crate::processes::Scope;
use crate::wait_until;

/// What ended is back by then.
const BACK: Duration = Duration::from_secs(60);

pub(super) async fn postmaster(round: &mut Round<'_>) -> Result<()> {
    let primary = round.primary().await?;
    let pid = round.postmaster(primary)?;
    round.mark();
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    round.writes_go_on(30).await
}

pub(super) async fn backend(round: &mut Round<'_>) -> Result<()> {
    let primary = round.primary().await?;
    let mut backends = round.server(primary)?.into_iter().filter(|pid| serves_a_client(*pid));
    let pid = backends.next_back().context("no backend of a client")?;
    round.mark();
    kill(Pid::from_raw(pid), Signal::SIGSEGV)?;
    round.writes_go_on(30).await
}

/// PostgreSQL writes user, database, client and what it does into the command line of a backend.
fn serves_a_client(pid: i32) -> bool {
    let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.contains(" app ") && text.contains('(')
}

pub(super) async fn stopped(round: &mut Round<'_>) -> Result<()> {
    let primary = round.primary().await?;
    let server = round.server(primary)?;
    round.mark();
    let frozen = Freeze::processes(&server)?;
    round.fails_over(30).await?;
    round.writes_go_on(30).await?;
    drop(frozen);
    Ok(())
}

pub(super) async fn agent(round: &mut Round<'_>) -> Result<()> {
    let primary = round.primary().await?;
    let pid = round.postmaster(primary)?;
    let started = start_time(pid);
    round.mark();
    round.host(primary).program().kill()?;
    round.lasts(4.0).await;
    ensure!(start_time(pid) == started, "the database died with its agent");
    round.host(primary).start()?;
    round.lasts(2.0).await;
    ensure!(start_time(pid) == started, "the agent did not take the database over");
    Ok(())
}

pub(super) async fn before_promote(round: &mut Round<'_>) -> Result<()> {
    dies_at(round, "ha.before_promote").await
}

pub(super) async fn after_promote(round: &mut Round<'_>) -> Result<()> {
    dies_at(round, "ha.after_promote").await
}

/// Agents of both standbys are armed; one of them gets the order, dies, and is started again like a service.
async fn dies_at(round: &mut Round<'_>, point: &str) -> Result<()> {
    let armed = format!("{point}=abort(once)");
    let (primary, standbys) = (round.primary().await?, round.standbys().await?);
    for standby in &standbys {
        let program = round.host(*standby).program();
        program.stop().await?;
        round.host(*standby).start_with(&[("WINDLASS_FAILPOINTS", &armed)])?;
    }
    round.whole(std::time::Duration::from_secs(30)).await?;
    round.mark();
    let cut = Cut::off(&round.node(primary))?;
    let died = crate::wait_until("death at the failpoint", std::time::Duration::from_secs(30), async || {
        let mut dead = standbys.iter().filter(|standby| !round.site.hosts[**standby].program().running());
        dead.next().copied().with_context(|| format!("{point} was never reached"))
    })
    .await?;
    round.lasts(0.5).await;
    round.host(died).start()?;
    round.writes_go_on(60).await?;
    drop(cut);
    // Nobody else shall die of it in a later round.
    for standby in standbys.iter().filter(|standby| **standby != died) {
        round.host(*standby).program().stop().await?;
        round.host(*standby).start()?;
    }
    Ok(())
}

/// The primary's postmaster and the agent that started it. An agent that was killed since then is not its parent.
async fn child_of_its_agent(round: &mut Round<'_>) -> Result<(i32, i32)> {
    for _ in 0..5 {
        let primary = round.primary().await?;
        let (pid, agent) = (round.postmaster(primary)?, round.host(primary).program().pid().context("no agent")?);
        if Scope::Family(agent).pids().contains(&pid) {
            return Ok((pid, agent));
        }
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        wait_until("another postmaster there", BACK, async || {
            ensure!(round.postmaster(primary)? != pid, "not yet");
            Ok(())
        })
        .await?;
        round.whole(BACK).await?;
    }
    bail!("the primary's postmaster is never its agent's child")
}

pub(super) async fn zombie(round: &mut Round<'_>) -> Result<()> {
    // Its parent does not reap it, so that it looks alive to whoever only asks for the number.
    let (pid, agent) = child_of_its_agent(round).await?;
    round.mark();
    let frozen = Freeze::processes(&[agent])?;
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    round.lasts(2.0).await;
    ensure!(start_time(pid).is_none(), "it is dead");
    ensure!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "and not reaped");
    drop(frozen);
    round.writes_go_on(30).await
}

pub(super) async fn state_lost(round: &mut Round<'_>) -> Result<()> {
    let standby = round.standbys().await?[0];
    let directory = round.member_directory(standby)?;
    for damage in [Damage::Truncate, Damage::Delete] {
        round.host(standby).program().kill()?;
        round.end_server(standby).await?;
        let mut files = state_files(&directory);
        files.sort_by_key(|file| std::fs::metadata(file).and_then(|meta| meta.modified()).ok());
        let newest = files.pop().with_context(|| format!("no ha.state below {}", directory.display()))?;
        match damage {
            Damage::Truncate => std::fs::File::options().write(true).open(&newest)?.set_len(20)?,
            Damage::Delete => {
                std::fs::remove_file(&newest)?;
                files.iter().try_for_each(std::fs::remove_file)?;
            }
        }
        round.host(standby).start()?;
        round.writes_go_on(30).await?;
        round.whole(Duration::from_secs(90)).await.with_context(|| format!("{damage:?}"))?;
    }
    ensure!(!database::processes_below(&directory).is_empty(), "it runs");
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Truncate,
    Delete,
}

fn state_files(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains("ha.state")).collect()
}
