//! Idle: memory (PSS) and processor time of a control plane with its embedded metadata and of an agent, without any
//! instance. Prints one line of JSON for each series.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use windlass_tests::database::processes_below;
use windlass_tests::measure::Samples;
use windlass_tests::stack::Metadata;
use windlass_tests::{Stack, wait_until};

/// After the start: catalogues are read and the warm pool is filled.
const SETTLE: Duration = Duration::from_secs(30);
const WATCH: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<()> {
    let stack = Stack::plan().as_shipped().metadata(Metadata::Embedded).start().await?;
    let begin = Instant::now();
    wait_until("a quiet host", SETTLE * 4, async || {
        let busy = processes_below(&stack.hosts[0].directory).len();
        anyhow::ensure!(busy == 1 && begin.elapsed() > SETTLE, "{busy} processes");
        Ok(())
    })
    .await?;
    let agent = stack.hosts[0].agent.pid().context("the agent runs")?;
    let plane = stack.control_plane.pid().context("the control plane runs")?;
    let metadata = family(&stack, plane);
    let watched = [("agent", vec![agent]), ("control plane", vec![plane]), ("embedded metadata", metadata)];
    let ticks: Vec<u64> = watched.iter().map(|(_, pids)| processor(pids)).collect();
    let begin = Instant::now();
    tokio::time::sleep(WATCH).await;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("clock ticks")?;
    for ((name, pids), before) in watched.iter().zip(ticks) {
        let mut memory = Samples::new(&format!("{name}: memory at idle (PSS)"), "MB");
        memory.add(pids.iter().map(|pid| pss(*pid)).sum::<f64>());
        memory.print()?;
        let used = (processor(pids) - before) as f64 / per_second as f64;
        let mut cpu = Samples::new(&format!("{name}: processor at idle"), "% of a core");
        cpu.add(used / begin.elapsed().as_secs_f64() * 100.0);
        cpu.print()?;
    }
    stack.finish().await
}

/// The metadata's postmaster, found by its directory, and its children.
fn family(stack: &Stack, plane: i32) -> Vec<i32> {
    let mut family: Vec<i32> = processes_below(&stack.directory().join("control-plane"))
        .into_iter()
        .map(|server| server.pid)
        .filter(|pid| *pid != plane)
        .collect();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<i32>().ok());
        if parent.is_some_and(|parent| family.contains(&parent)) && !family.contains(&pid) {
            family.push(pid);
        }
    }
    family
}

/// Proportional set size in megabytes.
fn pss(pid: i32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes: f64 = line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0.0);
    kilobytes * 1024.0 / 1e6
}

/// Processor time so far, in clock ticks.
fn processor(pids: &[i32]) -> u64 {
    let of = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        number(11) + number(12)
    };
    pids.iter().map(of).sum()
}
