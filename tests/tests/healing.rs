//! What goes wrong by itself on a host is put right by itself, and the manager never hurts a database.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use windlass_core::engine::Engine;
use windlass_proto::api::v1::{GetConnectionRequest, Instance, instance};
use windlass_tests::api::instance_name;
use windlass_tests::{Stack, leaks, wait_until};

const LIMIT: Duration = Duration::from_secs(45);

fn running(instance: &Instance) -> bool {
    instance.state() == instance::State::Running
        && instance.health() == instance::Health::Healthy
        && instance.members.first().is_some_and(|member| member.process == "RUNNING" && member.pid > 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_tampered_databases_are_put_right() -> Result<()> {
    let stack = Stack::plan().start().await?;
    stack.api.create_project("shop").await?;
    for engine in Engine::ALL {
        let id = format!("{engine}-1");
        let name = instance_name("shop", &id);
        stack.api.make_instance("shop", &id, engine.as_str()).await?;
        killed(&stack, &name, &id, *engine).await?;
        tampered(&stack, &name, &id, *engine).await?;
    }
    orphans(&stack).await?;
    for engine in Engine::ALL {
        stack.api.purge_instance(&instance_name("shop", &format!("{engine}-1"))).await?;
    }
    leaks::consistent(&stack).await?;
    stack.finish().await
}

async fn killed(stack: &Stack, name: &str, id: &str, engine: Engine) -> Result<()> {
    let before = stack.api.instance_until(name, "runs", LIMIT, running).await?.members[0].pid;
    kill(Pid::from_raw(i32::try_from(before)?), Signal::SIGKILL)?;
    stack.api.instance_until(name, "runs again", LIMIT, |now| running(now) && now.members[0].pid != before).await?;
    ensure!(stack.query("shop", id, engine.descriptor().client, "select 1").await? == "1");
    Ok(())
}

/// Each file of settings: changed by hand, then deleted.
async fn tampered(stack: &Stack, name: &str, id: &str, engine: Engine) -> Result<()> {
    let instance = stack.api.instance_until(name, "runs", LIMIT, running).await?;
    let host = stack.hosts.iter().find(|host| format!("hosts/{}", host.name) == instance.members[0].host);
    let members = host.context("its host")?.directory.join("state/members");
    let folder = std::fs::read_dir(&members)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(engine.as_str())))
        .with_context(|| format!("a member of {engine} below {}", members.display()))?;
    let mut files: Vec<_> = std::fs::read_dir(folder.join("conf"))?.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf" || extension == "cnf"));
    ensure!(!files.is_empty(), "{id} has configuration files of ours");
    for file in files {
        let right = std::fs::read_to_string(&file)?;
        std::fs::write(&file, "# changed by hand\nnonsense = 1\n")?;
        repaired(&file, &right).await?;
        std::fs::remove_file(&file)?;
        repaired(&file, &right).await?;
    }
    ensure!(stack.query("shop", id, engine.descriptor().client, "select 1").await? == "1");
    Ok(())
}

async fn repaired(file: &std::path::Path, right: &str) -> Result<()> {
    wait_until(&format!("repair of {}", file.display()), LIMIT, async || {
        let now = std::fs::read_to_string(file)?;
        ensure!(now == right, "it reads {now:?}");
        Ok(())
    })
    .await
}

