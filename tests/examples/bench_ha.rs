//! High availability: how long writers go without an acknowledgement when something dies or moves, beside
//! pg_auto_failover with its defaults on hosts of the same lab, by the same writers. Prints one line of JSON for each
//! series. Any acknowledged write that we lose ends the measurement; the peer's are counted.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use windlass_core::engine::Engine;
use windlass_proto::api::v1::{Replication, SwitchoverInstanceRequest};
use windlass_tests::api::{instance_name, request_id};
use windlass_tests::checkers::gap;
use windlass_tests::lab::auto_failover::AutoFailover;
use windlass_tests::lab::faults::{Cut, Freeze};
use windlass_tests::lab::{self, Network, Node};
use windlass_tests::measure::Samples;
use windlass_tests::nemesis::whole;
use windlass_tests::processes::Scope;
use windlass_tests::site::{PROJECT, Pooling, Site};
use windlass_tests::workload::{End, Mix, Target, Workload};

/// Rounds of each kind, of ours and of the peer, whose rounds take a minute; unless arguments say otherwise.
const OURS: usize = 21;
const THEIRS: usize = 3;
const INSTANCE: &str = "bench";
const WHOLE_LIMIT: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(180);
/// Of undisturbed work before and after.
const QUIET: Duration = Duration::from_secs(1);

/// What is measured: two members, one of which leads.
trait Subject {
    fn name(&self) -> &'static str;
    fn target(&self) -> Target;
    /// Who leads and who follows.
    async fn roles(&self) -> Result<(Node, Node)>;
    fn postmaster(&self, node: &Node) -> Result<i32>;
    fn power_off(&mut self, node: &Node) -> Result<()>;
    fn power_on(&mut self, node: &Node) -> Result<()>;
    async fn switchover(&self) -> Result<()>;
    async fn whole(&self) -> Result<()>;
}

/// How a host or a process is lost.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// The primary's host: power and cable at once, every process stands still, the cable alone.
    PrimaryPower,
    PrimaryFrozen,
    PrimaryCut,
    /// The primary's postmaster.
    Postmaster,
    /// The standby's processes, all of them at once.
    StandbyProcess,
    /// The standby's host.
    StandbyCut,
}

fn main() -> Result<()> {
    let mut rounds = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let (ours_rounds, their_rounds) = (rounds.next().unwrap_or(Ok(OURS))?, rounds.next().unwrap_or(Ok(THEIRS))?);
    lab::run(async |network| {
        let client = network.add("bench-client")?;
        let begin = Instant::now();
        let mut peer = AutoFailover::start(network).await?;
        let started = begin.elapsed();
        let begin = Instant::now();
        peer.provision().await?;
        let provisioned = begin.elapsed();
        eprintln!("pg_auto_failover: monitor after {started:?}, both nodes after {provisioned:?}");
        let mut theirs = Samples::new("pg_auto_failover: two nodes made", "ms");
        theirs.add_time(provisioned);
        theirs.print()?;
        let mut lost = Samples::new(&format!("{PEER}: {LOST}"), "writes");
        switchovers(&peer, &client, their_rounds, &mut lost).await?;
        losses(&mut peer, &client, their_rounds, &mut lost).await?;
        lost.print()?;
        // Data is removed at the end only: ext4 does not use inodes again for minutes after files were deleted, and goes
        // through all of them for each file that is made.
        peer.stop();
        let mut ours = Ours::start(network).await?;
        let mut made = Samples::new("Windlass: two members made, to the end of the operation", "ms");
        made = made.against(&format!("{PEER}: two nodes made")).aim(1500.0);
        ours.make(INSTANCE, &mut made).await?;
        ours.target = Some(ours.site.through_proxy(INSTANCE, 0).await?);
        // Before the disk has to write what others are made of.
        let mut lost = Samples::new(&format!("Windlass: {LOST}"), "writes").aim(0.0);
        switchovers(&ours, &client, ours_rounds, &mut lost).await?;
        for round in 1..ours_rounds {
            let name = ours.make(&format!("made-{round}"), &mut made).await?;
            ours.site.api.delete_instance(&name).await?;
        }
        made.print()?;
        losses(&mut ours, &client, ours_rounds, &mut lost).await?;
        lost.print()?;
        ours.site.finish();
        Ok(())
    })
}

/// A series of one subject. Aims are ours; the peer is what they are compared to.
fn series(name: &str, what: &str, aim: Option<f64>) -> Samples {
    let samples = Samples::new(&format!("{name}: {what}"), "ms");
    let samples = if name == PEER { samples } else { samples.against(&format!("{PEER}: {what}")) };
    aim.filter(|_| name != PEER).map_or(samples.clone(), |aim| samples.aim(aim))
}

/// Switchovers of an instance that is well.
async fn switchovers(subject: &impl Subject, client: &Node, rounds: usize, lost: &mut Samples) -> Result<()> {
    let name = subject.name();
    let mut gaps = series(name, "switchover at 200 transactions a second", Some(250.0));
    let mut errors = Samples::new(&format!("{name}: transactions that failed in a switchover"), "errors");
    if name != PEER {
        errors = errors.aim(0.0);
    }
    for _ in 0..rounds {
        let (gap, failed) = switch(subject, client, lost).await.with_context(|| format!("{name} switchover"))?;
        gaps.add_time(gap);
        errors.add(failed as f64);
    }
    gaps.print()?;
    errors.print()
}

