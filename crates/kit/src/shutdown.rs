//! Tasks and their end: one handle that every long-lived part of a process carries.
//!
//! Owns: the cancellation token, the set of running tasks and what an unexpected death means. Invariants: every task has
//! a name; a task that panics or ends before its time is logged; if it was vital the whole process stops in order, so
//! that a supervisor restarts it instead of leaving half a program running.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;
use windlass_core::Error;

/// Whether the process can do without a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// Runs until shutdown. If it ends before, in whatever way, the process stops.
    Vital,
    /// May end at any time. An error or a panic is logged and costs nothing else.
    Optional,
}

/// The handle. Clones are the same shutdown.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Names of running tasks and how many of each.
    running: BTreeMap<&'static str, usize>,
    /// The first death of a vital task.
    failure: Option<Error>,
}

impl Shutdown {
    /// A shutdown that nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The token: cancelled when shutdown begins.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Waits until shutdown begins.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// Whether shutdown has begun.
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Begins shutdown.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Begins shutdown at the first SIGTERM or SIGINT. Call it inside the runtime.
    ///
    /// # Errors
    /// `INTERNAL` if the handlers cannot be installed.
    pub fn on_signals(&self) -> Result<(), Error> {
        let install =
            |kind| signal(kind).map_err(|error| Error::internal("cannot install a signal handler").with_source(error));
        let (mut terminate, mut interrupt) = (install(SignalKind::terminate())?, install(SignalKind::interrupt())?);
        let shutdown = self.clone();
        self.spawn("signals", TaskKind::Optional, async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                () = shutdown.begun() => return Ok(()),
            };
            tracing::info!(signal = name, "shutting down");
            shutdown.begin();
            Ok(())
        });
        Ok(())
    }

    /// Runs a task that [`Shutdown::finish`] waits for. The task watches [`Shutdown::begun`] (or the token) and ends by
    /// itself then.
    pub fn spawn<F>(&self, name: &'static str, kind: TaskKind, task: F)
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        *self.lock().running.entry(name).or_default() += 1;
        let shutdown = self.clone();
        // In a task of its own, so that a panic is seen and not only unwinds.
        let inner = tokio::spawn(task.instrument(tracing::info_span!("task", name)));
        self.tracker.spawn(async move {
            let outcome = match inner.await {
                Ok(outcome) => outcome,
                Err(join) => Err(Error::internal(format!("task {name} died: {join}"))),
            };
            shutdown.ended(name, kind, outcome);
        });
    }

    /// Waits for the end of shutdown: until it begins, and then until all tasks have ended or `grace` is over.
    ///
    /// # Errors
    /// The first death of a vital task; otherwise `DEADLINE_EXCEEDED` naming the tasks that did not end.
    pub async fn finish(&self, grace: Duration) -> Result<(), Error> {
        self.begun().await;
        self.tracker.close();
        let late = tokio::time::timeout(grace, self.tracker.wait()).await.is_err();
        let mut shared = self.lock();
        if let Some(failure) = shared.failure.take() {
            return Err(failure);
        }
        if late {
            let names = shared.running.keys().copied().collect::<Vec<_>>().join(", ");
            return Err(Error::new(
                windlass_core::ErrorKind::DeadlineExceeded,
                windlass_core::Reason::DeadlineExceeded,
                format!("these tasks did not end within {grace:?} of shutdown: {names}"),
            ));
        }
        Ok(())
    }

    fn ended(&self, name: &'static str, kind: TaskKind, outcome: Result<(), Error>) {
        let mut shared = self.lock();
        if let Some(count) = shared.running.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                shared.running.remove(name);
            }
        }
        let failure = match (kind, outcome) {
            (_, Ok(())) if self.has_begun() => return,
            (TaskKind::Optional, Ok(())) => return,
            (TaskKind::Vital, Ok(())) => Error::internal(format!("task {name} ended before shutdown")),
            (_, Err(error)) => error,
        };
        tracing::error!(task = name, error = failure.chain(), "a task died");
        if kind == TaskKind::Vital {
            shared.failure.get_or_insert(failure);
            self.begin();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // The data is valid after any panic: every change is a single assignment.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn tasks_that_end_when_asked_give_a_clean_end() {
        let shutdown = Shutdown::new();
        let watcher = shutdown.clone();
        shutdown.spawn("worker", TaskKind::Vital, async move {
            watcher.begun().await;
            Ok(())
        });
        shutdown.spawn("one-off", TaskKind::Optional, async { Ok(()) });
        shutdown.begin();
        shutdown.finish(GRACE).await.expect("clean");
    }

    #[tokio::test]
    async fn the_death_of_a_vital_task_stops_the_process_and_is_its_result() {
        for (task, expected) in [
            (
                Box::pin(async { Err(Error::internal("disk is gone")) })
                    as std::pin::Pin<Box<dyn Future<Output = _> + Send>>,
                "disk is gone",
            ),
            (Box::pin(async { Ok(()) }), "task worker ended before shutdown"),
            (Box::pin(async { panic!("boom") }), "task worker died"),
        ] {
            let shutdown = Shutdown::new();
            shutdown.spawn("worker", TaskKind::Vital, task);
            let error = shutdown.finish(GRACE).await.expect_err(expected);
            assert!(error.message.contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn the_death_of_an_optional_task_is_only_logged() {
        let shutdown = Shutdown::new();
        shutdown.spawn("helper", TaskKind::Optional, async { panic!("boom") });
        shutdown.tracker.close();
        shutdown.tracker.wait().await;
        assert!(!shutdown.has_begun());
        shutdown.begin();
        shutdown.finish(GRACE).await.expect("clean");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_named() {
        let shutdown = Shutdown::new();
        shutdown.spawn("stuck", TaskKind::Vital, std::future::pending());
        shutdown.begin();
        let error = shutdown.finish(GRACE).await.expect_err("stuck");
        assert!(error.message.ends_with("within 5s of shutdown: stuck"), "{error}");
    }

    #[tokio::test]
    async fn a_signal_begins_shutdown() {
        let shutdown = Shutdown::new();
        shutdown.on_signals().expect("handlers");
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).expect("signal");
        shutdown.finish(GRACE).await.expect("clean");
    }
}
