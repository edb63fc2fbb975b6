//! A host on which something does not work: a clear error with its reason, and nothing left afterwards.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use windlass_core::engine::Engine;
use windlass_proto::api::v1::ListInstancesRequest;
use windlass_tests::api::instance_name;
use windlass_tests::{Stack, database, leaks};

/// Asks for an instance that cannot be made and checks what is left.
async fn fails(stack: &Stack, id: &str, engine: Engine, reason: &str, says: &str) -> Result<()> {
    let operation = stack.api.create_instance("shop", id, engine.as_str()).await?;
    let (why, message) = stack.api.failed(&operation).await?;
    ensure!(why == reason, "{id}: {why}: {message}");
    ensure!(message.contains(says), "{id} does not say {says:?}: {message}");
    leaks::nothing_left(stack).await.context(id.to_owned())?;
    leaks::consistent(stack).await.context(id.to_owned())?;
    let all = ListInstancesRequest { parent: "projects/shop".to_owned(), ..Default::default() };
    for left in stack.api.instances().list_instances(all).await?.into_inner().instances {
        stack.api.purge_instance(&left.name).await.with_context(|| format!("what is left of {id}: {left:?}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_room_on_its_disk_refuses_and_keeps_nothing() -> Result<()> {
    let stack = Stack::plan().agent("disk_floor = \"1000TiB\"\nwarm_pool = \"off\"\n").start().await?;
    stack.api.create_project("shop").await?;
    for engine in Engine::ALL {
        fails(&stack, &format!("{engine}-floor"), *engine, "DISK_FULL", "disk").await?;
    }
    stack.finish().await
}

/// A small file system at the place of a host's state. Needs root.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, megabytes: u32) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        let size = format!("size={megabytes}m,mode=0755");
        database::output(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "windlass-test"]).arg(at))?;
        Ok(Self(at.to_path_buf()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        database::end_below(&self.0);
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_during_a_create_is_told_and_cleaned() -> Result<()> {
    if windlass_tests::stack::run_as().is_none() {
        eprintln!("only root can mount; the floor is tested by the other test");
        return Ok(());
    }
    let mut stack = Stack::plan()
        .hosts(0)
        .agent("disk_floor = \"1MiB\"\nwarm_pool = \"off\"\n[capacity]\ndisk = \"100GiB\"\n")
        .start()
        .await?;
    stack.api.create_project("shop").await?;
    // Room for the agent and half a data directory.
    let disk = SmallDisk::mount(&stack.directory().join("host-1/state"), 24)?;
    stack.add_host().await?;
    stack.hosts_online().await?;
    for engine in Engine::ALL {
        fails(&stack, &format!("{engine}-full"), *engine, "DISK_FULL", "").await?;
    }
    stack.hosts[0].agent.stop().await?;
    drop(disk);
    stack.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_passed_over_and_when_all_are_taken_it_is_told() -> Result<()> {
    let stack = Stack::plan().start().await?;
    stack.api.create_project("shop").await?;
    let (low, high) = stack.hosts[0].ports;
    let squatter = TcpListener::bind(("127.0.0.1", low))?;
    let made = stack.api.make_instance("shop", "beside", "postgres").await?;
    let port = made.endpoints.first().context("an endpoint")?.port;
    ensure!(port != u32::from(low), "port {low} is somebody else's");
    ensure!(stack.query("shop", "beside", "psql", "select 1").await? == "1");
    stack.api.purge_instance(&instance_name("shop", "beside")).await?;
    let mut squatters: Vec<TcpListener> = vec![squatter];
    for port in low + 1..=high {
        squatters.push(TcpListener::bind(("127.0.0.1", port)).with_context(|| format!("port {port}"))?);
    }
    let operation = stack.api.create_instance("shop", "nowhere", "mariadb").await;
    if let Ok(operation) = operation {
        let (why, message) = stack.api.failed(&operation).await?;
        ensure!(["PORT_TAKEN", "NO_HOST_FITS"].contains(&why.as_str()), "{why}: {message}");
        ensure!(message.contains("port"), "{message}");
    }
    drop(squatters);
    for left in stack
        .api
        .instances()
        .list_instances(ListInstancesRequest { parent: "projects/shop".to_owned(), ..Default::default() })
        .await?
        .into_inner()
        .instances
    {
        stack.api.purge_instance(&left.name).await?;
    }
    leaks::nothing_left(&stack).await?;
    leaks::consistent(&stack).await?;
    stack.finish().await
}

/// A folder of programs that are the real ones but for some, which fail with a word.
fn sabotage(folder: &Path, real: &Path, broken: &[&str]) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    for entry in std::fs::read_dir(real)?.flatten() {
        let name = entry.file_name();
        let fake = folder.join(&name);
        if broken.iter().any(|word| name.to_string_lossy() == **word) {
            std::fs::write(&fake, "#!/bin/sh\necho 'sabotaged on purpose' >&2\nexit 1\n")?;
            std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755))?;
        } else {
            symlink(entry.path(), fake)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_cannot_be_made_is_told_with_the_tools_words() -> Result<()> {
    let folder = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir()?;
    let postgres = folder.path().join("postgres");
    sabotage(&postgres, &database::postgres_directory().context("PostgreSQL")?, &["initdb"])?;
    let mariadb = folder.path().join("mariadb");
    sabotage(&mariadb, Path::new("/usr/bin"), &["mariadb-install-db", "mysql_install_db"])?;
    symlink("/usr/sbin/mariadbd", mariadb.join("mariadbd"))?;
    let dirs = format!("engine_search_dirs = [{postgres:?}, {mariadb:?}]\nwarm_pool = \"off\"\n");
    let stack = Stack::plan().agent(&dirs).start().await?;
    stack.api.create_project("shop").await?;
    for engine in Engine::ALL {
        fails(&stack, &format!("{engine}-init"), *engine, "INIT_FAILED", "sabotaged on purpose").await?;
    }
    stack.finish().await
}
