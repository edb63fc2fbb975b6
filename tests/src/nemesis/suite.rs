//! Rounds one after the other, on one installation as long as it mends itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use windlass_proto::api::v1::Replication;

use super::round::{Round, whole};
use super::scenario::{ALL, Leader, Scenario};
use crate::api::instance_name;
use crate::checkers::gate::{Barrier, Login};
use crate::checkers::{self, gap};
use crate::lab::{Network, Task};
use crate::site::{PROJECT, Pooling, Site};
use crate::wait::wait_until;
use crate::workload::{End, Workload, watch};

/// How long everything may take to be whole again.
const WHOLE_LIMIT: Duration = Duration::from_secs(90);
/// How long an instance may take to be whole before the next round; one that was not in its own round never will.
const RUIN_LIMIT: Duration = Duration::from_secs(20);
/// How long a round may take, so that one that hangs does not stop the rest.
const ROUND_LIMIT: Duration = Duration::from_secs(300);
/// Work before the fault and after the healing.
const QUIET: Duration = Duration::from_secs(1);

/// What is to be tried.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many rounds.
    pub rounds: usize,
    /// Decides the order and the choices.
    pub seed: u64,
    /// Numbers of the faults; all if there is none.
    pub faults: Vec<String>,
    /// How clients reach the instance.
    pub way: Way,
}

/// How clients reach the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Through two proxies.
    Proxies,
    /// At the members, as libpq does with several hosts.
    Direct,
}

/// What became of a round.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The fault's number.
    pub fault: &'static str,
    /// The fault.
    pub name: &'static str,
    /// The round's own seed.
    pub seed: u64,
    /// The longest time without an acknowledgement since the fault, in milliseconds.
    pub gap_ms: f64,
    /// How many writes were acknowledged.
    pub acknowledged: usize,
    /// Epochs that began.
    pub epochs: u64,
    /// From the end of the fault until every member was whole, in milliseconds.
    pub whole_ms: f64,
    /// Whatever was not as it must be.
    pub failures: Vec<String>,
}

/// Runs rounds until the plan is done; gives each outcome to `tell` at once.
///
/// # Errors
/// The installation does not come up, or does not mend itself.
pub async fn run(network: &mut Network, plan: &Plan, mut tell: impl FnMut(&Outcome) -> Result<()>) -> Result<()> {
    let mut order = order(plan)?;
    // Instances of one size after the other, so that each is made once.
    order.sort_by_key(|(scenario, _)| scenario.replicas);
    let proxies: &[Pooling] = match plan.way {
        Way::Proxies => &[Pooling::Session, Pooling::Transaction],
        Way::Direct => &[],
    };
    let mut site = Site::plan().hosts(4).control_planes(2).proxies(proxies).clients(2).start(network).await?;
    let mut failed = false;
    for replicas in [1, 2] {
        let rounds: Vec<_> = order.iter().filter(|(scenario, _)| scenario.replicas == replicas).collect();
        if rounds.is_empty() {
            continue;
        }
        let mut made = 0;
        let mut id = create(&site, replicas, &mut made).await?;
        for (scenario, seed) in rounds {
            let outcome = round(&mut site, &id, scenario, *seed).await?;
            failed |= !outcome.failures.is_empty();
            tell(&outcome)?;
            let name = instance_name(PROJECT, &id);
            if let Err(error) = whole(&site.api, &name, RUIN_LIMIT).await {
                eprintln!("{scenario:?} (seed {seed}) left ruins in {}: {error:#}", site.directory().display());
                site.api.purge_instance(&name).await.context("removal of ruins")?;
                id = create(&site, replicas, &mut made).await?;
            }
        }
        site.api.purge_instance(&instance_name(PROJECT, &id)).await.context("purge")?;
    }
    if !failed {
        site.finish();
    }
    Ok(())
}

async fn create(site: &Site, replicas: u32, made: &mut u32) -> Result<String> {
    *made += 1;
    let id = format!("of-{}-{made}", replicas + 1);
    site.create(&id, Replication { replicas, ..Default::default() }).await.context("create")?;
    whole(&site.api, &instance_name(PROJECT, &id), WHOLE_LIMIT).await.context("create")?;
    Ok(id)
}

/// The rounds: each fault once in the plan's order, and again until there are enough, each with a seed of its own.
fn order(plan: &Plan) -> Result<Vec<(&'static Scenario, u64)>> {
    let wanted = |scenario: &&Scenario| plan.faults.is_empty() || plan.faults.iter().any(|n| n == scenario.number);
    let mut chosen: Vec<&Scenario> = ALL.iter().filter(wanted).collect();
    let unknown = plan.faults.iter().find(|fault| ALL.iter().all(|scenario| scenario.number != **fault));
    ensure!(unknown.is_none(), "there is no fault {unknown:?}; there are {ALL:?}");
    let mut random = StdRng::seed_from_u64(plan.seed);
    for last in (1..chosen.len()).rev() {
        chosen.swap(last, random.random_range(0..=last));
    }
    Ok(chosen.into_iter().cycle().take(plan.rounds).map(|scenario| (scenario, random.random())).collect())
}