/// Every loss of one subject.
async fn losses(subject: &mut impl Subject, client: &Node, rounds: usize, lost: &mut Samples) -> Result<()> {
    let name = subject.name();
    let host = "primary's host lost (power, frozen, cut in turn)";
    let mut death = series(name, host, Some(2000.0));
    if name != PEER {
        death = death.aim_p99(3000.0);
    }
    let mut rejoin = series(name, "lost host back until both members are whole", None);
    for round in 0..rounds {
        let loss = [Loss::PrimaryPower, Loss::PrimaryFrozen, Loss::PrimaryCut][round % 3];
        let (gap, back) = lose(subject, client, loss, lost).await.with_context(|| format!("{name} {loss:?}"))?;
        death.add_time(gap);
        rejoin.add_time(back);
    }
    death.print()?;
    rejoin.print()?;
    for (what, loss, aim) in [
        ("primary's postmaster killed", Loss::Postmaster, 300.0),
        ("standby's processes killed", Loss::StandbyProcess, 1000.0),
        ("standby's host cut off", Loss::StandbyCut, 3000.0),
    ] {
        let mut gaps = series(name, what, Some(aim));
        for _ in 0..rounds {
            gaps.add_time(lose(subject, client, loss, lost).await.with_context(|| format!("{name} {what}"))?.0);
        }
        gaps.print()?;
    }
    Ok(())
}

fn start(subject: &impl Subject, client: &Node, every: Duration) -> Result<Workload> {
    let mix = Mix { writers: 4, appenders: 0, bankers: 0, every, ..Mix::default() };
    let logs = std::env::temp_dir().join(format!("windlass-bench-{}", std::process::id()));
    Workload::start(&[(client.clone(), subject.target())], mix, &logs)
}

/// The longest time without an acknowledgement after a loss, and how long it took to be whole again afterwards.
async fn lose(
    subject: &mut impl Subject,
    client: &Node,
    loss: Loss,
    lost: &mut Samples,
) -> Result<(Duration, Duration)> {
    subject.whole().await?;
    Workload::prepare(&subject.target()).await?;
    let workload = start(subject, client, Duration::from_millis(10))?;
    tokio::time::sleep(QUIET).await;
    let (primary, standby) = subject.roles().await?;
    let server = |node: &Node| Ok::<_, anyhow::Error>(Scope::Family(subject.postmaster(node)?).pids());
    let from = workload.now();
    let fault: Box<dyn std::any::Any> = match loss {
        Loss::PrimaryPower => {
            let cut = Cut::off(&primary)?;
            subject.power_off(&primary)?;
            Box::new(cut)
        }
        Loss::PrimaryFrozen => Box::new(Freeze::host(&primary)),
        Loss::PrimaryCut => Box::new(Cut::off(&primary)?),
        Loss::Postmaster => {
            kill(Pid::from_raw(subject.postmaster(&primary)?), Signal::SIGKILL)?;
            Box::new(())
        }
        Loss::StandbyProcess => {
            for pid in server(&standby)? {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            Box::new(())
        }
        Loss::StandbyCut => Box::new(Cut::off(&standby)?),
    };
    // At least as long as the fault may need to show.
    let shows = match loss {
        Loss::Postmaster | Loss::StandbyProcess => Duration::from_millis(500),
        Loss::PrimaryPower | Loss::PrimaryFrozen | Loss::PrimaryCut | Loss::StandbyCut => Duration::from_secs(1),
    };
    tokio::time::sleep(shows).await;
    let seen = workload.now();
    windlass_tests::wait_until("an acknowledged write", LIMIT, async || {
        ensure!(workload.last_ack() > seen, "none");
        Ok(())
    })
    .await?;
    tokio::time::sleep(QUIET).await;
    let until = workload.now();
    let begin = Instant::now();
    drop(fault);
    subject.power_on(&primary)?;
    subject.whole().await?;
    let back = begin.elapsed();
    let history = workload.finish().await?;
    lost.add(check(subject, &history.breaches(&End::read(&subject.target()).await?))? as f64);
    let gap = gap::longest(&history.writes, from, until);
    eprintln!("{} {loss:?}: {gap:?}, whole after {back:?}", subject.name());
    Ok((gap, back))
}

/// The longest time without an acknowledgement in a switchover, and how many transactions failed.
async fn switch(subject: &impl Subject, client: &Node, lost: &mut Samples) -> Result<(Duration, usize)> {
    subject.whole().await?;
    Workload::prepare(&subject.target()).await?;
    let workload = start(subject, client, Duration::from_millis(20))?;
    tokio::time::sleep(QUIET).await;
    let from = workload.now();
    subject.switchover().await?;
    tokio::time::sleep(QUIET).await;
    let until = workload.now();
    subject.whole().await?;
    let history = workload.finish().await?;
    lost.add(check(subject, &history.breaches(&End::read(&subject.target()).await?))? as f64);
    let failed = history.writes.iter().filter(|write| write.ack.is_none() && write.begun >= from).count();
    let gap = gap::longest(&history.writes, from, until);
    eprintln!("{} switchover: {gap:?}, {failed} failed", subject.name());
    Ok((gap, failed))
}

/// How many acknowledged writes were lost in a round.
fn check(subject: &impl Subject, breaches: &[String]) -> Result<usize> {
    ensure!(subject.name() == PEER || breaches.is_empty(), "{breaches:#?}");
    if let Some(first) = breaches.first() {
        eprintln!("{} lost {} acknowledged writes: {first}", subject.name(), breaches.len());
    }
    Ok(breaches.len())
}

const PEER: &str = "pg_auto_failover";
const LOST: &str = "acknowledged writes lost in a round";

impl Subject for AutoFailover {
    fn name(&self) -> &'static str {
        PEER
    }

    fn target(&self) -> Target {
        AutoFailover::target(self)
    }

    async fn roles(&self) -> Result<(Node, Node)> {
        AutoFailover::roles(self)
    }

    fn postmaster(&self, node: &Node) -> Result<i32> {
        AutoFailover::postmaster(self, node)
    }

    fn power_off(&mut self, node: &Node) -> Result<()> {
        AutoFailover::power_off(self, node);
        Ok(())
    }

    fn power_on(&mut self, node: &Node) -> Result<()> {
        if self.runs(node) { Ok(()) } else { AutoFailover::power_on(self, node) }
    }

    async fn switchover(&self) -> Result<()> {
        AutoFailover::switchover(self).await
    }

    async fn whole(&self) -> Result<()> {
        AutoFailover::whole(self).await
    }
}

