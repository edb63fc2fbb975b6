//! Bare databases, made and run by their own tools with their own defaults: what a measurement is compared to.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mysql_async::prelude::Queryable;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use windlass_core::engine::Engine;

use crate::database;
use crate::ground::Ground;
use crate::stack::free_ports;

const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks whether a server answers: short against what is measured.
const PAUSE: Duration = Duration::from_millis(1);

/// A server of one engine. Dropped, it ends and its directory goes.
#[derive(Debug)]
pub struct Bare {
    client: &'static str,
    port: u16,
    ground: Ground,
    server: Option<Child>,
}

impl Bare {
    /// An empty directory and a free port.
    ///
    /// # Errors
    /// The system refused.
    pub fn prepare(engine: Engine) -> Result<Self> {
        let client = engine.descriptor().client;
        Ok(Self { client, port: free_ports(1)?, ground: Ground::make()?, server: None })
    }

    /// `initdb` with checksums, or `mariadb-install-db`.
    ///
    /// # Errors
    /// It failed.
    pub fn initialise(&self) -> Result<()> {
        let mut command = if self.is_postgres() {
            let mut command = self.ground.command(&postgres("initdb")?)?;
            command.args(["--data-checksums", "--auth=trust", "--username=root", "--locale=C.UTF-8", "-D"]);
            command.arg(self.data());
            command
        } else {
            let mut command = self.ground.command(Path::new("mariadb-install-db"))?;
            command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
            command.arg(format!("--datadir={}", self.data().display()));
            command
        };
        database::output(&mut command).map(drop)
    }

    /// Executes the server and waits until it has answered a query.
    ///
    /// # Errors
    /// It does not within a minute.
    pub async fn start(&mut self) -> Result<()> {
        let log = std::fs::File::create(self.ground.path("log"))?;
        let mut command = if self.is_postgres() {
            let mut command = self.ground.command(&postgres("postgres")?)?;
            command.arg("-D").arg(self.data()).arg("-k").arg(self.ground.path("")).arg(format!("-p{}", self.port));
            command
        } else {
            let mut command = self.ground.command(&database::mariadb_server().context("no mariadbd")?)?;
            command
                .arg("--no-defaults")
                .arg(format!("--datadir={}", self.data().display()))
                .arg(format!("--socket={}", self.socket().display()))
                .arg(format!("--pid-file={}", self.ground.path("pid").display()))
                .args(["--bind-address=127.0.0.1", &format!("--port={}", self.port)]);
            command
        };
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.server = Some(command.spawn()?);
        self.answers().await
    }

    /// `pg_ctl restart -w`, or stop and start, until a query is answered again.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn restart(&mut self) -> Result<()> {
        if !self.is_postgres() {
            self.stop()?;
            return self.start().await;
        }
        let mut command = self.ground.command(&postgres("pg_ctl")?)?;
        command.args(["restart", "-w", "-s", "-D"]).arg(self.data()).arg("-l").arg(self.ground.path("restarts.log"));
        // Its server must not hold a pipe of ours open.
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        ensure!(status.success(), "pg_ctl restart: {status}");
        self.answers().await
    }

    fn stop(&mut self) -> Result<()> {
        let mut server = self.server.take().context("it runs")?;
        kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGTERM)?;
        server.wait()?;
        Ok(())
    }

    async fn answers(&self) -> Result<()> {
        let begin = Instant::now();
        loop {
            let asked = if self.is_postgres() { self.ask_postgres().await } else { self.ask_mariadb().await };
            match asked {
                Ok(()) => return Ok(()),
                Err(error) if begin.elapsed() > LIMIT => bail!("no answer within {LIMIT:?}: {error:#}"),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn ask_postgres(&self) -> Result<()> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user("root").dbname("postgres");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        client.query_one("select 1", &[]).await?;
        Ok(())
    }

    async fn ask_mariadb(&self) -> Result<()> {
        let socket = self.socket();
        let options = mysql_async::OptsBuilder::default().socket(Some(socket.to_string_lossy())).user(Some("root"));
        let mut connection = mysql_async::Conn::new(options).await?;
        connection.query_drop("select 1").await?;
        Ok(connection.disconnect().await?)
    }

    fn is_postgres(&self) -> bool {
        self.client == "psql"
    }

    fn data(&self) -> PathBuf {
        self.ground.path("data")
    }

    fn socket(&self) -> PathBuf {
        self.ground.path("socket")
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.ground.end();
        if let Some(mut server) = self.server.take() {
            let _ = server.wait();
        }
    }
}

fn postgres(program: &str) -> Result<PathBuf> {
    Ok(database::postgres_directory().context("no PostgreSQL on this machine")?.join(program))
}