async fn orphans(stack: &Stack) -> Result<()> {
    let host = &stack.hosts[0];
    let strange = host.directory.join("state/members/postgres-0123456789ab");
    std::fs::create_dir_all(strange.join("data"))?;
    std::fs::write(strange.join("data/precious"), "do not delete")?;
    wait_until("report of the orphan", LIMIT, async || {
        let hosts = stack.api.all_hosts().await?;
        ensure!(hosts[0].orphans.iter().any(|orphan| orphan.contains("postgres-0123456789ab")), "{:?}", hosts[0]);
        Ok(())
    })
    .await?;
    ensure!(strange.join("data/precious").exists(), "an orphan is reported, never deleted");
    std::fs::remove_dir_all(strange)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_or_upgrading_the_agent_leaves_databases_and_connections_alone() -> Result<()> {
    let mut stack = Stack::plan().start().await?;
    stack.api.create_project("shop").await?;
    let mut held = Vec::new();
    for engine in Engine::ALL {
        let id = format!("{engine}-1");
        stack.api.make_instance("shop", &id, engine.as_str()).await?;
        held.push(Session::open(&stack, &id).await?);
    }
    let before = pids(&stack).await?;
    stack.hosts[0].agent.kill()?;
    alive(&before, &mut held).await?;
    stack.hosts[0].agent.start(&[])?;
    stack.hosts_online().await?;
    // An upgrade: the old one ends in order, another one starts.
    stack.hosts[0].agent.stop().await?;
    alive(&before, &mut held).await?;
    stack.hosts[0].agent.start(&[])?;
    stack.hosts_online().await?;
    alive(&before, &mut held).await?;
    ensure!(pids(&stack).await? == before, "the agent found the same processes again");
    // It still holds them to their goals: the adopted processes are restarted when they die.
    for engine in Engine::ALL {
        let name = instance_name("shop", &format!("{engine}-1"));
        killed(&stack, &name, &format!("{engine}-1"), *engine).await?;
    }
    // And so is one that dies while no agent runs.
    stack.hosts[0].agent.kill()?;
    let lost = pids(&stack).await?;
    for pid in &lost {
        kill(Pid::from_raw(*pid), Signal::SIGKILL)?;
    }
    stack.hosts[0].agent.start(&[])?;
    for engine in Engine::ALL {
        let name = instance_name("shop", &format!("{engine}-1"));
        let fresh = |now: &Instance| running(now) && !lost.iter().any(|pid| i64::from(*pid) == now.members[0].pid);
        stack.api.instance_until(&name, "runs again", LIMIT, fresh).await?;
        stack.api.purge_instance(&name).await?;
    }
    leaks::nothing_left(&stack).await?;
    stack.finish().await
}

async fn pids(stack: &Stack) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    for engine in Engine::ALL {
        let name = instance_name("shop", &format!("{engine}-1"));
        let now = stack.api.instance_until(&name, "has a process", LIMIT, |now| now.members[0].pid > 0).await?;
        pids.push(i32::try_from(now.members[0].pid)?);
    }
    Ok(pids)
}

async fn alive(pids: &[i32], held: &mut [Session]) -> Result<()> {
    for pid in pids {
        ensure!(windlass_tests::database::start_time(*pid).is_some(), "process {pid} is gone");
    }
    for session in held {
        session.check().await?;
    }
    Ok(())
}

/// A native client with an open connection that is used again and again.
struct Session {
    child: tokio::process::Child,
    input: tokio::process::ChildStdin,
    output: tokio::io::Lines<tokio::io::BufReader<tokio::process::ChildStdout>>,
}

impl Session {
    async fn open(stack: &Stack, id: &str) -> Result<Self> {
        use tokio::io::AsyncBufReadExt;
        let request = GetConnectionRequest { name: instance_name("shop", id), ..Default::default() };
        let client = stack.api.instances().get_connection(request).await?.into_inner().client;
        let flags: &[&str] = if client == "psql" { &["-X", "-At"] } else { &["-N", "-B", "--unbuffered"] };
        let mut command = stack.cli(&["--project", "shop", "connect", id, "--"]);
        command.args(flags);
        let mut child = tokio::process::Command::from(command)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().context("stdin")?;
        let output = tokio::io::BufReader::new(child.stdout.take().context("stdout")?).lines();
        let mut session = Self { child, input, output };
        session.check().await?;
        Ok(session)
    }

    async fn check(&mut self) -> Result<()> {
        use tokio::io::AsyncWriteExt;
        self.input.write_all(b"select 40 + 2;\n").await?;
        self.input.flush().await?;
        let line = tokio::time::timeout(LIMIT, self.output.next_line()).await.context("the connection is stuck")??;
        ensure!(line.as_deref() == Some("42"), "the connection answered {line:?} ({:?})", self.child.try_wait()?);
        Ok(())
    }
}
