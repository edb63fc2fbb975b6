//! One host: a namespace, its address, and whatever lives in it.

use std::ffi::OsStr;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::tool;

/// One host. A clone is the same host.
#[derive(Debug, Clone)]
pub struct Node {
    name: String,
    namespace: String,
    /// The name of the switch's end of its cable.
    port: String,
    switch: String,
    address: Ipv4Addr,
}

/// Something that runs in a host's network on a thread of its own.
#[derive(Debug)]
pub struct Task<T>(std::thread::JoinHandle<Result<T>>);

impl<T> Task<T> {
    /// Waits for its end.
    ///
    /// # Errors
    /// It failed or panicked.
    pub fn join(self) -> Result<T> {
        self.0.join().map_err(|_| anyhow!("a task of a host panicked"))?
    }

    /// Whether it ended.
    pub fn ended(&self) -> bool {
        self.0.is_finished()
    }
}

impl Node {
    pub(super) fn join(prefix: &str, switch: &str, name: &str, address: Ipv4Addr) -> Result<Self> {
        let namespace = format!("{prefix}-{name}");
        let port = format!("port{}", address.octets()[3]);
        tool::ip(&format!("netns add {namespace}"))?;
        tool::ip(&format!("link add {port} netns {switch} type veth peer name eth0 netns {namespace}"))?;
        tool::ip(&format!("-n {switch} link set {port} master br0 up"))?;
        tool::ip(&format!("-n {namespace} addr add {address}/24 dev eth0"))?;
        tool::ip(&format!("-n {namespace} link set lo up"))?;
        tool::ip(&format!("-n {namespace} link set eth0 up"))?;
        Ok(Self { name: name.to_owned(), namespace, port, switch: switch.to_owned(), address })
    }

    /// Its name in the lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The name of its namespace on this machine.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A command that runs in its network. The command's process is the program itself, not a wrapper.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(self.nsenter()).arg(program);
        command
    }

    /// The argument by which `nsenter` finds it.
    pub fn nsenter(&self) -> String {
        format!("--net={}", self.file().display())
    }

    /// Moves the calling thread, and those that it makes from then on, into its network.
    ///
    /// # Errors
    /// The system refused.
    pub fn enter(&self) -> Result<()> {
        let file = File::open(self.file()).with_context(|| format!("no namespace {}", self.namespace))?;
        Ok(setns(file, CloneFlags::CLONE_NEWNET)?)
    }

    /// Runs something in its network, on a thread with a runtime of its own.
    ///
    /// # Errors
    /// No thread was to be had.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl AsyncFnOnce(Node) -> Result<T> + Send + 'static,
    ) -> Result<Task<T>> {
        let node = self.clone();
        let body = move || {
            node.enter()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let result = runtime.block_on(work(node));
            runtime.shutdown_background();
            result
        };
        Ok(Task(std::thread::Builder::new().name(name.to_owned()).spawn(body)?))
    }

    /// The processes that live in it.
    pub fn pids(&self) -> Vec<i32> {
        pids(&self.namespace)
    }

    /// Sends a signal to every process in it, also to those that are born meanwhile.
    pub fn signal(&self, signal: Signal) {
        signal_all(&self.namespace, signal);
    }

    /// Pulls or plugs its cable at the switch.
    pub(super) fn cable(&self, state: Cable) -> Result<()> {
        let word = match state {
            Cable::Plugged => "up",
            Cable::Pulled => "down",
        };
        tool::ip(&format!("-n {} link set {} {word}", self.switch, self.port))
    }

    pub(super) fn run(&self, program: &str, words: &[&str]) -> Result<String> {
        tool::inside(&self.namespace, program, words)
    }

    fn file(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.namespace)
    }
}

/// Whether a host is on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cable {
    Plugged,
    Pulled,
}

/// Kills whatever lives in a namespace and removes it.
pub(super) fn remove(namespace: &str) {
    let begin = Instant::now();
    signal_all(namespace, Signal::SIGKILL);
    while !pids(namespace).is_empty() && begin.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
        signal_all(namespace, Signal::SIGKILL);
    }
    // Only what is there can be removed, and a lab that was never finished may lack some.
    let _ = tool::ip(&format!("netns del {namespace}"));
}

/// Until no process is left that has not had it: a process may fork while the others get it.
fn signal_all(namespace: &str, signal: Signal) {
    let mut done = Vec::new();
    for _ in 0..20 {
        let fresh: Vec<i32> = pids(namespace).into_iter().filter(|pid| !done.contains(pid)).collect();
        if fresh.is_empty() {
            return;
        }
        for pid in fresh {
            let _ = kill(Pid::from_raw(pid), signal);
            done.push(pid);
        }
    }
}

/// Processes, zombies excepted, by the inode of their network namespace. Never the caller itself.
fn pids(namespace: &str) -> Vec<i32> {
    let Ok(meta) = std::fs::metadata(Path::new("/run/netns").join(namespace)) else { return Vec::new() };
    let wanted = format!("net:[{}]", meta.ino());
    let own = std::process::id().cast_signed();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let inside = |pid: &i32| {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/net"));
        link.is_ok_and(|link| link.as_os_str() == OsStr::new(&wanted))
    };
    pids.filter(|pid| *pid != own).filter(inside).collect()
}
