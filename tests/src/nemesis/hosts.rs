//! Faults of whole hosts (4, 11 to 19).

use anyhow::{Result, ensure};
use rand::RngExt;

use super::round::Round;
use crate::lab::faults::{Cut, Freeze};

pub(super) async fn paused(round: &mut Round<'_>) -> Result<()> {
    let primary = round.primary().await?;
    round.mark();
    let frozen = Freeze::host(&round.node(primary));
    round.fails_over(30).await?;
    round.writes_go_on(30).await?;
    round.lasts(4.0).await;
    drop(frozen);
    Ok(())
}

pub(super) async fn power(round: &mut Round<'_>) -> Result<()> {
    let primary = round.primary().await?;
    round.mark();
    let cut = Cut::off(&round.node(primary))?;
    round.host(primary).power_off()?;
    round.fails_over(30).await?;
    round.writes_go_on(30).await?;
    drop(cut);
    Ok(())
}

pub(super) async fn standby(round: &mut Round<'_>) -> Result<()> {
    let standby = round.standbys().await?[0];
    round.mark();
    let cut = Cut::off(&round.node(standby))?;
    round.lasts(1.0).await;
    round.writes_go_on(30).await?;
    round.lasts(4.0).await;
    let status = round.status().await?;
    ensure!(!status.acknowledging.is_empty() || status.mode == "ALONE", "{status:?}");
    drop(cut);
    Ok(())
}

pub(super) async fn two_at_once(round: &mut Round<'_>) -> Result<()> {
    let (primary, standbys) = (round.primary().await?, round.standbys().await?);
    round.mark();
    let cuts = (Cut::off(&round.node(primary))?, Cut::off(&round.node(standbys[0]))?);
    round.nothing_acknowledged(6.0).await?;
    let status = round.status().await?;
    ensure!(!status.waits.is_empty(), "it does not say what it waits for: {status:?}");
    let (first, second) = if round.random.random_bool(0.5) { cuts } else { (cuts.1, cuts.0) };
    drop(first);
    round.writes_go_on(60).await?;
    drop(second);
    Ok(())
}

pub(super) async fn one_by_one(round: &mut Round<'_>) -> Result<()> {
    let (primary, standbys) = (round.primary().await?, round.standbys().await?);
    round.mark();
    let standby = Cut::off(&round.node(standbys[0]))?;
    round.lasts(1.0).await;
    let primary = Cut::off(&round.node(primary))?;
    round.lasts(5.0).await;
    drop(standby);
    round.writes_go_on(60).await?;
    drop(primary);
    Ok(())
}

pub(super) async fn stale_first(round: &mut Round<'_>) -> Result<()> {
    let (primary, standby) = (round.primary().await?, round.standbys().await?[0]);
    round.mark();
    let stale = Cut::off(&round.node(standby))?;
    round.lasts(1.0).await;
    round.writes_go_on(30).await?;
    round.lasts(1.0).await;
    let dead = Cut::off(&round.node(primary))?;
    drop(stale);
    round.nothing_acknowledged(6.0).await?;
    drop(dead);
    round.writes_go_on(60).await
}

pub(super) async fn everything(round: &mut Round<'_>) -> Result<()> {
    let mut hosts = round.standbys().await?;
    hosts.push(round.primary().await?);
    round.mark();
    for host in &hosts {
        round.host(*host).power_off()?;
    }
    let shift = round.random.random_range(0..hosts.len());
    hosts.rotate_left(shift);
    for host in hosts {
        let pause = round.random.random_range(0.0..3.0);
        round.lasts(pause).await;
        round.host(host).start()?;
    }
    round.writes_go_on(60).await
}

pub(super) async fn reboot(round: &mut Round<'_>) -> Result<()> {
    let primary = round.primary().await?;
    round.mark();
    round.host(primary).power_off()?;
    let pause = round.random.random_range(0.0..1.2);
    round.lasts(pause).await;
    round.host(primary).start()?;
    round.writes_go_on(30).await
}

pub(super) async fn reboot_alone(round: &mut Round<'_>) -> Result<()> {
    let primary = round.primary().await?;
    for control_plane in &mut round.site.control_planes {
        control_plane.program().kill()?;
    }
    round.lasts(1.0).await;
    round.mark();
    round.host(primary).power_off()?;
    round.lasts(1.0).await;
    round.host(primary).start()?;
    round.writes_go_on(30).await
}
