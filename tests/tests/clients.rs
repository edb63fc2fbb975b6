//! PostgreSQL's own clients with all that they offer.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use windlass_proto::api::v1::Replication;
use windlass_tests::ground::Ground;
use windlass_tests::lab::plain::Plain;
use windlass_tests::site::{PROJECT, PROXY_PORT, Pooling, Site};
use windlass_tests::stack::free_ports;
use windlass_tests::suites::{Reach, Suite};
use windlass_tests::workload::Session;
use windlass_tests::{lab, wait_until};

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

#[test]
fn every_suite_passes_through_proxies_of_both_kinds() -> Result<()> {
    lab::run(async |network| {
        let kinds = [Pooling::Session, Pooling::Transaction];
        let site = Site::plan().hosts(1).proxies(&kinds).start(network).await?;
        site.create("db", Replication::default()).await?;
        let mut failures = Vec::new();
        for (number, kind) in kinds.into_iter().enumerate() {
            let target = site.through_proxy("db", number).await?;
            wait_until("a proxy that knows the instance", Duration::from_secs(20), async || {
                Session::open(&target).await.map(drop)
            })
            .await?;
            let reach = Reach {
                // None of these clients but those of libpq can say one name and go to another address.
                host: site.proxies[number].node().address().to_string(),
                port: PROXY_PORT,
                user: format!("{}@db.{PROJECT}", target.user),
                password: target.password,
                database: target.database,
                ca_file: Some(site.ca_file()),
            };
            for suite in Suite::ALL {
                let result = suite.run(&reach, &site.directory().join(format!("{kind:?}"))).await;
                failures.extend(result.err().map(|error| format!("{kind:?} {error:#}")));
            }
        }
        ensure!(failures.is_empty(), "{}", failures.join("\n"));
        site.finish();
        Ok(())
    })
}
