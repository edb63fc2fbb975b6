//! Faults of links (20 to 32).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tokio::net::TcpStream;

use super::round::Round;
use crate::lab::Node;
use crate::lab::faults::{Cut, Filter, Lag, Rule};
use crate::site::PORTS;
use crate::workload::{Session, Target};

/// Rule F2's five seconds, and as much again for a machine under load.
const FENCE_LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn isolated(round: &mut Round<'_>) -> Result<()> {
    let primary = round.primary().await?;
    let node = round.node(primary);
    round.mark();
    let cut = Cut::off(&node)?;
    round.fails_over(30).await?;
    round.writes_go_on(30).await?;
    let target = Target { addresses: local(round, primary, &node).await?, ..round.site.direct(round.id).await? };
    // Clients on the host itself still reach it; it must shut itself.
    let begin = std::time::Instant::now();
    loop {
        let target = target.clone();
        let login = node.spawn("local-client", async move |_| Ok(Session::open(&target).await.is_ok()))?;
        match tokio::task::spawn_blocking(move || login.join()).await?? {
            false => break,
            true if begin.elapsed() > FENCE_LIMIT => bail!("the isolated primary still serves after {FENCE_LIMIT:?}"),
            true => round.lasts(0.2).await,
        }
    }
    drop(cut);
    Ok(())
}

/// The address of the member on a host.
async fn local(round: &Round<'_>, host: usize, node: &Node) -> Result<Vec<SocketAddr>> {
    let members = round.instance().await?.members;
    let ports = members.iter().filter(|member| round.site.host_of(member).is_ok_and(|at| at == host));
    ports.map(|member| Ok(SocketAddr::from((node.address(), u16::try_from(member.port)?)))).collect()
}

fn between(addresses: impl IntoIterator<Item = Ipv4Addr>) -> Vec<Rule> {
    addresses.into_iter().flat_map(|address| [Rule::From(address), Rule::To(address)]).collect()
}

fn control_planes(round: &Round<'_>) -> Vec<Ipv4Addr> {
    round.site.control_planes.iter().map(|machine| machine.node().address()).collect()
}

pub(super) async fn no_control(round: &mut Round<'_>) -> Result<()> {
    let primary = round.primary().await?;
    round.mark();
    let filter = Filter::at(&round.node(primary), &between(control_planes(round)))?;
    round.lasts(8.0).await;
    drop(filter);
    Ok(())
}

pub(super) async fn no_replication(round: &mut Round<'_>) -> Result<()> {
    let (primary, standby) = (round.primary().await?, round.standbys().await?[0]);
    round.mark();
    let filter = Filter::at(&round.node(primary), &between([round.node(standby).address()]))?;
    round.lasts(1.0).await;
    round.writes_go_on(30).await?;
    round.lasts(4.0).await;
    ensure!(round.status().await?.mode == "ALONE", "{:?}", round.status().await?);
    drop(filter);
    Ok(())
}

pub(super) async fn standby_no_control(round: &mut Round<'_>) -> Result<()> {
    let standby = round.standbys().await?[0];
    round.mark();
    let filter = Filter::at(&round.node(standby), &between(control_planes(round)))?;
    round.lasts(8.0).await;
    drop(filter);
    Ok(())
}

pub(super) async fn deaf(round: &mut Round<'_>) -> Result<()> {
    one_way(round, Rule::In).await
}

pub(super) async fn mute(round: &mut Round<'_>) -> Result<()> {
    one_way(round, Rule::Out).await
}

async fn one_way(round: &mut Round<'_>, rule: Rule) -> Result<()> {
    let primary = round.primary().await?;
    round.mark();
    let filter = Filter::at(&round.node(primary), &[rule])?;
    round.lasts(10.0).await;
    drop(filter);
    round.writes_go_on(30).await
}

