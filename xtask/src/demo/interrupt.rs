//! Ctrl-C and SIGTERM as a flag that the demo looks at, so that every exit goes through the same teardown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Whether the user asked to stop.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on the two signals set the flag instead of ending the process.
    pub(crate) fn install() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGINT, Arc::clone(&flag))?;
        signal_hook::flag::register(SIGTERM, Arc::clone(&flag))?;
        Ok(Self(flag))
    }

    /// Whether a signal came.
    pub(crate) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails if a signal came.
    pub(crate) fn check(&self) -> Result<()> {
        if self.came() { bail!("interrupted") } else { Ok(()) }
    }

    /// Waits until `look` gives something.
    ///
    /// # Errors
    /// The limit passed (the message ends with what `look` said last), `look` failed, or a signal came.
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Result<Result<T, String>>,
    ) -> Result<T> {
        let begin = Instant::now();
        loop {
            self.check()?;
            match look()? {
                Ok(found) => return Ok(found),
                Err(last) if begin.elapsed() > limit => bail!("no {what} within {limit:?}: {last}"),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}
