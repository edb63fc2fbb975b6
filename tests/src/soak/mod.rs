//! The soak: a mixed workload while control plane, agents and databases are killed at random.
//!
//! What must hold at the end, whatever was killed when: every operation is in one terminal state; what succeeded is
//! true of the databases, and happened once; the metadata agrees with itself; after everything is deleted nothing is
//! left on any host. The seed decides what is killed and asked for, not how the machine schedules it.

mod killer;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use windlass_proto::api::v1::{Instance, ListInstancesRequest, ListOperationsRequest, Operation, instance, operation};

use crate::api::OPERATION_LIMIT;
use crate::{Api, Stack, leaks, wait_until};

const PROJECT: &str = "soak";
const WORKERS: u64 = 4;

/// How long and how hard.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many kills.
    pub kills: usize,
    /// What decides the choices.
    pub seed: u64,
    /// How many hosts.
    pub hosts: usize,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Report {
    /// Kills by victim.
    pub kills: BTreeMap<&'static str, usize>,
    /// Operations by kind and end.
    pub operations: BTreeMap<String, usize>,
}

/// Runs it on a stack of its own.
///
/// # Errors
/// Something does not hold; the message says what. The stack's logs are kept.
pub async fn run(plan: Plan) -> Result<Report> {
    // Workers borrow across awaits in ways that `Send` cannot prove; they stay on this thread.
    tokio::task::LocalSet::new().run_until(soak(plan)).await
}

async fn soak(plan: Plan) -> Result<Report> {
    eprintln!("soak: {plan:?}");
    let mut stack = Stack::plan().hosts(plan.hosts).control_plane(PATIENCE).start().await?;
    stack.api.create_project(PROJECT).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| {
            let random = StdRng::seed_from_u64(plan.seed.wrapping_mul(WORKERS).wrapping_add(number));
            tokio::task::spawn_local(worker::Worker::new(number, stack.api.clone(), random).work(Arc::clone(&stop)))
        })
        .collect();
    let mut report = Report::default();
    killer::kill_at_random(&mut stack, plan, &mut report).await?;
    stop.store(true, Ordering::Relaxed);
    let mut expected = BTreeMap::new();
    for worker in workers {
        expected.extend(worker.await??);
    }
    stack.answers().await?;
    stack.hosts_online().await?;
    for operation in all_ended(&stack.api).await? {
        let end = format!("{} {}", operation.kind, operation.state().as_str_name());
        if let Some(error) = &operation.error {
            eprintln!("soak: {} {}: {} {}", operation.target, end, error.reason, error.message);
        }
        *report.operations.entry(end).or_default() += 1;
    }
    leaks::consistent(&stack).await?;
    settled(&stack, &expected).await?;
    directories(&stack).await?;
    leaks::consistent(&stack).await?;
    for instance in instances(&stack.api).await? {
        stack.api.purge_instance(&instance.name).await?;
    }
    leaks::nothing_left(&stack).await?;
    leaks::consistent(&stack).await?;
    calm(&stack)?;
    stack.finish().await?;
    Ok(report)
}

/// Hosts go silent for a moment all the time here; that must not count as offline at once.
const PATIENCE: &str = "[cadence]\nheartbeat_every = \"1s\"\npoll_hold = \"5s\"\nreconnect_spread = \"0s\"\n\
                        offline_after = \"10s\"\n";

async fn all_ended(api: &Api) -> Result<Vec<Operation>> {
    let mut operations = Vec::new();
    let mut page_token = String::new();
    loop {
        let parent = format!("projects/{PROJECT}");
        let request =
            ListOperationsRequest { parent, page_size: 500, page_token: page_token.clone(), ..Default::default() };
        let page = api.operations().list_operations(request).await?.into_inner();
        for listed in page.operations {
            let ended = api.ended(&listed).await?;
            let terminal = [operation::State::Succeeded, operation::State::Failed, operation::State::Cancelled];
            ensure!(terminal.contains(&ended.state()), "{ended:?}");
            operations.push(ended);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(operations);
        }
    }
}

async fn instances(api: &Api) -> Result<Vec<Instance>> {
    let parent = format!("projects/{PROJECT}");
    let request = ListInstancesRequest { parent, page_size: 500, ..Default::default() };
    Ok(api.instances().list_instances(request).await?.into_inner().instances)
}

/// Each create had one effect: a host has one directory for each of its members and no other.
async fn directories(stack: &Stack) -> Result<()> {
    for known in stack.api.all_hosts().await? {
        let host = stack.hosts.iter().find(|host| known.name == format!("hosts/{}", host.name));
        let host = host.with_context(|| format!("{} is not of this stack", known.name))?;
        let found = leaks::entries(&host.directory.join("state/members"));
        ensure!(found.len() == known.members as usize, "{} has {} members and {found:?}", known.name, known.members);
    }
    Ok(())
}

/// Nobody panicked: deaths were ours.
fn calm(stack: &Stack) -> Result<()> {
    for program in stack.hosts.iter().map(|host| &host.agent).chain([&stack.control_plane]) {
        let log = program.log();
        let panic = log.lines().find(|line| line.contains("panicked"));
        ensure!(panic.is_none(), "{panic:?}");
    }
    Ok(())
}

/// Every instance is what the last successful operation on it made it, and each effect happened once.
async fn settled(stack: &Stack, expected: &BTreeMap<String, worker::Expected>) -> Result<()> {
    for (name, expected) in expected {
        wait_until(&format!("{name} as it should be"), OPERATION_LIMIT, async || {
            let found = instances(&stack.api).await?.into_iter().find(|instance| instance.name == *name);
            match (&expected.state, found) {
                (None, None) => Ok(()),
                (Some(_), None) => bail!("it is lost"),
                (None, Some(found)) => bail!("it should be gone: {found:?}"),
                (Some(worker::Wanted::Unknown), Some(_)) => Ok(()),
                (Some(worker::Wanted::Running), Some(found)) => {
                    ensure!(found.state() == instance::State::Running, "{found:?}");
                    ensure!(found.health() == instance::Health::Healthy, "{found:?}");
                    Ok(())
                }
                (Some(worker::Wanted::Stopped), Some(found)) => {
                    ensure!(found.state() == instance::State::Stopped, "{found:?}");
                    Ok(())
                }
            }
        })
        .await?;
        if let Some(worker::Wanted::Running) = expected.state {
            let id = name.rsplit('/').next().context("a name has a last part")?;
            let rows = wait_until(&format!("answer of {id}"), Duration::from_secs(30), async || {
                stack.query(PROJECT, id, expected.client, "select 40 + 2").await
            })
            .await?;
            ensure!(rows == "42", "{id} answered {rows:?}");
        }
    }
    Ok(())
}
