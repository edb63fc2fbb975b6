//! What must not be left once everything was deleted, and what must agree in the metadata at any time.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

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
            // What fills the warm pool belongs to the host.
            let warm = host.directory.join("state/warm").to_string_lossy().into_owned();
            let mut databases = databases
                .into_iter()
                .filter(|server| Some(server.pid) != host.agent.pid() && !server.command_line.contains(&warm));
            if let Some(server) = databases.next() {
                anyhow::bail!("{} still runs {server:?}", host.name);
            }
            for folder in ["state/members", "state/retained", "run"] {
                let mut left = entries(&host.directory.join(folder));
                // Sockets of what fills the warm pool.
                left.retain(|name| folder != "run" || !name.starts_with('w'));
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

/// Names of what lies in a folder; none if there is no folder.
pub(crate) fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Fails unless the metadata agrees with itself. Only for stacks with external metadata.
///
/// # Errors
/// A rule is broken; the message has every breach.
pub async fn consistent(stack: &Stack) -> Result<()> {
    let url = stack.database_url.as_deref().context("the metadata is embedded")?;
    let db = windlass_db::Db::connect(url, 2).await?;
    let violations = db.consistency_check().await?;
    db.close().await;
    ensure!(violations.is_empty(), "the metadata does not agree with itself: {violations:#?}");
    Ok(())
}
