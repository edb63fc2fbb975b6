//! What must not be left once everything was deleted, and what must agree in the metadata at any time.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio_postgres::NoTls;

use crate::database;
use crate::stack::Stack;
use crate::wait::wait_until;

/// Fails unless the hosts hold nothing of any instance: no process, no port, no directory, no reservation.
///
/// # Errors
/// Something is left; the message names it.
pub async fn nothing_left(stack: &Stack) -> Result<()> {
    wait_until("nothing left of the instances", Duration::from_secs(30), async || {
        for host in &stack.hosts {
            let databases = database::processes_below(&host.directory);
            let mut databases = databases.into_iter().filter(|server| Some(server.pid) != host.agent.pid());
            if let Some(server) = databases.next() {
                anyhow::bail!("{} still runs {server:?}", host.name);
            }
            for folder in ["state/members", "state/retained", "run"] {
                let left = entries(&host.directory.join(folder));
                ensure!(left.is_empty(), "{} still has {folder}/{left:?}", host.name);
            }
            for port in host.ports.0..=host.ports.1 {
                TcpListener::bind(("127.0.0.1", port))
                    .with_context(|| format!("port {port} of {} is still taken", host.name))?;
            }
        }
        for host in stack.api.all_hosts().await? {
            let reserved = host.reserved.unwrap_or_default();
            let total = reserved.cpu_millis + reserved.memory_bytes + reserved.disk_bytes;
            ensure!(total == 0 && host.members == 0, "{} still reserves {reserved:?}", host.name);
            ensure!(host.orphans.is_empty(), "{} reports orphans {:?}", host.name, host.orphans);
        }
        let request = windlass_proto::api::v1::ListProjectsRequest { page_size: 500, ..Default::default() };
        for project in stack.api.projects().list_projects(request).await?.into_inner().projects {
            let usage = project.usage.unwrap_or_default();
            ensure!(usage.instances == 0, "{} still uses {usage:?}", project.name);
        }
        Ok(())
    })
    .await
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Each statement gives one row for each thing that does not agree.
const CONSISTENCY: &[(&str, &str)] = &[
    (
        "a host's counters are the sum of its members",
        "select h.name, h.reserved_cpu_millis, h.reserved_memory, h.reserved_disk, sum(m.cpu_millis)::bigint \
         from host h left join member m on m.host_id = h.id group by h.id \
         having h.reserved_cpu_millis <> coalesce(sum(m.cpu_millis), 0) \
             or h.reserved_memory <> coalesce(sum(m.memory_bytes), 0) \
             or h.reserved_disk <> coalesce(sum(m.disk_bytes), 0)",
    ),
    (
        "an operation is done exactly when its saga is",
        "select o.id::text, o.kind, o.state, s.done::text from operation o join saga s on s.id = o.id \
         where s.done <> (o.state in ('SUCCEEDED', 'FAILED', 'CANCELLED'))",
    ),
    (
        "a done operation has an end, and a failed one an error",
        "select id::text, kind, state from operation where (state in ('SUCCEEDED', 'FAILED', 'CANCELLED')) \
         <> (end_time is not null) or (state = 'FAILED' and error is null)",
    ),
    (
        "an ended command has an end, and a succeeded one a result",
        "select uid::text, kind, state from command where (state not in ('QUEUED', 'LEASED')) <> (end_time is not null) \
         or (state = 'SUCCEEDED' and result is null)",
    ),
    (
        "no command of an ended saga waits",
        "select c.uid::text, c.kind, c.state from command c join saga s on s.id = c.saga_id \
         where s.done and c.state in ('QUEUED', 'LEASED')",
    ),
    (
        "an instance in passing has an operation",
        "select i.id::text, i.name, i.lifecycle from instance i where i.lifecycle in \
         ('PENDING', 'CREATING', 'MODIFYING', 'STOPPING', 'DELETING') and not exists (select 1 from operation o \
         where o.instance_id = i.id and o.state not in ('SUCCEEDED', 'FAILED', 'CANCELLED'))",
    ),
];

/// Fails unless the metadata agrees with itself. Only for stacks with external metadata.
///
/// # Errors
/// Something does not agree; the message names the rule and the rows.
pub async fn consistent(stack: &Stack) -> Result<()> {
    let url = stack.database_url.as_deref().context("the metadata is embedded")?;
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let driver = tokio::spawn(connection);
    for (rule, statement) in CONSISTENCY {
        let rows = client.simple_query(statement).await.with_context(|| format!("{rule}: {statement}"))?;
        let broken: Vec<String> = rows
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .map(|row| (0..row.len()).map(|at| row.get(at).unwrap_or("null")).collect::<Vec<_>>().join(" "))
            .collect();
        ensure!(broken.is_empty(), "{rule}: not so for {broken:?}");
    }
    drop(client);
    driver.await??;
    Ok(())
}
