//! The workload and its checkers at a plain PostgreSQL: a crash breaks nothing, and what is broken by hand is found.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use windlass_tests::checkers::gap;
use windlass_tests::ground::Ground;
use windlass_tests::lab;
use windlass_tests::lab::plain::Plain;
use windlass_tests::workload::{End, Mix, Target, Workload};

const PORT: u16 = 5432;
const OUTAGE: Duration = Duration::from_millis(700);

#[test]
fn a_crash_breaks_nothing_and_forged_histories_are_found() -> Result<()> {
    lab::run(async |network| {
        let (host, clients) = (network.add("host-1")?, network.add("clients")?);
        let ground = Arc::new(Ground::make()?);
        let mut server = Plain::new(&ground, "db", PORT).at(&host);
        server.initialise()?;
        server.start().await?;
        let target = Target {
            addresses: vec![SocketAddr::from((host.address(), PORT))],
            tls: None,
            user: "root".to_owned(),
            password: String::new(),
            database: "postgres".to_owned(),
            patience: Duration::from_secs(2),
        };
        Workload::prepare(&target).await?;
        let mix = Mix { writers: 2, cancellers: 1, appenders: 2, bankers: 2, ..Mix::default() };
        let workload = Workload::start(&[(clients, target.clone())], mix, &ground.path("logs"))?;
        tokio::time::sleep(OUTAGE).await;
        let from = workload.now();
        server.kill()?;
        tokio::time::sleep(OUTAGE).await;
        server.start().await?;
        tokio::time::sleep(OUTAGE).await;
        let until = workload.now();
        let history = workload.finish().await?;
        let end = End::read(&target).await?;
        ensure!(history.breaches(&end).is_empty(), "{:#?}", history.breaches(&end));
        let gap = gap::longest(&history.writes, from, until);
        ensure!(gap > OUTAGE && gap < until, "{gap:?} of {until:?}");
        ensure!(
            history.acknowledged() > 50
                && history.reads.len() > 20
                && end.lists.values().all(|list| !list.is_empty())
                && !history.sums.is_empty()
        );

        server.sql("delete from nemesis.write where id = (select min(id) from nemesis.write)")?;
        server.sql("update nemesis.write set epoch = 5 where id = (select min(id) from nemesis.write)")?;
        server.sql("update nemesis.list set list = list[2:] where key = 0")?;
        server.sql("update nemesis.account set balance = balance + 1 where id = 0")?;
        let breaches = history.breaches(&End::read(&target).await?);
        for checker in ["acked-set: ", "list-append: ", "bank: ", "single-writer: "] {
            ensure!(breaches.iter().any(|breach| breach.starts_with(checker)), "{checker} is blind: {breaches:#?}");
        }
        Ok(())
    })
}
