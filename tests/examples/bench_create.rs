//! Create: from the request to a database that accepts connections, with a filled warm pool, beside what the engine's
//! own tools need for the same. Prints one line of JSON for each series.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use windlass_core::engine::Engine;
use windlass_tests::bare::{self, Ground};
use windlass_tests::measure::Samples;
use windlass_tests::stack::Metadata;
use windlass_tests::{Stack, wait_until};

const RUNS: usize = 21;
const PORT: u16 = 19_432;

#[tokio::main]
async fn main() -> Result<()> {
    let stack = Stack::plan().as_shipped().metadata(Metadata::Embedded).start().await?;
    stack.api.create_project("bench").await?;
    for engine in Engine::ALL {
        let baseline = format!("{engine}: its own tools");
        let mut ours = Samples::new(&format!("{engine}: create on a warm host"), "ms").against(&baseline);
        let mut theirs = Samples::new(&baseline, "ms");
        for run in 0..RUNS {
            warm(&stack, *engine).await?;
            let id = format!("{engine}-{run}");
            let instance = ours.time(create(&stack, *engine, &id)).await?;
            stack.api.purge_instance(&instance).await?;
            let ground = Ground::make()?;
            theirs.time(bare_create(&ground, *engine)).await?;
        }
        ours.print()?;
        theirs.print()?;
    }
    stack.finish().await
}

async fn create(stack: &Stack, engine: Engine, id: &str) -> Result<String> {
    let instance = stack.api.make_instance("bench", id, engine.as_str()).await?;
    let port = u16::try_from(instance.endpoints.first().context("an endpoint")?.port)?;
    accepts(engine, port).await?;
    Ok(instance.name)
}

async fn accepts(engine: Engine, port: u16) -> Result<()> {
    if engine.descriptor().has_extensions { bare::answers(port).await } else { bare::greeted(port) }
}

async fn bare_create(ground: &Ground, engine: Engine) -> Result<()> {
    if engine.descriptor().has_extensions {
        ground.initdb("data")?;
        ground.pg_ctl("start", "data", PORT)?;
    } else {
        ground.install_db("data")?;
        drop(ground.start_mariadb("data", PORT)?);
    }
    accepts(engine, PORT).await
}

/// Waits until the pool has a directory for this engine again.
async fn warm(stack: &Stack, engine: Engine) -> Result<()> {
    let pool = stack.hosts[0].directory.join("state/warm");
    wait_until("a warm directory", Duration::from_secs(60), async || {
        let found = std::fs::read_dir(&pool)?
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with(engine.as_str()));
        ensure!(found, "{} has none for {engine}", pool.display());
        Ok(())
    })
    .await
}
