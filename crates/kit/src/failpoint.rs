//! Places in the code where a test can make things go wrong: an error, a panic, a death of the process, a pause.
//!
//! Why: crashes between two writes are where durable systems break, and only an exact place finds them. The handle is
//! passed in, so that tests in one process do not disturb each other; for real binaries it is read from
//! `WINDLASS_FAILPOINTS`. Invariant: a handle made by [`Failpoints::none`] (the default) does nothing and costs one
//! branch.
//!
//! The text is `name=action;name=action`. Actions: `off`, `error`, `panic`, `abort` (the process dies at once, as by
//! kill -9), `pause` (until released). In brackets behind the action: `once`, `times=N` (then off), `skip=N` (let the
//! first N hits pass), for example `journal.after_accept=abort(skip=2,once)`.

use std::{collections::HashMap, str::FromStr, sync::Arc};

use tokio::sync::watch;
use windlass_core::Error;

/// Environment variable with the failpoints of a real binary.
pub const ENV: &str = "WINDLASS_FAILPOINTS";

/// The handle: cheap to clone, passed to whatever has failpoints.
#[derive(Debug, Clone, Default)]
pub struct Failpoints(Option<Arc<watch::Sender<Points>>>);

type Points = HashMap<String, Point>;

/// What happens when an armed point is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Off,
    /// `hit` gives an error.
    Error,
    /// The task panics.
    Panic,
    /// The process dies without any clean-up.
    Abort,
    /// `hit` waits until the point is set to something else.
    Pause,
}

/// An action and how often it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    action: Action,
    skip: u64,
    times: u64,
}

#[derive(Debug, Default)]
struct Point {
    plan: Plan,
    hits: u64,
    waiting: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Action::Off.always()
    }
}

impl Action {
    /// At every hit.
    pub fn always(self) -> Plan {
        Plan { action: self, skip: 0, times: u64::MAX }
    }

    /// At the first hit only.
    pub fn once(self) -> Plan {
        Plan { times: 1, ..self.always() }
    }

    /// At the hit after the first `skip` ones, and never again.
    pub fn after(self, skip: u64) -> Plan {
        Plan { skip, ..self.once() }
    }
}

impl Failpoints {
    /// No failpoints, for ever.
    pub fn none() -> Self {
        Self(None)
    }

    /// A handle whose points a test sets.
    pub fn armed() -> Self {
        Self(Some(Arc::new(watch::Sender::new(Points::new()))))
    }

    /// From the environment variable [`ENV`]; none if it is unset or empty.
    ///
    /// # Errors
    /// As [`Failpoints::parse`].
    pub fn from_env() -> Result<Self, Error> {
        match std::env::var(ENV) {
            Ok(text) if !text.trim().is_empty() => {
                tracing::warn!(failpoints = text, "failpoints are armed: this process fails on purpose");
                Self::parse(&text)
            }
            _ => Ok(Self::none()),
        }
    }

    /// From text as the module describes it.
    ///
    /// # Errors
    /// `INVALID_FIELD` quoting the entry that is wrong.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let points = Self::armed();
        for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (name, plan) =
                entry.split_once('=').ok_or_else(|| Error::invalid(ENV, format!("{entry:?} is not name=action")))?;
            points.set(name.trim(), plan.parse()?);
        }
        Ok(points)
    }

    /// Sets what the point does from now on and forgets its hits. Whoever is paused there goes on.
    /// Does nothing on a handle made by [`Failpoints::none`].
    pub fn set(&self, name: &str, plan: Plan) {
        if let Some(points) = &self.0 {
            points.send_modify(|points| {
                let point = points.entry(name.to_owned()).or_default();
                (point.plan, point.hits) = (plan, 0);
            });
        }
    }

    /// How often the point was hit since it was set (or ever, if it was not).
    pub fn hits(&self, name: &str) -> u64 {
        self.0.as_ref().and_then(|points| points.borrow().get(name).map(|point| point.hits)).unwrap_or(0)
    }

    /// Waits until somebody is paused at the point.
    pub async fn paused(&self, name: &str) {
        if let Some(points) = &self.0 {
            let waiting = |points: &Points| points.get(name).is_some_and(|point| point.waiting > 0);
            points.subscribe().wait_for(waiting).await.expect("the sender lives as long as this handle");
        }
    }

    /// Passes the point. Does what was set for it.
    ///
    /// # Errors
    /// `INTERNAL` if the point was set to fail.
    ///
    /// # Panics
    /// If the point was set to panic.
    pub async fn hit(&self, name: &str) -> Result<(), Error> {
        let Some(points) = &self.0 else { return Ok(()) };
        let mut action = Action::Off;
        points.send_modify(|points| {
            let point = points.entry(name.to_owned()).or_default();
            let nth = point.hits;
            point.hits += 1;
            if nth >= point.plan.skip && nth - point.plan.skip < point.plan.times {
                action = point.plan.action;
            }
        });
        match action {
            Action::Off => Ok(()),
            Action::Error => Err(Error::internal(format!("failpoint {name} failed on purpose"))),
            Action::Panic => panic!("failpoint {name} panicked on purpose"),
            Action::Abort => std::process::abort(),
            Action::Pause => {
                Self::pause(points, name).await;
                Ok(())
            }
        }
    }

    async fn pause(points: &watch::Sender<Points>, name: &str) {
        let _waiting = Waiting::new(points, name);
        let released = |points: &Points| points.get(name).is_none_or(|point| point.plan.action != Action::Pause);
        points.subscribe().wait_for(released).await.expect("the sender outlives its borrower");
    }
}

