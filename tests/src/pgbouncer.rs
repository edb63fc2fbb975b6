//! PgBouncer as Debian packages it, in front of an instance: what the proxy is measured beside.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::TcpStream;
use windlass_proto::api::v1::Connection;

use crate::ground::Ground;
use crate::stack::{START_LIMIT, free_ports};
use crate::wait::wait_until;

/// A running PgBouncer. Dropped, it ends and its directory goes.
#[derive(Debug)]
pub struct PgBouncer {
    /// Where clients come in.
    pub address: SocketAddr,
    child: Child,
    _ground: Ground,
}

/// The database that shares connections between transactions.
pub const TRANSACTION: &str = "by_transaction";
/// The database that gives each client a connection of its own.
pub const SESSION: &str = "by_session";

impl PgBouncer {
    /// Starts it before the server, with so many connections to it, and this certificate for clients.
    ///
    /// # Errors
    /// It is not installed, or does not come up.
    pub async fn start(to: &Connection, backends: u32, chain_pem: &str, key_pem: &str) -> Result<Self> {
        let ground = Ground::make()?;
        let port = free_ports(1)?;
        let Connection { host, port: server, database, user, password, .. } = to;
        let write = |name: &str, text: &str| {
            let path = ground.path(name);
            std::fs::write(&path, text)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))?;
            Ok::<_, anyhow::Error>(path.display().to_string())
        };
        let users = write("users", &format!("\"{user}\" \"{password}\"\n"))?;
        let (certificate, key) = (write("certificate", chain_pem)?, write("key", key_pem)?);
        let target = format!("host={host} port={server} dbname={database}");
        let config = write(
            "pgbouncer.ini",
            &format!(
                "[databases]\n{TRANSACTION} = {target} pool_mode=transaction pool_size={backends}\n\
                 {SESSION} = {target} pool_mode=session pool_size=600\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {users}\n\
                 max_client_conn = 15000\nclient_tls_sslmode = allow\nclient_tls_cert_file = {certificate}\n\
                 client_tls_key_file = {key}\nserver_tls_sslmode = require\n\
                 ignore_startup_parameters = extra_float_digits\nlog_connections = 0\nlog_disconnections = 0\n"
            ),
        )?;
        let log = std::fs::File::create(ground.path("log"))?;
        // Debian has it where not everybody's PATH leads.
        let debian = Path::new("/usr/sbin/pgbouncer");
        let mut command = ground.command(if debian.exists() { debian } else { Path::new("pgbouncer") })?;
        command.args(["-q", &config]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("cannot start pgbouncer; on Debian: apt install pgbouncer")?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait_until("PgBouncer", START_LIMIT, async || Ok(TcpStream::connect(address).await?)).await?;
        Ok(Self { address, child, _ground: ground })
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // Whoever starts this in the background of a shell has it ignore gentler signals.
        let _ = kill(Pid::from_raw(self.pid()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
