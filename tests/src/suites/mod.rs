//! PostgreSQL's own clients, each with a script of what it offers: psql, libpq, psycopg 2 and 3, JDBC, tokio-postgres.
//!
//! The scripts lie in `tests/clients`; a script ends well only if everything was as it should be. They know nothing of
//! who serves them: what works directly has to work through a proxy.

mod tokio_client;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::database;

/// How a suite reaches a server.
#[derive(Debug, Clone)]
pub struct Reach {
    /// A name or an address that resolves, and what a certificate must be for.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Who.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// Which database.
    pub database: String,
    /// The CA that signed the server's certificate; None for no TLS.
    pub ca_file: Option<PathBuf>,
}

/// A client with a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// The command line.
    Psql,
    /// The library in C.
    Libpq,
    /// Python's, old and new.
    Psycopg,
    /// Java's.
    Jdbc,
    /// Rust's.
    TokioPostgres,
}

impl Suite {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Psql, Self::Libpq, Self::Psycopg, Self::Jdbc, Self::TokioPostgres];

    /// Runs the suite. What it writes stays in `directory`.
    ///
    /// # Errors
    /// Something was not as it should be, or the client is not installed.
    pub async fn run(self, reach: &Reach, directory: &Path) -> Result<()> {
        let directory = directory.join(format!("{self:?}").to_lowercase());
        std::fs::create_dir_all(&directory)?;
        let (reach, sources) = (reach.clone(), sources());
        match self {
            Self::TokioPostgres => tokio_client::run(&reach).await,
            Self::Psql | Self::Libpq | Self::Psycopg | Self::Jdbc => {
                let body = move || {
                    self.commands(&sources, &directory).try_for_each(|mut command| {
                        database::output(reach.environment_of(command.current_dir(&directory))).map(drop)
                    })
                };
                tokio::task::spawn_blocking(body).await?
            }
        }
        .with_context(|| format!("suite of {self:?}"))
    }

    /// What is run one after the other.
    fn commands(self, sources: &Path, directory: &Path) -> impl Iterator<Item = Command> {
        let command = |program: &Path, words: &[&str], file: &str| {
            let mut command = Command::new(program);
            command.args(words);
            if !file.is_empty() {
                command.arg(sources.join(file));
            }
            command
        };
        let here = directory.to_string_lossy();
        let classes = format!("{JDBC_DRIVER}:{here}");
        let commands = match self {
            Self::Psql => vec![
                command(Path::new("psql"), &["-X", "-f"], "features.sql"),
                command(Path::new("cmp"), &["psql.blob", "psql.blob.back"], ""),
            ],
            Self::Libpq => {
                let mut compile = command(Path::new("cc"), &["-O1", "-Wall", "-o", "features"], "features.c");
                compile.args(["-I/usr/include/postgresql", "-lpq", "-lpthread"]);
                vec![compile, command(&directory.join("features"), &[], "")]
            }
            // Debian's, which has Debian's modules; another may come first on the PATH.
            Self::Psycopg => vec![command(Path::new("/usr/bin/python3"), &[], "features.py")],
            Self::Jdbc => vec![
                command(Path::new("javac"), &["-cp", JDBC_DRIVER, "-d", &here], "Features.java"),
                command(Path::new("java"), &["-cp", &classes, "Features"], ""),
            ],
            Self::TokioPostgres => Vec::new(),
        };
        commands.into_iter()
    }
}

/// Where Debian puts it.
const JDBC_DRIVER: &str = "/usr/share/java/postgresql.jar";

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

impl Reach {
    /// As every client based on libpq reads it; the others' scripts do the same.
    fn environment_of<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("PGHOST", &self.host)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", &self.user)
            .env("PGPASSWORD", &self.password)
            .env("PGDATABASE", &self.database)
            .env("PGSSLMODE", if self.ca_file.is_some() { "verify-full" } else { "disable" });
        if let Some(file) = &self.ca_file {
            command.env("PGSSLROOTCERT", file);
        }
        command
    }
}