async fn round(site: &mut Site, id: &str, scenario: &Scenario, seed: u64) -> Result<Outcome> {
    let logs = site.directory().join("acks");
    let mut places = Vec::new();
    for (number, client) in site.clients.clone().into_iter().enumerate() {
        let target = match site.proxies.len() {
            0 => site.direct(id).await?,
            proxies => site.through_proxy(id, number % proxies).await?,
        };
        places.push((client, target));
    }
    let target = places[0].1.clone();
    wait_until("tables of the workload", WHOLE_LIMIT, async || Workload::prepare(&target).await).await?;
    let workload = Workload::start(&places, scenario.mix, &logs)?;
    let watchers = Watchers::start(site, id).await?;
    tokio::time::sleep(QUIET).await;
    let api = site.api.clone();
    let mut round = Round {
        site,
        id,
        random: StdRng::seed_from_u64(seed),
        workload: &workload,
        target,
        api,
        fault_at: None,
        epoch: 0,
    };
    let mut failures = Vec::new();
    round.epoch = round.status().await?.epoch;
    round.mark();
    match tokio::time::timeout(ROUND_LIMIT, (scenario.act)(&mut round)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => failures.push(format!("{error:#}")),
        Err(_) => failures.push(format!("it did not end within {ROUND_LIMIT:?}")),
    }
    let healed = workload.now();
    round.site.mend().await?;
    round.api = round.site.api.clone();
    for result in [round.writes_go_on(60).await, round.whole(WHOLE_LIMIT).await] {
        failures.extend(result.err().map(|error| format!("{error:#}")));
    }
    let whole = workload.now();
    let epochs = round.status().await?.epoch.saturating_sub(round.epoch);
    let fault_at = round.fault_at.unwrap_or_default();
    let target = round.target.clone();
    tokio::time::sleep(QUIET).await;
    let until = workload.now();
    let history = workload.finish().await?;
    failures.extend(watchers.finish(site, id).await.unwrap_or_else(|error| vec![format!("gate: {error:#}")]));
    failures.extend(checkers::routes::check(&site.routes_taken()).into_iter().map(|breach| format!("route: {breach}")));
    let gap = gap::longest(&history.writes, fault_at, until);
    match End::read(&target).await {
        Ok(end) => failures.extend(history.breaches(&end)),
        Err(error) => failures.push(format!("the end cannot be read: {error:#}")),
    }
    match (scenario.expected.leader, epochs) {
        (Leader::Stays, 1..) => failures.push(format!("{epochs} epochs began and none was to")),
        (Leader::Moves, 0) => failures.push("no epoch began and one was to".to_owned()),
        (Leader::Stays | Leader::Moves | Leader::Either, _) => {}
    }
    if gap > scenario.expected.gap {
        failures.push(format!("{gap:?} without an acknowledgement; {:?} are right", scenario.expected.gap));
    }
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    Ok(Outcome {
        fault: scenario.number,
        name: scenario.name,
        seed,
        gap_ms: milliseconds(gap),
        acknowledged: history.acknowledged(),
        epochs,
        whole_ms: milliseconds(whole.saturating_sub(healed)),
        failures,
    })
}

/// Watchers at the gates of every member.
struct Watchers {
    stop: Arc<AtomicBool>,
    tasks: Vec<Task<Vec<Login>>>,
}

impl Watchers {
    async fn start(site: &Site, id: &str) -> Result<Self> {
        let (stop, target) = (Arc::new(AtomicBool::new(false)), site.direct(id).await?);
        let tasks = target.addresses.iter().map(|member| watch(&site.clients[0], *member, &target, &stop));
        Ok(Self { tasks: tasks.collect::<Result<_>>()?, stop })
    }

    /// Every breach that they saw.
    async fn finish(self, site: &Site, id: &str) -> Result<Vec<String>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut logins = Vec::new();
        for task in self.tasks {
            logins.extend(tokio::task::spawn_blocking(move || task.join()).await??);
        }
        let instance = site.api.instance(&instance_name(PROJECT, id)).await?;
        let primary = instance.replication_status.context("it is replicated")?.primary;
        let member = instance.members.iter().find(|member| member.uid == primary).context("nobody leads")?;
        let rows = site
            .ask_member(site.host_of(member)?, "select epoch || ' ' || extract(epoch from at) from windlass.barrier")?;
        let barriers = rows.lines().filter_map(|line| {
            let (epoch, at) = line.split_once(' ')?;
            Some(Barrier { epoch: epoch.parse().ok()?, at: at.parse().ok()? })
        });
        let breaches = checkers::gate::check(&logins, &barriers.collect::<Vec<_>>());
        Ok(breaches.into_iter().map(|breach| format!("gate: {breach}")).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_order_and_a_fault_can_be_chosen() {
        let plan = Plan { rounds: ALL.len() * 2, seed: 7, faults: Vec::new(), way: Way::Proxies };
        let names = |plan: &Plan| -> Vec<_> {
            order(plan).expect("known").iter().map(|(scenario, seed)| (scenario.number, *seed)).collect()
        };
        assert_eq!(names(&plan), names(&plan));
        assert_ne!(names(&plan), names(&Plan { seed: 8, ..plan.clone() }));
        let one = Plan { rounds: 3, seed: 1, faults: vec!["11".to_owned()], way: Way::Direct };
        assert!(names(&one).iter().all(|(number, _)| *number == "11"));
        assert!(order(&Plan { faults: vec!["none".to_owned()], ..one }).is_err());
    }
}
