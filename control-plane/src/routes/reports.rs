//! What proxies report, in memory: which of them are connected, pauses that took effect, evidence from real traffic.
//!
//! Nothing here is stored: a report is repeated while it holds, and after a start of this node the next one comes soon.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use windlass_core::id::{InstanceId, MemberId, ProxyId};

/// A proxy that was not heard for so long is not waited for.
const SILENT: Duration = Duration::from_secs(5);
/// Evidence is worth nothing after this.
const STALE: Duration = Duration::from_secs(30);

/// The newest reports.
#[derive(Debug)]
pub struct Reports {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

/// A process of a proxy; while one hands over to the next there are two.
type Process = (ProxyId, String);

#[derive(Debug, Default)]
struct State {
    heard: HashMap<Process, Instant>,
    pauses: HashMap<InstanceId, HashMap<Process, (u64, u32, Instant)>>,
    evidence: HashMap<InstanceId, HashMap<(Process, MemberId), Traffic>>,
}

#[derive(Debug)]
struct Traffic {
    failed: u32,
    done: u32,
    error: String,
    at: Instant,
}

/// A pause that took effect in one process of a proxy: none of its transactions runs on the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseSeen {
    /// The proxy.
    pub proxy: ProxyId,
    /// Its process.
    pub session: String,
    /// The route's rev that paused.
    pub rev: u64,
    /// Clients that wait there.
    pub held: u32,
}

/// What a proxy's newest report said of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceSeen {
    /// The proxy.
    pub proxy: ProxyId,
    /// The member.
    pub member: MemberId,
    /// Connections that failed.
    pub failed: u32,
    /// Connections that were made.
    pub done: u32,
    /// The last failure.
    pub error: String,
    /// How old the report is.
    pub age: Duration,
}

impl Reports {
    /// A process of a proxy spoke.
    pub fn heard(&self, proxy: ProxyId, session: &str) {
        self.lock().heard.insert((proxy, session.to_owned()), Instant::now());
    }

    /// Whether this process of a proxy spoke a short while ago.
    pub fn knows(&self, proxy: ProxyId, session: &str) -> bool {
        let process = (proxy, session.to_owned());
        self.lock().heard.get(&process).is_some_and(|at| at.elapsed() < SILENT)
    }

    /// A process of a proxy is gone, or may not speak any more.
    pub fn gone(&self, proxy: ProxyId) {
        let mut state = self.lock();
        state.heard.retain(|(heard, _), _| *heard != proxy);
        drop(state);
        self.tell();
    }

    /// A report: the pauses that last in this process, and evidence since its former report.
    pub fn take(
        &self,
        proxy: ProxyId,
        session: &str,
        pauses: Vec<(InstanceId, u64, u32)>,
        evidence: Vec<(InstanceId, MemberId, u32, u32, String)>,
    ) {
        let (process, at) = ((proxy, session.to_owned()), Instant::now());
        let mut state = self.lock();
        state.heard.insert(process.clone(), at);
        let news = !pauses.is_empty() || !evidence.is_empty();
        for (instance, rev, held) in pauses {
            state.pauses.entry(instance).or_default().insert(process.clone(), (rev, held, at));
        }
        for (instance, member, failed, done, error) in evidence {
            let traffic = Traffic { failed, done, error, at };
            state.evidence.entry(instance).or_default().insert((process.clone(), member), traffic);
        }
        drop(state);
        if news {
            self.tell();
        }
    }

    /// Processes of proxies that speak, and so have to be waited for in a pause.
    pub fn connected(&self) -> Vec<(ProxyId, String)> {
        let mut state = self.lock();
        state.heard.retain(|_, at| at.elapsed() < SILENT);
        state.heard.keys().cloned().collect()
    }

    /// Pauses of the instance's route that took effect, of processes that speak.
    pub fn pauses(&self, instance: InstanceId) -> Vec<PauseSeen> {
        let state = self.lock();
        let of = state.pauses.get(&instance).into_iter().flatten();
        of.filter(|(_, (_, _, at))| at.elapsed() < SILENT)
            .map(|((proxy, session), (rev, held, _))| PauseSeen {
                proxy: *proxy,
                session: session.clone(),
                rev: *rev,
                held: *held,
            })
            .collect()
    }

    /// Evidence about the instance's members that is not older than `within`.
    pub fn evidence(&self, instance: InstanceId, within: Duration) -> Vec<EvidenceSeen> {
        let state = self.lock();
        let of = state.evidence.get(&instance).into_iter().flatten();
        of.filter(|(_, traffic)| traffic.at.elapsed() <= within)
            .map(|(((proxy, _), member), traffic)| EvidenceSeen {
                proxy: *proxy,
                member: *member,
                failed: traffic.failed,
                done: traffic.done,
                error: traffic.error.clone(),
                age: traffic.at.elapsed(),
            })
            .collect()
    }

    /// Grows with each report that says something.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Drops what nobody needs any more.
    pub(super) fn sweep(&self) {
        let mut state = self.lock();
        state.pauses.retain(|_, of| {
            of.retain(|_, (_, _, at)| at.elapsed() < SILENT);
            !of.is_empty()
        });
        state.evidence.retain(|_, of| {
            of.retain(|_, traffic| traffic.at.elapsed() < STALE);
            !of.is_empty()
        });
    }

    fn tell(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Reports {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(0) }
    }
}
