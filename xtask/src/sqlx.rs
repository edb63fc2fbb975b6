//! The stored results of checking SQL against the schema (`.sqlx`), so that a fresh clone builds without a database.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::scratch_postgres::ScratchPostgres;
use crate::{packages, workspace};

const PACKAGE: &str = "windlass-db";

/// Writes `.sqlx` anew.
///
/// # Errors
/// A query does not fit the migrations, or PostgreSQL cannot be started.
pub(crate) fn prepare() -> Result<()> {
    let fresh = fresh()?;
    let stored = workspace::root().join(".sqlx");
    if stored.exists() {
        std::fs::remove_dir_all(&stored)?;
    }
    std::fs::create_dir(&stored)?;
    for (name, text) in &fresh {
        std::fs::write(stored.join(name), text)?;
    }
    println!("{}: {} queries", stored.display(), fresh.len());
    Ok(())
}

/// Fails when `.sqlx` is not what the code and the migrations say.
///
/// # Errors
/// It differs; the message names the remedy.
pub(crate) fn check() -> Result<()> {
    let fresh = fresh()?;
    let stored = files(&workspace::root().join(".sqlx"))?;
    let missing = fresh.keys().filter(|name| !stored.contains_key(*name)).count();
    let surplus = stored.keys().filter(|name| !fresh.contains_key(*name)).count();
    let changed = fresh.iter().filter(|(name, text)| stored.get(*name).is_some_and(|old| old != *text)).count();
    if missing + surplus + changed > 0 {
        bail!(".sqlx: {missing} missing, {surplus} surplus, {changed} changed; run `cargo xtask sqlx-prepare`");
    }
    Ok(())
}

/// Checks every query of the one crate that has SQL against a database made from the migrations.
fn fresh() -> Result<BTreeMap<String, String>> {
    packages::ensure(packages::Consent::Ask)?;
    let database = ScratchPostgres::start()?;
    let crate_folder = workspace::root().join("control-plane/db");
    database.apply(&crate_folder.join("migrations"))?;
    let folder = tempfile::tempdir()?;
    // The macros write while they are compiled, and cargo cannot know that the environment changed.
    let source = crate_folder.join("src/lib.rs");
    std::fs::File::options().append(true).open(&source)?.set_modified(std::time::SystemTime::now())?;
    workspace::run(
        workspace::cargo(&["check", "--quiet", "--package", PACKAGE, "--all-targets"])
            .env("SQLX_OFFLINE", "false")
            .env("SQLX_OFFLINE_DIR", folder.path())
            .env("DATABASE_URL", database.url()),
    )?;
    files(folder.path())
}

fn files(folder: &Path) -> Result<BTreeMap<String, String>> {
    if !folder.exists() {
        return Ok(BTreeMap::new());
    }
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        if name.starts_with("query-") {
            files.insert(name, std::fs::read_to_string(&path)?);
        }
    }
    Ok(files)
}
