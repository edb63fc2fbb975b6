//! Restart: from the request to the end of the operation and to a client's first answer over TLS, beside
//! `pg_ctl restart -w`, or a stop and a start of the bare server. Prints one line of JSON for each series.

use std::time::Instant;

use anyhow::Result;
use windlass_core::engine::Engine;
use windlass_proto::api::v1::{GetConnectionRequest, InstanceVerbRequest};
use windlass_tests::api::request_id;
use windlass_tests::bare::Bare;
use windlass_tests::measure::Samples;
use windlass_tests::stack::Metadata;
use windlass_tests::{Stack, client};

const RUNS: usize = 15;

#[tokio::main]
async fn main() -> Result<()> {
    let stack = Stack::plan().as_shipped().metadata(Metadata::Embedded).start().await?;
    stack.api.create_project("bench").await?;
    for engine in Engine::ALL {
        restart(&stack, *engine).await?;
    }
    stack.finish().await
}

async fn restart(stack: &Stack, engine: Engine) -> Result<()> {
    let baseline = format!("{engine}: its own tools, to the first answer");
    let mut succeeded = Samples::new(&format!("{engine}: to the end of the operation"), "ms");
    let mut answered = Samples::new(&format!("{engine}: to the first answer"), "ms").against(&baseline);
    let mut theirs = Samples::new(&baseline, "ms");
    let name = stack.api.make_instance("bench", engine.as_str(), engine.as_str()).await?.name;
    let request = GetConnectionRequest { name: name.clone(), ..Default::default() };
    let connection = stack.api.instances().get_connection(request).await?.into_inner();
    let mut bare = Bare::prepare(engine)?;
    bare.initialise()?;
    bare.start().await?;
    for _ in 0..RUNS {
        theirs.time(bare.restart()).await?;
        let request = InstanceVerbRequest { name: name.clone(), request_id: request_id(), ..Default::default() };
        let begin = Instant::now();
        let operation = stack.api.instances().restart_instance(request).await?.into_inner();
        stack.api.succeeded(&operation).await?;
        succeeded.add_time(begin.elapsed());
        client::ask(&connection).await?;
        answered.add_time(begin.elapsed());
    }
    drop(bare);
    stack.api.purge_instance(&name).await?;
    succeeded.print()?;
    answered.print()?;
    theirs.print()
}
