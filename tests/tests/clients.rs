//! PostgreSQL's own clients with all that they offer.

use std::sync::Arc;

use anyhow::Result;
use windlass_tests::ground::Ground;
use windlass_tests::lab::plain::Plain;
use windlass_tests::stack::free_ports;
use windlass_tests::suites::{Reach, Suite};

/// What a suite finds wrong behind a proxy is the proxy's only if it finds nothing here.
#[tokio::test(flavor = "multi_thread")]
async fn every_suite_passes_at_a_plain_server() -> Result<()> {
    let ground = Arc::new(Ground::make()?);
    let mut server = Plain::new(&ground, "db", free_ports(1)?);
    server.initialise()?;
    server.start().await?;
    let reach = Reach {
        host: "127.0.0.1".to_owned(),
        port: server.port(),
        user: "root".to_owned(),
        password: "not asked".to_owned(),
        database: "postgres".to_owned(),
        ca_file: None,
    };
    for suite in Suite::ALL {
        suite.run(&reach, &ground.path("suites")).await?;
    }
    Ok(())
}
