//! Idle: memory (PSS) and processor time of a control plane, its embedded metadata and an agent; then of the agent with
//! a database of each engine. Prints one line of JSON for each series.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use windlass_core::engine::Engine;
use windlass_tests::database::processes_below;
use windlass_tests::measure::Samples;
use windlass_tests::processes::{self, Scope};
use windlass_tests::stack::Metadata;
use windlass_tests::{Stack, wait_until};

/// After the last work: what was taken for it is given back.
const SETTLE: Duration = Duration::from_secs(15);
const WATCH: Duration = Duration::from_secs(30);
const LOOKS: u32 = 6;
/// Of an agent, in megabytes.
const AIM_MEMORY: f64 = 12.0;
/// Of an agent, in percent of a core.
const AIM_PROCESSOR: f64 = 0.1;

#[tokio::main]
async fn main() -> Result<()> {
    let stack = Stack::plan().as_shipped().metadata(Metadata::Embedded).start().await?;
    let agent = stack.hosts[0].agent.pid().context("the agent runs")?;
    let agent = Scope::Alone(agent);
    let plane = stack.control_plane.pid().context("the control plane runs")?;
    let metadata = Scope::Family(metadata(&stack, plane)?);
    let plane = Scope::Alone(plane);
    quiet(&stack, 1).await?;
    watch(&[
        Watched { name: "agent without databases", scope: agent, aims: Some((AIM_MEMORY, AIM_PROCESSOR)) },
        Watched { name: "control plane", scope: plane, aims: None },
        Watched { name: "embedded metadata", scope: metadata, aims: None },
    ])
    .await?;
    stack.api.create_project("bench").await?;
    for engine in Engine::ALL {
        stack.api.make_instance("bench", engine.as_str(), engine.as_str()).await?;
    }
    quiet(&stack, 1 + Engine::ALL.len()).await?;
    watch(&[
        Watched { name: "agent with a database of each engine", scope: agent, aims: Some((AIM_MEMORY, AIM_PROCESSOR)) },
        Watched { name: "control plane with two instances", scope: plane, aims: None },
        Watched { name: "embedded metadata with two instances", scope: metadata, aims: None },
    ])
    .await?;
    for engine in Engine::ALL {
        stack.api.purge_instance(&windlass_tests::api::instance_name("bench", engine.as_str())).await?;
    }
    stack.finish().await
}

struct Watched {
    name: &'static str,
    scope: Scope,
    /// For memory and processor.
    aims: Option<(f64, f64)>,
}

async fn watch(watched: &[Watched]) -> Result<()> {
    let mut memory: Vec<Samples> =
        watched.iter().map(|w| Samples::new(&format!("{}: memory (PSS)", w.name), "MB")).collect();
    let before: Vec<Duration> = watched.iter().map(|w| processes::processor_time(w.scope)).collect::<Result<_>>()?;
    for _ in 0..LOOKS {
        tokio::time::sleep(WATCH / LOOKS).await;
        for (watched, samples) in watched.iter().zip(&mut memory) {
            samples.add(processes::memory(watched.scope)? as f64 / 1e6);
        }
    }
    for ((watched, samples), before) in watched.iter().zip(memory).zip(before) {
        let used = processes::processor_time(watched.scope)?.saturating_sub(before);
        let mut processor = Samples::new(&format!("{}: processor", watched.name), "% of a core");
        processor.add(used.as_secs_f64() / WATCH.as_secs_f64() * 100.0);
        let (samples, processor) = match watched.aims {
            Some((most_memory, most_processor)) => (samples.aim(most_memory), processor.aim(most_processor)),
            None => (samples, processor),
        };
        samples.print()?;
        processor.print()?;
    }
    Ok(())
}

/// Waits until the warm pool is filled and exactly so many processes run on the host, the agent among them.
async fn quiet(stack: &Stack, processes: usize) -> Result<()> {
    let host = &stack.hosts[0].directory;
    wait_until("a quiet host", Duration::from_secs(90), async || {
        let pool = std::fs::read_dir(host.join("state/warm"))?.flatten();
        let ready = pool.filter(|entry| entry.path().join("data").exists()).count();
        ensure!(ready >= Engine::ALL.len(), "{ready} warm directories");
        let busy = processes_below(host);
        ensure!(busy.len() == processes, "{busy:?}");
        Ok(())
    })
    .await?;
    tokio::time::sleep(SETTLE).await;
    Ok(())
}

/// The metadata's postmaster.
fn metadata(stack: &Stack, plane: i32) -> Result<i32> {
    let below = processes_below(&stack.directory().join("control-plane"));
    let found = below.into_iter().find(|server| server.pid != plane);
    Ok(found.context("the embedded metadata runs")?.pid)
}
