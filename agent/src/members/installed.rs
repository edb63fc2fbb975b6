//! The engine versions of this host and their catalogues of parameters.
//!
//! Owns: `<state>/catalogues`, one file per whole version, so that an engine is asked once in its life.

use std::sync::{Arc, PoisonError, RwLock};

use windlass_core::{Error, engine::Engine, parameter::Catalogue};

use super::{Members, layout::Layout};
use crate::{
    engines::{Installation, Registry},
    host::{
        account::Account,
        files::{self, Owner},
    },
};

/// An engine version that this host has.
#[derive(Debug, Clone, PartialEq)]
pub struct InstalledEngine {
    /// The engine.
    pub engine: Engine,
    /// Major version as the engine counts it.
    pub version: String,
    /// The whole version.
    pub full_version: String,
    /// Its parameters; None until the engine was asked.
    pub catalogue: Option<Catalogue>,
}

/// An engine version with its programs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub(super) installation: Installation,
    pub(super) catalogue: Option<Arc<Catalogue>>,
}

/// The engine versions of this host.
#[derive(Default)]
pub(super) struct Installed(RwLock<Vec<Known>>);

impl Installed {
    pub(super) fn all(&self) -> Vec<Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn find(&self, engine: Engine, version: &str) -> Option<Installation> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let fits = |known: &&Known| known.installation.engine == engine && known.installation.version == version;
        known.iter().find(fits).map(|known| known.installation.clone())
    }

    /// Puts what was found now in the place of what was known, and says whether it differs.
    pub(super) fn replace(&self, found: Vec<Known>) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let differs = *known != found;
        *known = found;
        differs
    }
}

impl Members {
    /// Looks for engines on the host. Tells when there is something new.
    pub(super) async fn discover(&self) {
        let found = find(&self.registry, &self.config.engine_dirs, &self.accounts.database, &self.layout).await;
        if self.installed.replace(found) {
            self.news.changed();
        }
    }

    /// Keeps the catalogue of an engine version.
    ///
    /// # Errors
    /// `DISK_FULL`, `INTERNAL`.
    pub(super) fn keep_catalogue(&self, installation: &Installation, catalogue: Catalogue) -> Result<(), Error> {
        let bytes = serde_json::to_vec(&catalogue)
            .map_err(|error| Error::internal("a catalogue is no JSON").with_source(error))?;
        files::write_derived(&file(&self.layout, installation), &bytes, 0o644, Owner::Agent)?;
        let catalogue = Arc::new(catalogue);
        let mut all = self.installed.all();
        for known in all.iter_mut().filter(|known| known.installation == *installation) {
            known.catalogue = Some(catalogue.clone());
        }
        if self.installed.replace(all) {
            self.news.changed();
        }
        Ok(())
    }
}

async fn find(
    registry: &Registry,
    directories: &[std::path::PathBuf],
    account: &Account,
    layout: &Layout,
) -> Vec<Known> {
    let mut found = Vec::new();
    for driver in registry.iter() {
        for installation in driver.discover(directories, account).await {
            let text = files::read_text(&file(layout, &installation)).ok().flatten().unwrap_or_default();
            found.push(Known { installation, catalogue: serde_json::from_str(&text).ok().map(Arc::new) });
        }
    }
    found
}

fn file(layout: &Layout, installation: &Installation) -> std::path::PathBuf {
    layout.catalogues().join(format!("{}-{}.json", installation.engine, installation.full_version))
}
