//! The settings that a running server has, beside those that it shall have.
//!
//! Owns: `conf/running.json`. Why: what waits for a restart is the difference to the start, and what a reload must
//! change is the difference to the last one. Invariant: written before a start or reload takes effect; a reload that
//! was cut short or refused leaves what it attempted, and the next one sets all of that again.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};
use windlass_core::Error;

use crate::host::files::{self, Owner};

const FILE: &str = "running.json";
/// Differs from every value: values have no zero bytes.
const UNKNOWN: &str = "\0";

type Settings = BTreeMap<String, String>;

/// The settings that a running server has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    /// Since its start.
    pub(super) started: Settings,
    /// Since its last reload.
    applied: Settings,
    /// By a reload that has not ended well.
    attempted: Option<Settings>,
}

impl Running {
    /// Of a server that starts with these.
    pub(super) fn starting(settings: &Settings) -> Self {
        Self { started: settings.clone(), applied: settings.clone(), attempted: None }
    }

    /// Reads the file; a missing or torn one says nothing.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub(super) fn read(conf: &Path) -> Result<Self, Error> {
        let text = files::read_text(&conf.join(FILE))?.unwrap_or_default();
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Writes the file.
    ///
    /// # Errors
    /// `DISK_FULL`, `INTERNAL`.
    pub(super) fn write(&self, conf: &Path) -> Result<(), Error> {
        let bytes =
            serde_json::to_vec(self).map_err(|error| Error::internal("settings are no JSON").with_source(error))?;
        files::write_derived(&conf.join(FILE), &bytes, 0o600, Owner::Agent)
    }

    /// Whether the server has exactly these.
    pub(super) fn has(&self, settings: &Settings) -> bool {
        self.attempted.is_none() && self.applied == *settings
    }

    /// What the server may have, with values that are in doubt made different from any.
    pub(super) fn before(&self) -> Settings {
        let attempted = self.attempted.as_ref().unwrap_or(&self.applied);
        let names = self.applied.keys().chain(attempted.keys());
        names
            .map(|name| {
                let sure = self.applied.get(name).filter(|value| attempted.get(name) == Some(value));
                (name.clone(), sure.cloned().unwrap_or_else(|| UNKNOWN.to_owned()))
            })
            .collect()
    }

    /// A reload begins.
    pub(super) fn attempting(mut self, settings: &Settings) -> Self {
        // What an earlier attempt may have set stays in doubt.
        self.applied = self.before();
        self.attempted = Some(settings.clone());
        self
    }

    /// The reload ended well.
    pub(super) fn applied(self, settings: &Settings) -> Self {
        Self { applied: settings.clone(), attempted: None, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::Change;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_reload_that_failed_is_undone_by_the_next() {
        let (old, new) = (settings(&[("a", "1"), ("b", "1")]), settings(&[("a", "2"), ("b", "1"), ("c", "1")]));
        let failed = Running::starting(&old).attempting(&new);
        assert!(!failed.has(&old) && !failed.has(&new));
        let before = failed.before();
        let change = Change { before: &before, after: &old };
        assert_eq!(change.differing(), [("c", None), ("a", Some("1"))]);
        let twice = failed.attempting(&old);
        let before = twice.before();
        assert_eq!(Change { before: &before, after: &old }.differing(), [("c", None), ("a", Some("1"))]);
        assert!(twice.applied(&old).has(&old));
    }

    #[test]
    fn a_torn_file_says_nothing() {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::write(dir.path().join(FILE), "{\"started\":").expect("write");
        assert_eq!(Running::read(dir.path()).expect("read"), Running::default());
        let running = Running::starting(&settings(&[("a", "1")]));
        running.write(dir.path()).expect("write");
        assert_eq!(Running::read(dir.path()).expect("read"), running);
    }
}
