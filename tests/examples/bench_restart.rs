//! Restart: from the request to a database that accepts connections again, beside `pg_ctl restart`. Prints one line of
//! JSON for each series.

use anyhow::{Context, Result};
use windlass_core::engine::Engine;
use windlass_proto::api::v1::InstanceVerbRequest;
use windlass_tests::Stack;
use windlass_tests::api::request_id;
use windlass_tests::bare::{self, Ground};
use windlass_tests::measure::Samples;
use windlass_tests::stack::Metadata;

const RUNS: usize = 21;
const PORT: u16 = 19_433;

#[tokio::main]
async fn main() -> Result<()> {
    let stack = Stack::plan().as_shipped().metadata(Metadata::Embedded).start().await?;
    stack.api.create_project("bench").await?;
    let ground = Ground::make()?;
    ground.initdb("data")?;
    ground.pg_ctl("start", "data", PORT)?;
    let mut theirs = Samples::new("pg_ctl restart", "ms");
    for engine in Engine::ALL {
        let mut ours = Samples::new(&format!("{engine}: restart"), "ms");
        if engine.descriptor().has_extensions {
            ours = ours.against("pg_ctl restart");
        }
        let instance = stack.api.make_instance("bench", engine.as_str(), engine.as_str()).await?;
        let port = u16::try_from(instance.endpoints.first().context("an endpoint")?.port)?;
        for _ in 0..RUNS {
            ours.time(async {
                let name = instance.name.clone();
                let request = InstanceVerbRequest { name, request_id: request_id(), ..Default::default() };
                let operation = stack.api.instances().restart_instance(request).await?.into_inner();
                stack.api.succeeded(&operation).await?;
                if engine.descriptor().has_extensions { bare::answers(port).await } else { bare::greeted(port) }
            })
            .await?;
            if engine.descriptor().has_extensions {
                theirs
                    .time(async {
                        ground.pg_ctl("restart", "data", PORT)?;
                        bare::answers(PORT).await
                    })
                    .await?;
            }
        }
        ours.print()?;
    }
    theirs.print()?;
    ground.pg_ctl("stop", "data", PORT)?;
    stack.finish().await
}
