//! The switch and the hosts at it, and the driver, which is where the test itself runs.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::runtime::{Builder, Runtime};

use super::node::{self, Node};
use super::tool;

/// Namespaces of labs begin with this; the id of the test's process and a number follow.
const PREFIX: &str = "wlab";
/// The driver's last octet; hosts get the ones after it.
const DRIVER: u8 = 1;

/// Labs of this process, so that each has names of its own.
static LABS: AtomicU32 = AtomicU32::new(0);

/// A switch and its hosts. Dropped, all are gone with every process in them.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    nodes: Vec<Node>,
}

impl Network {
    /// An empty switch with the driver at it.
    ///
    /// # Errors
    /// The test is not run by root, or a tool is missing.
    pub fn make() -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "labs of several hosts need root for their network namespaces; run `cargo xtask test` as root"
        );
        sweep()?;
        let prefix = format!("{PREFIX}{}x{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let mut network = Self { prefix, nodes: Vec::new() };
        let switch = network.switch();
        tool::ip(&format!("netns add {switch}"))?;
        tool::ip(&format!("-n {switch} link add br0 type bridge forward_delay 0"))?;
        tool::ip(&format!("-n {switch} link set br0 up"))?;
        network.add("driver")?;
        Ok(network)
    }

    /// A new host; its address is the next of 10.77.0.0/24.
    ///
    /// # Errors
    /// The system refused.
    pub fn add(&mut self, name: &str) -> Result<Node> {
        let number = DRIVER + u8::try_from(self.nodes.len()).context("a lab has at most 200 hosts")?;
        let node = Node::join(&self.prefix, &self.switch(), name, Ipv4Addr::new(10, 77, 0, number))?;
        self.nodes.push(node.clone());
        Ok(node)
    }

    /// Where the test runs.
    pub fn driver(&self) -> &Node {
        &self.nodes[0]
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.prefix)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in &self.nodes {
            node::remove(node.namespace());
        }
        node::remove(&self.switch());
    }
}

/// Runs a test in the driver's place of a new network. A signal to end (Ctrl-C, SIGTERM) fails the test, so that
/// everything is taken down.
///
/// # Errors
/// What the test gave, or a signal came.
pub fn run<T: Send>(test: impl AsyncFnOnce(&mut Network) -> Result<T> + Send) -> Result<T> {
    let mut network = Network::make()?;
    let driver = network.driver().clone();
    std::thread::scope(|scope| {
        let body = move || {
            driver.enter()?;
            let runtime = driver_runtime()?;
            let result = runtime.block_on(async {
                let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
                tokio::select! {
                    result = test(&mut network) => result,
                    _ = tokio::signal::ctrl_c() => bail!("interrupted"),
                    _ = terminate.recv() => bail!("terminated"),
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(2));
            drop(network);
            result
        };
        match scope.spawn(body).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Its threads are made by the one that entered the namespace and so are in it too.
fn driver_runtime() -> Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Removes the namespaces of labs whose process is gone.
fn sweep() -> Result<()> {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if owner(&name).is_some_and(|pid| crate::database::start_time(pid).is_none()) {
            node::remove(&name);
        }
    }
    Ok(())
}

/// The process that a lab's namespace belongs to.
fn owner(namespace: &str) -> Option<i32> {
    namespace.strip_prefix(PREFIX)?.split_once('x')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    #[test]
    fn only_names_of_labs_have_an_owner() {
        assert_eq!(owner("wlab12x0-host-1"), Some(12));
        assert_eq!([owner("wlab-12"), owner("lab12x0-switch"), owner("12x3")], [None; 3]);
    }

    #[test]
    fn hosts_talk_and_nothing_of_a_lab_is_left() -> Result<()> {
        let (namespace, sleeper) = run(async |network| {
            let host = network.add("host-1")?;
            let sleeper = host.command("sleep").arg("600").spawn()?;
            let answer = host.spawn("server", async move |node| {
                let listener = TcpListener::bind((node.address(), 5000)).await?;
                listener.accept().await?.0.write_all(b"hello").await?;
                Ok(())
            })?;
            let text = crate::wait_until("an answer", Duration::from_secs(5), async || {
                let mut text = String::new();
                TcpStream::connect((host.address(), 5000)).await?.read_to_string(&mut text).await?;
                Ok(text)
            })
            .await?;
            ensure!(text == "hello");
            answer.join()?;
            ensure!(host.pids().contains(&sleeper.id().cast_signed()));
            Ok((host.namespace().to_owned(), sleeper))
        })?;
        let mut sleeper = sleeper;
        ensure!(!sleeper.wait()?.success(), "it was killed with its host");
        let list = Command::new("ip").args(["netns", "list"]).output()?;
        ensure!(!String::from_utf8_lossy(&list.stdout).contains(&namespace));
        Ok(())
    }
}
