//! Bare databases, made and run by their own tools: what a measurement is compared to.

use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::unistd::User;

use crate::database;
use crate::stack::run_as;

const LIMIT: Duration = Duration::from_secs(60);

/// A directory that the databases' user owns; what runs below it ends with it.
#[derive(Debug)]
pub struct Ground {
    path: PathBuf,
}

impl Ground {
    /// Makes one.
    ///
    /// # Errors
    /// The system refused.
    pub fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("wl-{}", &uuid::Uuid::new_v4().simple().to_string()[..10]));
        std::fs::create_dir(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        if let Some(user) = database_user()? {
            chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        Ok(Self { path })
    }

    /// A path below.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn command(&self, program: &Path) -> Result<Command> {
        let mut command = Command::new(program);
        command.current_dir(&self.path);
        if let Some(user) = database_user()? {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        Ok(command)
    }

    /// `initdb` with checksums.
    ///
    /// # Errors
    /// It failed.
    pub fn initdb(&self, name: &str) -> Result<()> {
        let program = postgres("initdb")?;
        let data = self.path(name);
        let mut command = self.command(&program)?;
        database::output(command.args(["--data-checksums", "--auth=trust", "--username=postgres", "-D"]).arg(data))?;
        Ok(())
    }

    /// `pg_ctl start|restart|stop -w`.
    ///
    /// # Errors
    /// It failed.
    pub fn pg_ctl(&self, verb: &str, name: &str, port: u16) -> Result<()> {
        let mut command = self.command(&postgres("pg_ctl")?)?;
        let options = format!("-p {port} -c listen_addresses=127.0.0.1 -k {}", self.path.display());
        command.args([verb, "-w", "-s", "-D"]).arg(self.path(name)).arg("-l").arg(self.path("log"));
        if verb != "stop" {
            command.args(["-o", &options]);
        }
        // Its server must not hold a pipe of ours open.
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { bail!("pg_ctl {verb}: {status}") }
    }

    /// `mariadb-install-db`.
    ///
    /// # Errors
    /// It failed.
    pub fn install_db(&self, name: &str) -> Result<()> {
        let mut command = self.command(Path::new("mariadb-install-db"))?;
        let data = format!("--datadir={}", self.path(name).display());
        database::output(command.args(["--no-defaults", "--auth-root-authentication-method=normal", &data]))?;
        Ok(())
    }

    /// Starts `mariadbd` and waits until it greets.
    ///
    /// # Errors
    /// It does not.
    pub fn start_mariadb(&self, name: &str, port: u16) -> Result<Child> {
        let server = ["/usr/sbin/mariadbd", "/usr/libexec/mariadbd"].iter().map(Path::new).find(|path| path.exists());
        let mut command = self.command(server.context("no mariadbd")?)?;
        let child = command
            .arg("--no-defaults")
            .arg(format!("--datadir={}", self.path(name).display()))
            .arg(format!("--socket={}", self.path("socket").display()))
            .arg(format!("--pid-file={}", self.path("pid").display()))
            .args(["--bind-address=127.0.0.1", &format!("--port={port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.path("mariadb.log"))?)
            .spawn()?;
        greeted(port)?;
        Ok(child)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        database::end_below(&self.path);
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Waits until a MariaDB server greets on a port: that is when it accepts connections.
///
/// # Errors
/// It does not within a minute.
pub fn greeted(port: u16) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < LIMIT {
        if let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)) {
            let mut greeting = [0; 5];
            if socket.read_exact(&mut greeting).is_ok() && greeting[4] == 10 {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!("no greeting on port {port} within {LIMIT:?}")
}

/// Waits until a PostgreSQL server answers on a port, be it with a refusal: that is when it accepts connections.
///
/// # Errors
/// It does not within a minute.
pub async fn answers(port: u16) -> Result<()> {
    let begin = Instant::now();
    let address = format!("postgres://nobody@127.0.0.1:{port}/nothing");
    while begin.elapsed() < LIMIT {
        match tokio_postgres::connect(&address, tokio_postgres::NoTls).await {
            Ok(_) => return Ok(()),
            Err(error) => match error.code() {
                Some(code) if *code != tokio_postgres::error::SqlState::CANNOT_CONNECT_NOW => return Ok(()),
                Some(_) | None => tokio::time::sleep(Duration::from_millis(2)).await,
            },
        }
    }
    bail!("no answer on port {port} within {LIMIT:?}")
}

/// Version of a server program as it prints it.
///
/// # Errors
/// It cannot be run.
pub fn version(program: &Path) -> Result<String> {
    database::output(Command::new(program).arg("--version"))
}

fn postgres(program: &str) -> Result<PathBuf> {
    Ok(database::postgres_directory().context("no PostgreSQL on this machine")?.join(program))
}

fn database_user() -> Result<Option<User>> {
    let Some(name) = run_as() else { return Ok(None) };
    Ok(Some(User::from_name(name)?.with_context(|| format!("no user {name}; `cargo xtask test` makes it"))?))
}
