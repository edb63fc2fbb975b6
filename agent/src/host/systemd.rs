//! The systemd host: each unit is a transient service, made over D-Bus.
//!
//! Why: systemd gives limits by cgroup, a clean stop when the machine goes down, and processes that belong to nobody's
//! session. Invariants: systemd never restarts a database by itself (`Restart=no`): only the agent decides; a unit is
//! collected when it has ended, so that its name is free. A crash of the agent changes nothing: units are found by name.

use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use windlass_core::{Error, ErrorKind, Reason};
use zbus::{Connection, DynamicType, OwnedObjectPath, OwnedVariant, Variant};

use super::{
    proc,
    unit::{Limits, Process, ProcessHost, UnitSpec, UnitStatus},
};

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE_UNIT: &str = "org.freedesktop.systemd1.Service";
/// All databases are below one slice, so that a host can give them their share.
const SLICE: &str = "windlass.slice";
/// How long systemd may take to execute a program.
const START_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// Runs units as transient services of systemd.
pub struct SystemdHost {
    bus: Connection,
}

/// What systemd says of a unit.
struct Seen {
    active: String,
    pid: u32,
}

impl SystemdHost {
    /// Connects to the system bus.
    ///
    /// # Errors
    /// `UNAVAILABLE` if it does not answer.
    pub async fn connect() -> Result<Self, Error> {
        Ok(Self { bus: Connection::system().await.map_err(unreachable)? })
    }

    async fn call<B: serde::Serialize + DynamicType>(
        &self,
        method: &str,
        body: &B,
    ) -> Result<zbus::Message, zbus::Error> {
        self.bus.call_method(Some(SERVICE), MANAGER_PATH, Some(MANAGER), method, body).await
    }

    async fn property<T>(&self, path: &OwnedObjectPath, interface: &str, name: &str) -> Result<T, Error>
    where
        T: TryFrom<OwnedVariant>,
    {
        let properties = Some("org.freedesktop.DBus.Properties");
        let reply = self.bus.call_method(Some(SERVICE), path, properties, "Get", &(interface, name)).await;
        let reply = reply.map_err(unreachable)?;
        let value: OwnedVariant = body(&reply)?;
        T::try_from(value).map_err(|_| Error::internal(format!("systemd gave {name} in another type than documented")))
    }

    /// None when systemd does not know the unit (any more).
    async fn look(&self, unit: &str) -> Result<Option<Seen>, Error> {
        let path: OwnedObjectPath = match self.call("GetUnit", &service(unit)).await {
            Ok(reply) => body(&reply)?,
            Err(zbus::Error::MethodError(name, _, _)) if name.as_str().ends_with(".NoSuchUnit") => return Ok(None),
            Err(error) => return Err(unreachable(error)),
        };
        let active = self.property(&path, UNIT, "ActiveState").await?;
        let pid = self.property(&path, SERVICE_UNIT, "MainPID").await?;
        Ok(Some(Seen { active, pid }))
    }
}

#[async_trait]
impl ProcessHost for SystemdHost {
    async fn start(&self, unit: &UnitSpec) -> Result<Process, Error> {
        let failed = |why: String| {
            Error::new(ErrorKind::Internal, Reason::StartFailed, format!("systemd cannot start {}: {why}", unit.name))
        };
        let auxiliary: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        let request = (service(&unit.name), "fail", properties(unit), auxiliary);
        match self.call("StartTransientUnit", &request).await {
            Ok(_) => {}
            // A repeat after a crash of the agent: the unit is there and is what is wanted.
            Err(zbus::Error::MethodError(name, _, _)) if name.as_str().ends_with(".UnitExists") => {}
            Err(error) => return Err(failed(error.to_string()).with_source(error)),
        }
        for _ in 0..START_LIMIT.as_millis() / POLL.as_millis() {
            match self.status(&unit.name).await? {
                UnitStatus::Running(process) => return Ok(process),
                UnitStatus::Ended(how) => return Err(failed(how)),
                UnitStatus::Absent => {}
            }
            tokio::time::sleep(POLL).await;
        }
        Err(failed(format!("no process after {} s", START_LIMIT.as_secs())))
    }

    async fn status(&self, unit: &str) -> Result<UnitStatus, Error> {
        let Some(seen) = self.look(unit).await? else { return Ok(UnitStatus::Absent) };
        let stat = proc::stat(seen.pid.cast_signed()).filter(|stat| seen.pid != 0 && stat.alive());
        Ok(match (seen.active.as_str(), stat) {
            (_, Some(stat)) => UnitStatus::Running(Process {
                pid: seen.pid.cast_signed(),
                started: proc::started_at(stat.start_ticks),
            }),
            ("activating" | "active" | "reloading", None) => UnitStatus::Absent,
            (state, None) => UnitStatus::Ended(format!("the unit is {state}")),
        })
    }

    async fn signal(&self, unit: &str, signal: Signal) -> Result<(), Error> {
        match self.call("KillUnit", &(service(unit), "main", signal.as_raw())).await {
            Ok(_) => Ok(()),
            // No unit or no process: nothing to signal.
            Err(zbus::Error::MethodError(..)) => Ok(()),
            Err(error) => Err(unreachable(error)),
        }
    }