/// Ours: an instance of two members on three hosts, reached through a proxy.
struct Ours {
    site: Site,
    target: Option<Target>,
}

impl Ours {
    async fn start(network: &mut Network) -> Result<Self> {
        let site = Site::plan().as_shipped().hosts(3).proxies(&[Pooling::Session]).clients(0).start(network).await?;
        Ok(Self { site, target: None })
    }

    /// Makes an instance of two members; its name.
    async fn make(&self, id: &str, made: &mut Samples) -> Result<String> {
        self.pools_are_full().await?;
        let begin = Instant::now();
        let instance = self.site.create(id, Replication { replicas: 1, ..Default::default() }).await?;
        made.add_time(begin.elapsed());
        eprintln!("made after {:?}", begin.elapsed());
        whole(&self.site.api, &instance.name, WHOLE_LIMIT).await?;
        Ok(instance.name)
    }

    /// Three hosts that fill their pools on one machine would be measured instead.
    async fn pools_are_full(&self) -> Result<()> {
        windlass_tests::wait_until("full warm pools", WHOLE_LIMIT, async || {
            for host in &self.site.hosts {
                let pool = std::fs::read_dir(host.directory().join("state/warm"))?.flatten();
                let ready = pool.filter(|entry| entry.path().join("data").exists()).count();
                ensure!(ready >= Engine::ALL.len(), "{ready} warm directories on {}", host.name());
            }
            Ok(())
        })
        .await
    }

    fn host(&self, node: &Node) -> Result<usize> {
        let named = |host: &windlass_tests::site::Machine| host.name() == node.name();
        self.site.hosts.iter().position(named).context("a host of the site")
    }
}

impl Subject for Ours {
    fn name(&self) -> &'static str {
        "Windlass"
    }

    fn target(&self) -> Target {
        self.target.clone().expect("it is set when the instance is made")
    }

    async fn roles(&self) -> Result<(Node, Node)> {
        let instance = self.site.api.instance(&instance_name(PROJECT, INSTANCE)).await?;
        let primary = instance.replication_status.context("it is replicated")?.primary;
        let node = |leads: bool| {
            let member = instance.members.iter().find(|member| (member.uid == primary) == leads);
            let host = self.site.host_of(member.context("two members")?)?;
            Ok::<_, anyhow::Error>(self.site.hosts[host].node().clone())
        };
        Ok((node(true)?, node(false)?))
    }

    fn postmaster(&self, node: &Node) -> Result<i32> {
        self.site.postmaster(self.host(node)?)
    }

    fn power_off(&mut self, node: &Node) -> Result<()> {
        let host = self.host(node)?;
        self.site.hosts[host].power_off()
    }

    fn power_on(&mut self, node: &Node) -> Result<()> {
        let host = self.host(node)?;
        self.site.hosts[host].start()
    }

    async fn switchover(&self) -> Result<()> {
        let name = instance_name(PROJECT, INSTANCE);
        let request = SwitchoverInstanceRequest { name, request_id: request_id(), ..Default::default() };
        let operation = self.site.api.instances().switchover_instance(request).await?.into_inner();
        self.site.api.succeeded(&operation).await
    }

    async fn whole(&self) -> Result<()> {
        whole(&self.site.api, &instance_name(PROJECT, INSTANCE), WHOLE_LIMIT).await
    }
}