/// Counts one task that is paused, also if the task is dropped there.
struct Waiting<'a> {
    points: &'a watch::Sender<Points>,
    name: &'a str,
}

impl<'a> Waiting<'a> {
    fn new(points: &'a watch::Sender<Points>, name: &'a str) -> Self {
        points.send_modify(|points| points.entry(name.to_owned()).or_default().waiting += 1);
        Self { points, name }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.points.send_modify(|points| points.entry(self.name.to_owned()).or_default().waiting -= 1);
    }
}

impl FromStr for Plan {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let wrong = |what: &str| Error::invalid(ENV, format!("{text:?}: {what}"));
        let (action, modifiers) = match text.split_once('(') {
            Some((action, rest)) => (action, rest.strip_suffix(')').ok_or_else(|| wrong("the bracket is not closed"))?),
            None => (text, ""),
        };
        let mut plan = match action.trim() {
            "off" => Action::Off,
            "error" => Action::Error,
            "panic" => Action::Panic,
            "abort" => Action::Abort,
            "pause" => Action::Pause,
            _ => return Err(wrong("the action is none of off, error, panic, abort, pause")),
        }
        .always();
        for modifier in modifiers.split(',').map(str::trim).filter(|modifier| !modifier.is_empty()) {
            let number = |text: &str| text.parse().map_err(|_| wrong("times and skip want a number"));
            match modifier.split_once('=') {
                None if modifier == "once" => plan.times = 1,
                Some(("times", n)) => plan.times = number(n)?,
                Some(("skip", n)) => plan.skip = number(n)?,
                _ => return Err(wrong("in brackets may stand once, times=N and skip=N")),
            }
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unarmed_handle_passes_everything() {
        let points = Failpoints::none();
        points.set("a", Action::Error.always());
        points.hit("a").await.expect("unarmed");
        assert_eq!(points.hits("a"), 0);
    }

    #[tokio::test]
    async fn an_error_comes_at_the_hits_asked_for() {
        let points = Failpoints::parse("a=error(skip=1,times=2); b = error(once)").expect("parses");
        let mut results = Vec::new();
        for _ in 0..5 {
            results.push(points.hit("a").await.is_err());
        }
        assert_eq!(results, [false, true, true, false, false]);
        assert_eq!(points.hit("b").await.expect_err("once").message, "failpoint b failed on purpose");
        points.hit("b").await.expect("only once");
        points.hit("c").await.expect("never set");
        assert_eq!((points.hits("a"), points.hits("b"), points.hits("c")), (5, 2, 1));
    }

    #[tokio::test]
    async fn a_pause_holds_until_it_is_released_and_clones_share_it() {
        let points = Failpoints::armed();
        points.set("a", Action::Pause.always());
        let other = points.clone();
        let task = tokio::spawn(async move { other.hit("a").await });
        points.paused("a").await;
        assert!(!task.is_finished());
        points.set("a", Action::Off.always());
        task.await.expect("no panic").expect("no error");
    }

    #[tokio::test]
    async fn a_task_dropped_in_a_pause_no_longer_counts_as_paused() {
        let points = Failpoints::armed();
        points.set("a", Action::Pause.always());
        let other = points.clone();
        let task = tokio::spawn(async move { other.hit("a").await });
        points.paused("a").await;
        task.abort();
        task.await.expect_err("aborted");
        assert_eq!(points.0.as_ref().expect("armed").borrow()["a"].waiting, 0);
    }

    #[tokio::test]
    async fn a_panic_is_a_panic() {
        let points = Failpoints::parse("a=panic").expect("parses");
        let join = tokio::spawn(async move { points.hit("a").await }).await;
        assert!(join.expect_err("panics").is_panic());
    }

    #[test]
    fn wrong_text_is_quoted() {
        for (text, expected) in [
            ("a", "\"a\" is not name=action"),
            ("a=explode", "none of off, error"),
            ("a=error(once", "not closed"),
            ("a=error(times=x)", "want a number"),
            ("a=error(twice)", "may stand once"),
        ] {
            let error = Failpoints::parse(text).expect_err(text);
            assert!(error.message.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn an_abort_kills_the_process_without_clean_up() {
        // The test runs itself again in a process of its own, which must die.
        if std::env::var_os(ENV).is_some() {
            let points = Failpoints::from_env().expect("parses");
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
            let _ = runtime.block_on(points.hit("die"));
            println!("survived");
            return;
        }
        let output = std::process::Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "failpoint::tests::an_abort_kills_the_process_without_clean_up", "--nocapture"])
            .env(ENV, "die=abort")
            .output()
            .expect("runs");
        assert!(!output.status.success());
        assert!(!String::from_utf8_lossy(&output.stdout).contains("survived"));
    }
}
