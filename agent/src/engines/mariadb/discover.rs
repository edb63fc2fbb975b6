//! Finds MariaDB's programs on the host.

use std::path::{Path, PathBuf};

use windlass_core::engine::Engine;

use crate::{
    engines::{Installation, version},
    host::account::Account,
};

/// Packages put the server into `sbin` or `libexec` and the installer into `bin`; archives put both below one root.
pub(super) async fn discover(directories: &[PathBuf], account: &Account) -> Vec<Installation> {
    let mut places = directories.to_vec();
    places.extend(["/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/usr/local/mysql/bin"].map(PathBuf::from));
    places.extend(version::below("/opt", "bin").into_iter().filter(|path| path.to_string_lossy().contains("mariadb")));
    places.extend(version::search_path());
    let mut found: Vec<Installation> = Vec::new();
    for place in places {
        let server = place.join("mariadbd");
        let Some(initialiser) = server.is_file().then(|| initialiser(&place)).flatten() else { continue };
        let said = version::ask(&server, account).await.unwrap_or_default();
        let Some(full) = version::number_in(&said).filter(|_| said.contains("MariaDB")) else { continue };
        let series = full.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
        if found.iter().all(|known| known.version != series) {
            let full_version = full.to_owned();
            found.push(Installation { engine: Engine::Mariadb, version: series, full_version, server, initialiser });
        }
    }
    found
}

fn initialiser(place: &Path) -> Option<PathBuf> {
    let root = place.parent().unwrap_or(place);
    [place.to_owned(), root.join("bin"), root.join("scripts")]
        .into_iter()
        .map(|directory| directory.join("mariadb-install-db"))
        .find(|program| program.is_file())
}
