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

use super::group::Group;
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
        if let Some(group) = Group::of(&namespace) {
            group.make()?;
        }
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

    /// A command that runs on it. The command's process is the program itself, not a wrapper.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.entering();
        command.arg(program);
        command
    }

    /// A command that still lacks the program: options of `nsenter` may come first.
    pub fn entering(&self) -> Command {
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// The words before a program that is to run on it.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(group) = self.group() {
            let into = group.entrance().to_string_lossy().into_owned();
            words.extend(["sh".to_owned(), "-c".to_owned(), "echo $$ >\"$0\" && exec \"$@\"".to_owned(), into]);
        }
        words.extend(["nsenter".to_owned(), format!("--net={}", file(&self.namespace).display())]);
        words
    }

    pub(super) fn group(&self) -> Option<Group> {
        Group::of(&self.namespace)
    }

    /// Moves the calling thread, and those that it makes from then on, into its network.
    ///
    /// # Errors
    /// The system refused.
    pub fn enter(&self) -> Result<()> {
        enter(&file(&self.namespace))
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
        spawn_in(file(&self.namespace), name, async move || work(node).await)
    }

    /// Runs something in its switch's network, on a thread with a runtime of its own.
    pub(super) fn spawn_at_switch<T: Send + 'static>(
        &self,
        name: &str,
        work: impl AsyncFnOnce() -> Result<T> + Send + 'static,
    ) -> Result<Task<T>> {
        spawn_in(file(&self.switch), name, work)
    }

    /// The name of something at the switch that belongs to this host's cable.
    pub(super) fn part(&self, word: &str) -> String {
        format!("{word}{}", self.address.octets()[3])
    }

    /// Leads its cable by way of two devices, which are at the switch already: near to the host, and far from it.
    pub(super) fn detour(&self) -> Result<()> {
        let (switch, bridge) = (&self.switch, self.part("lag"));
        tool::ip(&format!("-n {switch} link add {bridge} type bridge forward_delay 0"))?;
        tool::ip(&format!("-n {switch} link set {bridge} up"))?;
        tool::ip(&format!("-n {switch} link set {} master {bridge} up", self.part("near")))?;
        tool::ip(&format!("-n {switch} link set {} master br0 up", self.part("far")))?;
        tool::ip(&format!("-n {switch} link set {} master {bridge}", self.port))
    }

    /// Leads its cable to the switch again.
    pub(super) fn straight(&self) -> Result<()> {
        tool::ip(&format!("-n {} link set {} master br0", self.switch, self.port))?;
        tool::ip(&format!("-n {} link del {}", self.switch, self.part("lag")))
    }

    /// The processes that live in it.
    pub fn pids(&self) -> Vec<i32> {
        pids(&self.namespace)
    }

    /// Sends a signal to every process in it, also to those that are born meanwhile.
    pub fn signal(&self, signal: Signal) {
        if let (Signal::SIGKILL, Some(group)) = (signal, self.group()) {
            group.kill();
        }
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
}

fn file(namespace: &str) -> PathBuf {
    Path::new("/run/netns").join(namespace)
}

fn enter(namespace: &Path) -> Result<()> {
    let file = File::open(namespace).with_context(|| format!("no namespace {}", namespace.display()))?;
    Ok(setns(file, CloneFlags::CLONE_NEWNET)?)
}

fn spawn_in<T: Send + 'static>(
    namespace: PathBuf,
    name: &str,
    work: impl AsyncFnOnce() -> Result<T> + Send + 'static,
) -> Result<Task<T>> {
    let body = move || {
        enter(&namespace)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(work());
        runtime.shutdown_background();
        result
    };
    Ok(Task(std::thread::Builder::new().name(name.to_owned()).spawn(body)?))
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
    if let Some(group) = Group::of(namespace) {
        group.remove();
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
    let Ok(meta) = std::fs::metadata(file(namespace)) else { return Vec::new() };
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
