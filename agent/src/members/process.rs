//! Starts and stops the process of a member.
//!
//! Invariants: before a start, nothing of a killed predecessor is left in the data directory; a start that fails leaves
//! no process; its error ends with what the server logged.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    time::Duration,
};

use rustix::process::Signal;
use tokio_util::sync::CancellationToken;
use windlass_core::{Error, ErrorKind, Reason, id::MemberId};

use super::{Members, running::Running, slot::Slot, slot::Work};
use crate::{
    engines::{EngineDriver, Network, Rendered, Server},
    host::{
        Process, UnitStatus, files,
        helper::cancelled,
        proc::{self, Which},
    },
};

/// After SIGKILL only the kernel can delay the end.
const KILL_LIMIT: Duration = Duration::from_secs(20);
/// Lines of the log in an error.
const LOG_LINES: usize = 5;

impl Members {
    /// The process of the server, if it runs.
    pub(super) async fn process(&self, server: &Server) -> Result<Option<Process>, Error> {
        Ok(match self.host.status(&server.unit).await? {
            UnitStatus::Running(process) => Some(process),
            UnitStatus::Absent | UnitStatus::Ended(_) => None,
        })
    }

    /// Starts the server and waits until it accepts connections.
    ///
    /// # Errors
    /// `PORT_TAKEN`, `START_FAILED` or `DISK_FULL` with the last lines of its log, `OPERATION_CANCELLED`.
    pub(super) async fn start(
        &self,
        slot: &Slot,
        work: &mut Work,
        driver: &dyn EngineDriver,
        server: &Server,
        rendered: &Rendered,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        work.session = None;
        proc::kill_under(&server.site.data, Which::Running(&server.installation.server)).await;
        check_port(&server.network)?;
        Running::starting(&rendered.settings).write(&server.site.conf)?;
        let log_start = files::length(&server.site.log);
        let process = self.host.start(&driver.unit(server)).await?;
        self.watch(slot.id, &server.unit);
        slot.update(|facts| super::observe::starting(facts, process));
        self.failpoints.hit("members.after_start").await?;
        let failed = tokio::select! {
            session = driver.ready(server, process) => {
                work.session = Some(session);
                work.crashes.runs();
                return Ok(());
            }
            how = self.host.ended(&server.unit) => explain(&server.title, &how?, &files::tail(&server.site.log, log_start, LOG_LINES)),
            () = tokio::time::sleep(self.config.start_timeout) => {
                let how = format!("it did not accept connections within {} s", self.config.start_timeout.as_secs());
                explain(&server.title, &how, &files::tail(&server.site.log, log_start, LOG_LINES))
            }
            () = cancel.cancelled() => cancelled(),
        };
        self.stop(work, server, driver.unit(server).stop_signal).await?;
        Err(failed)
    }

    /// Stops the server if it runs: by the signal, after the grace by SIGKILL. Nothing of it is left.
    ///
    /// # Errors
    /// `STOP_FAILED` if not even SIGKILL ends it.
    pub(super) async fn stop(&self, work: &mut Work, server: &Server, signal: Signal) -> Result<(), Error> {
        work.session = None;
        self.host.signal(&server.unit, signal).await?;
        match tokio::time::timeout(self.config.stop_grace, self.host.ended(&server.unit)).await {
            Ok(ended) => drop(ended?),
            Err(_) => {
                tracing::warn!(unit = server.unit, "it did not stop within the grace and is killed");
                self.host.signal(&server.unit, Signal::KILL).await?;
                let ended = tokio::time::timeout(KILL_LIMIT, self.host.ended(&server.unit)).await;
                ended.map_err(|_| {
                    let message = format!("{} does not end even when killed; its disk may hang", server.title);
                    Error::new(ErrorKind::Internal, Reason::StopFailed, message)
                })??;
            }
        }
        proc::kill_under(&server.site.data, Which::Running(&server.installation.server)).await;
        self.host.forget(&server.unit).await
    }

    /// Tells supervision when the process ends.
    pub(super) fn watch(&self, member: MemberId, unit: &str) {
        let (host, due, unit) = (self.host.clone(), self.due.clone(), unit.to_owned());
        tokio::spawn(async move {
            if host.ended(&unit).await.is_ok() {
                // Nobody listens when the agent is going down.
                let _ = due.send(member);
            }
        });
    }

    /// The last lines that the server logged.
    pub(super) fn last_words(&self, server: &Server) -> String {
        files::tail(&server.site.log, 0, LOG_LINES)
    }
}

/// What a server that did not come up died of.
fn explain(title: &str, how: &str, log: &str) -> Error {
    let message = format!("{title} did not start: {how}; its log ends with: {log}");
    let has = |signs: &[&str]| signs.iter().any(|sign| log.contains(sign));
    if files::says_disk_full(log) {
        files::disk_full(message)
    } else if has(&["Address already in use", "Bind on TCP/IP port"]) {
        Error::precondition(Reason::PortTaken, message)
    } else {
        Error::new(ErrorKind::Internal, Reason::StartFailed, message)
    }
}

/// Binds the port for a moment: the error of a server that cannot is less clear, and comes later.
pub(crate) fn check_port(network: &Network) -> Result<(), Error> {
    let Network::Tcp { bind, port } = network else { return Ok(()) };
    let addresses: Vec<IpAddr> = match bind.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    };
    for address in addresses {
        match TcpListener::bind(SocketAddr::new(address, *port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(Error::precondition(
                    Reason::PortTaken,
                    format!("port {port} on {address} is taken by another process of this host; `ss -ltnp sport = :{port}` shows it"),
                )
                .with_metadata("port", port));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && !address.is_unspecified() => {
                let message = format!("this host has no address {address}; correct bind_address");
                return Err(Error::precondition(Reason::StartFailed, message).with_source(error));
            }
            // No IPv6 here, or a listener for the moment of this check.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let port = taken.local_addr().expect("address").port();
        for bind in ["127.0.0.1", "*"] {
            let error = check_port(&Network::Tcp { bind: bind.into(), port }).expect_err("taken");
            assert_eq!(error.reason, Reason::PortTaken);
            assert!(error.message.contains(&format!("port {port}")), "{error}");
        }
        drop(taken);
        check_port(&Network::Tcp { bind: "127.0.0.1".into(), port }).expect("free");
        check_port(&Network::SocketOnly).expect("no port");
    }

    #[test]
    fn causes_are_told_apart() {
        assert_eq!(explain("t", "x", "FATAL: could not write: No space left on device").reason, Reason::DiskFull);
        assert_eq!(explain("t", "x", "Can't start server: Bind on TCP/IP port").reason, Reason::PortTaken);
        let error = explain("demo/pg-1", "it ended with exit code 1", "FATAL: oops");
        assert_eq!(error.reason, Reason::StartFailed);
        assert_eq!(error.message, "demo/pg-1 did not start: it ended with exit code 1; its log ends with: FATAL: oops");
    }
}
