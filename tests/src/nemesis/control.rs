//! Faults of the control plane and its metadata (42, 44, 45, 48, 49).

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use rand::RngExt;
use windlass_proto::api::v1::SwitchoverInstanceRequest;

use super::round::Round;
use crate::api::request_id;
use crate::lab::faults::{Cut, Freeze};

pub(super) async fn dies_at_step(round: &mut Round<'_>) -> Result<()> {
    let point = ["saga.before_commit", "saga.after_commit"][round.random.random_range(0..2)];
    let armed = format!("{point}=abort(skip={},once)", round.random.random_range(0..4));
    // One node alone, so that it is the one that dies.
    for number in [1, 0] {
        round.site.control_planes[number].program().kill()?;
    }
    round.site.control_planes[0].start_with(&[("WINDLASS_FAILPOINTS", &armed)])?;
    let name = round.name();
    let operation = crate::wait_until("a switchover that is accepted", Duration::from_secs(30), async || {
        let request = SwitchoverInstanceRequest { name: name.clone(), request_id: request_id(), ..Default::default() };
        Ok(round.api.instances().switchover_instance(request).await?.into_inner())
    })
    .await?;
    round.mark();
    // Few steps may be left behind the chosen one; then it does not die.
    let _ = round.site.control_planes[0].program().ended(Duration::from_secs(10)).await;
    round.site.mend().await?;
    round.api.ended(&operation).await.with_context(|| armed.clone())?;
    round.writes_go_on(30).await
}

pub(super) async fn down(round: &mut Round<'_>) -> Result<()> {
    round.mark();
    for control_plane in &mut round.site.control_planes {
        control_plane.program().kill()?;
    }
    round.lasts(12.0).await;
    round.writes_go_on(5).await
}

pub(super) async fn metadata(round: &mut Round<'_>) -> Result<()> {
    round.mark();
    let frozen = Freeze::host(&round.site.metadata_node);
    round.lasts(6.0).await;
    drop(frozen);
    round.lasts(2.0).await;
    round.site.metadata_node.signal(Signal::SIGKILL);
    round.lasts(6.0).await;
    round.writes_go_on(5).await
}

pub(super) async fn with_primary(round: &mut Round<'_>) -> Result<()> {
    let primary = round.primary().await?;
    let dead = round.random.random_range(0..2);
    round.api = round.site.api_of(1 - dead)?;
    let cut = Cut::off(&round.node(primary))?;
    round.mark();
    round.site.control_planes[dead].program().kill()?;
    round.fails_over(30).await?;
    round.writes_go_on(30).await?;
    drop(cut);
    Ok(())
}

pub(super) async fn cut_off(round: &mut Round<'_>) -> Result<()> {
    round.mark();
    let nodes: Vec<_> = round.site.control_planes.iter().map(|machine| machine.node().clone()).collect();
    let cuts: Vec<Cut> = nodes.iter().map(Cut::off).collect::<Result<_>>()?;
    round.lasts(8.0).await;
    drop(cuts);
    round.lasts(4.0).await;
    round.writes_go_on(5).await
}