pub(super) async fn two_sides(round: &mut Round<'_>) -> Result<()> {
    let (primary, standbys) = (round.primary().await?, round.standbys().await?);
    let mut side = vec![round.node(primary), round.site.clients[0].clone()];
    let mut rest: Vec<Ipv4Addr> = standbys.iter().map(|standby| round.node(*standby).address()).collect();
    rest.extend(control_planes(round));
    if let [one, other] = &*round.site.proxies {
        side.push(one.node().clone());
        rest.push(other.node().address());
    }
    rest.push(round.site.clients[1].address());
    rest.push(round.site.metadata_node.address());
    round.mark();
    let rules = between(rest);
    let filters: Vec<Filter> = side.iter().map(|node| Filter::at(node, &rules)).collect::<Result<_>>()?;
    round.fails_over(30).await?;
    round.writes_go_on(30).await?;
    round.lasts(6.0).await;
    drop(filters);
    Ok(())
}

pub(super) async fn half_blind(round: &mut Round<'_>) -> Result<()> {
    let (primary, standby) = (round.primary().await?, round.standbys().await?[0]);
    let (primary, standby) = (round.node(primary).address(), round.node(standby).address());
    round.mark();
    let filters = (
        Filter::at(round.site.control_planes[0].node(), &between([standby]))?,
        Filter::at(round.site.control_planes[1].node(), &between([primary]))?,
    );
    round.lasts(8.0).await;
    drop(filters);
    round.writes_go_on(30).await
}

pub(super) async fn flapping(round: &mut Round<'_>) -> Result<()> {
    let primary = round.primary().await?;
    round.mark();
    for _ in 0..10 {
        let cut = Cut::off(&round.node(primary))?;
        round.lasts(1.0).await;
        drop(cut);
        round.lasts(1.0).await;
    }
    let epochs = round.status().await?.epoch - round.epoch;
    ensure!(epochs <= 1, "{epochs} failovers while a link flapped");
    round.writes_go_on(30).await
}

/// Hosts and control planes.
fn machines(round: &Round<'_>) -> impl Iterator<Item = Node> {
    let machines = round.site.hosts.iter().chain(&round.site.control_planes);
    machines.map(|machine| machine.node().clone())
}

pub(super) async fn slow(round: &mut Round<'_>) -> Result<()> {
    round.mark();
    // Half of it at each end.
    let lags: Vec<Lag> =
        machines(round).map(|node| Lag::at(&node, Duration::from_millis(50))).collect::<Result<_>>()?;
    round.lasts(10.0).await;
    drop(lags);
    round.writes_go_on(30).await
}

pub(super) async fn lossy(round: &mut Round<'_>) -> Result<()> {
    round.mark();
    let filters: Vec<Filter> =
        machines(round).map(|node| Filter::at(&node, &[Rule::Loss(0.2)])).collect::<Result<_>>()?;
    round.lasts(10.0).await;
    drop(filters);
    round.writes_go_on(30).await
}

pub(super) async fn port(round: &mut Round<'_>) -> Result<()> {
    let primary = round.primary().await?;
    round.mark();
    let filter = Filter::at(&round.node(primary), &[Rule::Ports(PORTS.0, PORTS.0 + PORTS.1 - 1)])?;
    round.lasts(8.0).await;
    drop(filter);
    round.writes_go_on(30).await
}

pub(super) async fn resets(round: &mut Round<'_>) -> Result<()> {
    let mut hosts = round.standbys().await?;
    hosts.push(round.primary().await?);
    round.mark();
    for _ in 0..4 {
        let reset = [Rule::Reset(PORTS.0, PORTS.0 + PORTS.1 - 1)];
        let filters: Vec<Filter> =
            hosts.iter().map(|host| Filter::at(&round.node(*host), &reset)).collect::<Result<_>>()?;
        round.lasts(0.5).await;
        drop(filters);
        round.lasts(0.5).await;
    }
    round.writes_go_on(30).await?;
    ensure!(TcpStream::connect((round.node(hosts[0]).address(), PORTS.0)).await.is_ok(), "it listens");
    Ok(())
}

pub(super) async fn long_packets(round: &mut Round<'_>) -> Result<()> {
    let standby = round.standbys().await?[0];
    round.mark();
    let filter = Filter::at(&round.node(standby), &[Rule::Longer(1400)])?;
    // Something that takes long packets.
    let session = Session::open(&round.target).await?;
    let filler = "create table if not exists nemesis.filler as select repeat('x', 500) from generate_series(1, 2000)";
    let filled = session.within(session.client.batch_execute(filler)).await;
    round.lasts(8.0).await;
    drop(filter);
    round.writes_go_on(30).await?;
    filled
}
