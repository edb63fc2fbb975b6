//! The Debian packages that the databases and the tests' networks come from.
//!
//! Invariant: installing them starts no database and makes no cluster; Windlass runs its own. A machine that has the
//! programs from elsewhere is left alone.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Whether the user agreed beforehand to installing packages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    /// Ask on the terminal, unless CI runs as root.
    Ask,
    /// Agreed.
    Given,
}

/// Installs what is missing.
///
/// # Errors
/// Something is missing and the user refused, cannot be asked, or installing failed.
pub(crate) fn ensure(consent: Consent) -> Result<()> {
    install_missing(consent, missing())
}

/// As [`ensure`], with the clients whose suites the tests run.
///
/// # Errors
/// As [`ensure`].
pub(crate) fn ensure_with_clients(consent: Consent) -> Result<()> {
    let mut missing = missing();
    for (file, package) in [
        ("/usr/include/postgresql/libpq-fe.h", "libpq-dev"),
        ("/usr/lib/python3/dist-packages/psycopg", "python3-psycopg"),
        ("/usr/lib/python3/dist-packages/psycopg2", "python3-psycopg2"),
        ("/usr/share/java/postgresql.jar", "libpostgresql-jdbc-java"),
    ] {
        if !Path::new(file).exists() {
            missing.push(package);
        }
    }
    if !workspace::has_program("javac") {
        missing.push("default-jdk-headless");
    }
    install_missing(consent, missing)
}

/// As [`ensure`], with what high availability and the proxy are measured beside.
///
/// # Errors
/// As [`ensure`].
pub(crate) fn ensure_with_peers(consent: Consent) -> Result<()> {
    let mut missing = missing();
    if !workspace::has_program("pg_autoctl") {
        missing.extend(["pg-auto-failover-cli", "postgresql-15-auto-failover"]);
    }
    if !Path::new("/usr/sbin/pgbouncer").exists() && !workspace::has_program("pgbouncer") {
        missing.push("pgbouncer");
    }
    install_missing(consent, missing)
}

fn install_missing(consent: Consent, missing: Vec<&'static str>) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !workspace::has_program("apt-get") {
        bail!(
            "programs of PostgreSQL, MariaDB or the network are missing (Debian packages: {list}); install them and run this again"
        );
    }
    if consent == Consent::Ask && !agreed(&list)? {
        bail!("not installed: {list}; install them yourself or run this with --yes");
    }
    install(&missing)
}

/// The server programs of the newest PostgreSQL of this machine.
///
/// # Errors
/// There is none.
pub(crate) fn postgres_directory() -> Result<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<(u32, PathBuf)> = debian
        .filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").is_file() && bin.join("postgres").is_file())
        .collect();
    found.sort();
    if let Some((_, bin)) = found.pop() {
        return Ok(bin);
    }
    let initdb = workspace::program("initdb").context("no PostgreSQL server programs on this machine")?;
    Ok(initdb.parent().expect("a program lies in a directory").to_path_buf())
}

fn missing() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if postgres_directory().is_err() {
        missing.extend(["postgresql", "postgresql-contrib"]);
    }
    if !workspace::has_program("psql") {
        missing.push("postgresql-client");
    }
    // The -core package has the server without a service that starts by itself.
    if !workspace::has_program("mariadbd") || !workspace::has_program("mariadb-install-db") {
        missing.push("mariadb-server-core");
    }
    if !workspace::has_program("mariadb") {
        missing.push("mariadb-client");
    }
    // The lab of several hosts on one machine.
    if !workspace::has_program("ip") {
        missing.push("iproute2");
    }
    if !workspace::has_program("nft") {
        missing.push("nftables");
    }
    missing
}

fn agreed(list: &str) -> Result<bool> {
    if nix::unistd::geteuid().is_root() && std::env::var_os("CI").is_some() {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    print!("These Debian packages are missing: {list}\nInstall them now? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn install(packages: &[&str]) -> Result<()> {
    workspace::run(as_root("apt-get").args(["update", "-qq"]))?;
    let quiet = NoCluster::arrange()?;
    let result = workspace::run(
        as_root("env")
            .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "--no-install-recommends"])
            .args(packages),
    );
    quiet.undo().and(result)
}

fn as_root(program: &str) -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// While it stands, Debian's packages make no PostgreSQL cluster of their own and start no service.
struct NoCluster {
    /// We made the policy, so we remove it.
    policy: bool,
}

impl NoCluster {
    const DIRECTORY: &'static str = "/etc/postgresql-common/createcluster.d";
    const FILE: &'static str = "/etc/postgresql-common/createcluster.d/windlass-xtask.conf";
    /// What Debian's packages ask before they start a service; 101 is no.
    const POLICY: &'static str = "/usr/sbin/policy-rc.d";

    fn arrange() -> Result<Self> {
        workspace::run(as_root("mkdir").args(["-p", Self::DIRECTORY]))?;
        let script = format!("echo 'create_main_cluster = false' > {}", Self::FILE);
        workspace::run(as_root("sh").args(["-c", &script]))?;
        let policy = !Path::new(Self::POLICY).exists();
        if policy {
            let script = format!("printf '#!/bin/sh\\nexit 101\\n' > {0} && chmod 755 {0}", Self::POLICY);
            workspace::run(as_root("sh").args(["-c", &script]))?;
        }
        Ok(Self { policy })
    }

    fn undo(self) -> Result<()> {
        if self.policy {
            workspace::run(as_root("rm").args(["-f", Self::POLICY]))?;
        }
        if Path::new(Self::FILE).exists() { workspace::run(as_root("rm").arg(Self::FILE)) } else { Ok(()) }
    }
}
