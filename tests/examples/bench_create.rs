//! Create: from the request to the end of the operation and to a client's first answer over TLS, beside what the
//! engine's own tools need to get as far. Prints one line of JSON for each series, and where the time went on stderr.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use windlass_core::engine::Engine;
use windlass_proto::api::v1::{GetConnectionRequest, Operation};
use windlass_tests::bare::Bare;
use windlass_tests::measure::Samples;
use windlass_tests::stack::Metadata;
use windlass_tests::{Stack, api, client, wait_until};

const PROJECT: &str = "bench";
const RUNS: usize = 15;
/// For each engine, in milliseconds.
const AIMS: &[(Engine, f64)] = &[(Engine::Postgres, 400.0), (Engine::Mariadb, 600.0)];

#[tokio::main]
async fn main() -> Result<()> {
    let stack = Stack::plan().as_shipped().metadata(Metadata::Embedded).start().await?;
    stack.api.create_project(PROJECT).await?;
    for (engine, aim) in AIMS {
        warm_host(&stack, *engine, *aim).await?;
        back_to_back(&stack, *engine).await?;
    }
    stack.finish().await
}

/// One create at a time, each when the host is ready for it.
async fn warm_host(stack: &Stack, engine: Engine, aim: f64) -> Result<()> {
    let baseline = format!("{engine}: its own tools, to the first answer");
    let mut succeeded = Samples::new(&format!("{engine}: to the end of the operation"), "ms");
    let mut answered = Samples::new(&format!("{engine}: to the first answer"), "ms").against(&baseline).aim(aim);
    let mut theirs = Samples::new(&baseline, "ms");
    let mut shares = Shares::default();
    for run in 0..RUNS {
        quiet(stack).await?;
        let mut bare = Bare::prepare(engine)?;
        theirs
            .time(async {
                bare.initialise()?;
                bare.start().await
            })
            .await?;
        drop(bare);
        let id = format!("{engine}-{run}");
        let begin = Instant::now();
        let operation = create(stack, &id, engine).await?;
        succeeded.add_time(begin.elapsed());
        first_answer(stack, &id).await?;
        answered.add_time(begin.elapsed());
        shares.add(&stack.api.operation(&operation.name).await?);
        stack.api.purge_instance(&api::instance_name(PROJECT, &id)).await?;
    }
    shares.tell(engine);
    succeeded.print()?;
    answered.print()?;
    theirs.print()
}

/// One create after the other without a pause, so that most find no warm directory.
async fn back_to_back(stack: &Stack, engine: Engine) -> Result<()> {
    let mut answered = Samples::new(&format!("{engine}: to the first answer, one create right after the other"), "ms");
    let ids: Vec<String> = (0..RUNS).map(|run| format!("{engine}-row-{run}")).collect();
    quiet(stack).await?;
    for id in &ids {
        answered
            .time(async {
                create(stack, id, engine).await?;
                first_answer(stack, id).await
            })
            .await?;
    }
    answered.print()?;
    for id in &ids {
        stack.api.purge_instance(&api::instance_name(PROJECT, id)).await?;
    }
    Ok(())
}

async fn create(stack: &Stack, id: &str, engine: Engine) -> Result<Operation> {
    let operation = stack.api.create_instance(PROJECT, id, engine.as_str()).await?;
    stack.api.succeeded(&operation).await?;
    Ok(operation)
}

async fn first_answer(stack: &Stack, id: &str) -> Result<()> {
    let request = GetConnectionRequest { name: api::instance_name(PROJECT, id), ..Default::default() };
    client::ask(&stack.api.instances().get_connection(request).await?.into_inner()).await
}

/// Waits until the pool has a directory for each engine and nothing but the agent runs.
async fn quiet(stack: &Stack) -> Result<()> {
    let host = &stack.hosts[0];
    let pool = host.directory.join("state/warm");
    wait_until("a warm and quiet host", Duration::from_secs(60), async || {
        let ready = std::fs::read_dir(&pool)?.flatten().filter(|entry| entry.path().join("data").exists()).count();
        ensure!(ready == Engine::ALL.len(), "{ready} directories in {}", pool.display());
        let busy = windlass_tests::database::processes_below(&host.directory);
        ensure!(busy.len() == 1, "{busy:?}");
        Ok(())
    })
    .await
}

/// How long each step of the operations took, by their own account.
#[derive(Default)]
struct Shares(BTreeMap<String, Vec<f64>>);

impl Shares {
    fn add(&mut self, operation: &Operation) {
        let at = |time: Option<pbjson_types::Timestamp>| {
            time.map_or(f64::NAN, |time| time.seconds as f64 * 1000.0 + f64::from(time.nanos) / 1e6)
        };
        let mut last = at(operation.create_time);
        for (number, step) in operation.steps.iter().enumerate() {
            self.span(format!("{number} before {}", step.name), at(step.start_time) - last);
            self.span(format!("{number} in {}", step.name), at(step.end_time) - at(step.start_time));
            last = at(step.end_time);
        }
        self.span("9 after the last step".to_owned(), at(operation.end_time) - last);
    }

    fn span(&mut self, name: String, milliseconds: f64) {
        self.0.entry(name).or_default().push(milliseconds);
    }

    fn tell(mut self, engine: Engine) {
        for (name, values) in &mut self.0 {
            values.sort_by(f64::total_cmp);
            eprintln!("{engine}: {name}: {:.1} ms", values[values.len() / 2]);
        }
    }
}