    async fn ended(&self, unit: &str) -> Result<String, Error> {
        while let Some(seen) = self.look(unit).await?.filter(|seen| seen.pid != 0) {
            if let Some(pidfd) = proc::hold(seen.pid.cast_signed()) {
                let watched = proc::wait_end(pidfd).await;
                watched.map_err(|error| Error::internal("cannot watch a process").with_source(error))?;
            }
            // systemd takes a moment to notice; ask again until it does.
            tokio::time::sleep(POLL).await;
        }
        Ok("it ended; `journalctl -u` of its unit says how".to_owned())
    }

    async fn limit(&self, unit: &str, limits: Limits) -> Result<(), Error> {
        match self.call("SetUnitProperties", &(service(unit), true, limit_properties(limits))).await {
            Ok(_) | Err(zbus::Error::MethodError(..)) => Ok(()),
            Err(error) => Err(unreachable(error)),
        }
    }

    async fn forget(&self, unit: &str) -> Result<(), Error> {
        for method in ["StopUnit", "ResetFailedUnit"] {
            let result = match method {
                "StopUnit" => self.call(method, &(service(unit), "fail")).await,
                _ => self.call(method, &service(unit)).await,
            };
            match result {
                Ok(_) | Err(zbus::Error::MethodError(..)) => {}
                Err(error) => return Err(unreachable(error)),
            }
        }
        Ok(())
    }

    async fn memory(&self, unit: &str) -> Option<u64> {
        let path: OwnedObjectPath = body(&self.call("GetUnit", &service(unit)).await.ok()?).ok()?;
        self.property::<u64>(&path, SERVICE_UNIT, "MemoryCurrent").await.ok().filter(|bytes| *bytes != u64::MAX)
    }
}

fn service(unit: &str) -> String {
    format!("{unit}.service")
}

/// The properties of a transient service, as `systemd.service(5)` and `org.freedesktop.systemd1(5)` name them.
fn properties(unit: &UnitSpec) -> Vec<(&'static str, Variant<'_>)> {
    let program = unit.program.to_string_lossy().into_owned();
    let mut words = vec![program.clone()];
    words.extend(unit.arguments.iter().map(|word| word.to_string_lossy().into_owned()));
    let environment: Vec<String> = [("LANG", "C.UTF-8"), ("LC_ALL", "C.UTF-8")]
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .chain(unit.environment.iter().map(|(key, value)| format!("{key}={value}")))
        .collect();
    let log = unit.log.to_string_lossy().into_owned();
    let mut all = vec![
        ("Description", Variant::from(unit.title.as_str())),
        ("Type", Variant::from("exec")),
        ("ExecStart", Variant::new(vec![(program, words, false)])),
        ("Slice", Variant::from(SLICE)),
        ("User", Variant::from(unit.account.name.as_str())),
        ("WorkingDirectory", Variant::from(unit.directory.to_string_lossy().into_owned())),
        ("Environment", Variant::new(environment)),
        ("StandardOutputFileToAppend", Variant::from(log.clone())),
        ("StandardErrorFileToAppend", Variant::from(log)),
        ("Restart", Variant::from("no")),
        ("KillMode", Variant::from("mixed")),
        ("KillSignal", Variant::from(unit.stop_signal.as_raw())),
        ("SendSIGKILL", Variant::from(true)),
        ("Delegate", Variant::from(false)),
        ("OOMScoreAdjust", Variant::from(-900i32)),
        ("CollectMode", Variant::from("inactive-or-failed")),
    ];
    all.extend(limit_properties(unit.limits));
    all
}

fn limit_properties(limits: Limits) -> Vec<(&'static str, Variant<'static>)> {
    vec![
        ("MemoryMax", Variant::from(limits.memory_bytes)),
        // Microseconds of processor time in each second: thousandths of a core times a thousand.
        ("CPUQuotaPerSecUSec", Variant::from(limits.cpu_millis * 1000)),
    ]
}

fn body<T: DeserializeOwned + zbus::Type>(reply: &zbus::Message) -> Result<T, Error> {
    reply.body().deserialize().map_err(|error| Error::internal("systemd's answer cannot be read").with_source(error))
}

fn unreachable(error: zbus::Error) -> Error {
    Error::unavailable(format!("systemd does not answer on the system bus: {error}")).with_source(error)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::account::Account;
    use super::*;

    #[test]
    fn a_unit_has_its_limits_and_never_restarts_by_itself() {
        let unit = UnitSpec {
            name: "windlass-postgres-0123".into(),
            title: "PostgreSQL demo/pg-1".into(),
            program: "/usr/bin/true".into(),
            arguments: vec!["-D".into(), "/data".into()],
            environment: BTreeMap::from([("A".into(), "b c".into())]),
            directory: "/data".into(),
            account: Account { name: "db".into(), uid: 7, gid: 7 },
            log: "/log".into(),
            stop_signal: Signal::INT,
            limits: Limits { cpu_millis: 1500, memory_bytes: 1 << 30 },
        };
        let all: BTreeMap<_, _> = properties(&unit).into_iter().collect();
        assert_eq!(all["Restart"], Variant::from("no"));
        assert_eq!(all["User"], Variant::from("db"));
        assert_eq!(all["Slice"], Variant::from("windlass.slice"));
        assert_eq!(all["MemoryMax"], Variant::from(1u64 << 30));
        assert_eq!(all["CPUQuotaPerSecUSec"], Variant::from(1_500_000u64));
        assert_eq!(all["KillSignal"], Variant::from(2i32));
        assert_eq!(all["ExecStart"].value_signature().to_string(), "a(sasb)");
        assert_eq!(all["Environment"].value_signature().to_string(), "as");
    }
}
