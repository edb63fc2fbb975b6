//! Finds PostgreSQL's programs on the host.

use std::path::PathBuf;

use windlass_core::engine::Engine;

use crate::{
    engines::{Installation, version},
    host::account::Account,
};

/// Debian puts each major version below `/usr/lib/postgresql`, the PGDG packages of Red Hat below `/usr/pgsql-*`.
pub(super) async fn discover(directories: &[PathBuf], account: &Account) -> Vec<Installation> {
    let mut places = directories.to_vec();
    places.extend(version::below("/usr/lib/postgresql", "bin"));
    places.extend(version::below("/usr", "bin").into_iter().filter(|path| path.to_string_lossy().contains("/pgsql-")));
    places.push("/usr/local/pgsql/bin".into());
    places.extend(version::search_path());
    let mut found: Vec<Installation> = Vec::new();
    for place in places {
        let (server, initialiser) = (place.join("postgres"), place.join("initdb"));
        if !server.is_file() || !initialiser.is_file() {
            continue;
        }
        let said = version::ask(&server, account).await.unwrap_or_default();
        let Some(full) = version::number_in(&said).filter(|_| said.contains("PostgreSQL")) else { continue };
        let major = full.split('.').next().unwrap_or(full).to_owned();
        if found.iter().all(|known| known.version != major) {
            let full_version = full.to_owned();
            found.push(Installation { engine: Engine::Postgres, version: major, full_version, server, initialiser });
        }
    }
    found
}
