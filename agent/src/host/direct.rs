//! The direct host: processes in sessions of their own, started by the agent and found again after it restarts.
//!
//! Owns: one record file per unit. Why not plain children: a child in the agent's session would die with its terminal
//! or its service. `setsid` (util-linux) gives a new session without unsafe code; as the child leads no process group
//! it does not fork, so the pid is the server's.
//! Invariants: a record is written before the process is started (as "starting") and again with its pid; so after a
//! crash between the two, the process is found by its working directory and command line. A pid counts only together
//! with its start time and the boot id. Records need no fsync: a power cut that loses one has ended the process too.
//! The end of a process is seen through its pidfd; own children are reaped, so that no zombie looks alive.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use rustix::process::{Signal, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use windlass_core::{Error, ErrorKind, Reason};
use windlass_kit::failpoint::Failpoints;

use super::{
    account::find_program,
    cgroup::Cgroups,
    files,
    helper::clean_environment,
    proc,
    unit::{Limits, Process, ProcessHost, UnitSpec, UnitStatus},
};

/// The kernel's out-of-memory killer takes other processes first. The engines reset it for their children.
const OOM_SCORE_ADJUST: &str = "-900";

/// Runs units as processes in sessions of their own.
pub struct DirectHost {
    records: PathBuf,
    boot_id: String,
    setsid: PathBuf,
    cgroups: Option<Cgroups>,
    failpoints: Failpoints,
    units: Mutex<HashMap<String, Unit>>,
}

/// What is known of one unit in memory.
#[derive(Clone)]
struct Unit {
    process: Process,
    pidfd: Arc<OwnedFd>,
    end: watch::Receiver<Option<String>>,
}

/// What is known of one unit on disk.
#[derive(Serialize, Deserialize)]
struct Record {
    boot_id: String,
    directory: PathBuf,
    program: PathBuf,
    /// Pid and start time; None while it is being started.
    process: Option<(i32, u64)>,
}

impl DirectHost {
    /// Reads the records and finds the processes that still run.
    ///
    /// # Errors
    /// `INTERNAL` if the records cannot be read or `setsid` is missing.
    pub async fn open(records: &Path, failpoints: Failpoints) -> Result<Self, Error> {
        let setsid = find_program("setsid")
            .map_err(|error| Error::internal(format!("{error}; install util-linux")).with_source(error))?;
        let host = Self {
            records: records.to_owned(),
            boot_id: proc::boot_id()?,
            setsid,
            cgroups: Cgroups::detect(),
            failpoints,
            units: Mutex::default(),
        };
        for file in files::names_in(records)? {
            if let Some(name) = file.strip_suffix(".json") {
                host.adopt(name).await?;
            }
        }
        Ok(host)
    }

    /// Finds the process of a record again, if it still runs.
    async fn adopt(&self, name: &str) -> Result<(), Error> {
        let text = files::read_text(&self.record(name))?.unwrap_or_default();
        let Some(record) = serde_json::from_str::<Record>(&text).ok().filter(|r| r.boot_id == self.boot_id) else {
            return self.remove_record(name);
        };
        let found = match record.process {
            Some((pid, start)) => match proc::stat(pid).filter(|stat| stat.start_ticks == start) {
                Some(stat) if stat.alive() => Some(pid),
                Some(_) => {
                    proc::wait_reaped(pid, start).await;
                    None
                }
                None => None,
            },
            None => find_started(&record.directory, &record.program),
        };
        let Some(pid) = found else { return Ok(()) };
        let Some((unit, sender)) = observe(pid) else { return Ok(()) };
        let pidfd =
            unit.pidfd.try_clone().map_err(|error| Error::internal("out of file descriptors").with_source(error))?;
        let stat = proc::stat(pid);
        tokio::spawn(async move {
            let how = match proc::wait_end(pidfd).await {
                Ok(()) => {
                    if let Some(stat) = stat {
                        proc::wait_reaped(pid, stat.start_ticks).await;
                    }
                    "it ended; how is not known, as another agent process had started it".to_owned()
                }
                Err(error) => format!("it can no longer be watched: {error}"),
            };
            sender.send_replace(Some(how));
        });
        self.write_record(name, &Record { process: stat.map(|stat| (pid, stat.start_ticks)), ..record })?;
        self.units().insert(name.to_owned(), unit);
        Ok(())
    }

    fn spawn(&self, unit: &UnitSpec) -> Result<tokio::process::Child, Error> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .open(&unit.log)
            .map_err(|error| files::failed("open", &unit.log, error))?;
        let errors = log.try_clone().map_err(|error| files::failed("open", &unit.log, error))?;
        let mut command = std::process::Command::new(&self.setsid);
        command.arg(&unit.program).args(&unit.arguments).current_dir(&unit.directory);
        clean_environment(&mut command);
        command.envs(&unit.environment).stdin(Stdio::null()).stdout(log).stderr(errors);
        unit.account.applied_to(&mut command);
        tokio::process::Command::from(command).spawn().map_err(|error| {
            let message = format!("cannot start {}: {error}", unit.program.display());
            Error::new(ErrorKind::Internal, Reason::StartFailed, message).with_source(error)
        })
    }

    fn running(&self, name: &str) -> Option<Unit> {
        self.units().get(name).filter(|unit| unit.end.borrow().is_none()).cloned()
    }

    fn units(&self) -> MutexGuard<'_, HashMap<String, Unit>> {
        // A panic while the map was held left it whole: every use is one call.
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, name: &str) -> PathBuf {
        self.records.join(format!("{name}.json"))
    }

    fn write_record(&self, name: &str, record: &Record) -> Result<(), Error> {
        let bytes =
            serde_json::to_vec(record).map_err(|error| Error::internal("a record is no JSON").with_source(error))?;
        files::write_derived(&self.record(name), &bytes, 0o600, files::Owner::Agent)
    }

    fn remove_record(&self, name: &str) -> Result<(), Error> {
        windlass_kit::files::remove(&self.record(name))
    }
}

#[async_trait]
impl ProcessHost for DirectHost {
    async fn start(&self, unit: &UnitSpec) -> Result<Process, Error> {
        if let Some(running) = self.running(&unit.name) {
            return Ok(running.process);
        }
        let mut record = Record {
            boot_id: self.boot_id.clone(),
            directory: unit.directory.clone(),
            program: unit.program.clone(),
            process: None,
        };
        self.write_record(&unit.name, &record)?;
        let mut child = self.spawn(unit)?;
        let pid = child.id().map(u32::cast_signed).unwrap_or_default();
        self.failpoints.hit("host.after_spawn").await?;
        let Some((seen, sender)) = observe(pid) else {
            return Err(Error::new(
                ErrorKind::Internal,
                Reason::StartFailed,
                format!("{} vanished at once", unit.title),
            ));
        };
        let process = seen.process;
        self.units().insert(unit.name.clone(), seen);
        tokio::spawn(async move {
            let how = child.wait().await.map_or_else(|error| error.to_string(), describe);
            sender.send_replace(Some(how));
        });
        record.process = proc::stat(pid).map(|stat| (pid, stat.start_ticks));
        self.write_record(&unit.name, &record)?;
        // Only root may lower the score; without it the server is as likely a victim as any other process.
        let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), OOM_SCORE_ADJUST);
        if let Some(cgroups) = &self.cgroups {
            cgroups.place(&unit.name, pid, unit.limits)?;
        }
        Ok(process)
    }

    async fn status(&self, unit: &str) -> Result<UnitStatus, Error> {
        let units = self.units();
        Ok(match units.get(unit) {
            None => UnitStatus::Absent,
            Some(unit) => match &*unit.end.borrow() {
                None => UnitStatus::Running(unit.process),
                Some(how) => UnitStatus::Ended(how.clone()),
            },
        })
    }

    async fn signal(&self, unit: &str, signal: Signal) -> Result<(), Error> {
        let Some(running) = self.running(unit) else { return Ok(()) };
        match pidfd_send_signal(&*running.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::internal(format!("cannot signal {unit}: {error}")).with_source(error)),
        }
    }

    async fn ended(&self, unit: &str) -> Result<String, Error> {
        let Some(mut end) = self.units().get(unit).map(|unit| unit.end.clone()) else {
            return Ok("it does not run".to_owned());
        };
        // A closed channel means that the watching task is gone with its runtime.
        let how = end.wait_for(Option::is_some).await.map(|how| how.clone().unwrap_or_default());
        how.map_err(|_| Error::unavailable("the agent is shutting down"))
    }

    async fn limit(&self, unit: &str, limits: Limits) -> Result<(), Error> {
        match &self.cgroups {
            Some(cgroups) if self.running(unit).is_some() => cgroups.limit(unit, limits),
            Some(_) | None => Ok(()),
        }
    }

    async fn forget(&self, unit: &str) -> Result<(), Error> {
        self.units().remove(unit);
        if let Some(cgroups) = &self.cgroups {
            cgroups.remove(unit);
        }
        self.remove_record(unit)
    }

    async fn memory(&self, unit: &str) -> Option<u64> {
        self.cgroups.as_ref()?.memory(unit)
    }
}

/// Takes hold of a process by its pidfd; None if it is gone. The sender is for who waits for its end.
fn observe(pid: i32) -> Option<(Unit, watch::Sender<Option<String>>)> {
    let pidfd = proc::hold(pid)?;
    let stat = proc::stat(pid)?;
    let (sender, end) = watch::channel(None);
    let process = Process { pid, started: proc::started_at(stat.start_ticks) };
    Some((Unit { process, pidfd: Arc::new(pidfd), end }, sender))
}

/// The process of a start that was cut short: it works in the unit's directory, runs its program, and is the child of
/// none that does.
fn find_started(directory: &Path, program: &Path) -> Option<i32> {
    let pids = proc::by_directory().remove(directory).unwrap_or_default();
    let program = program.to_string_lossy();
    let runs = |pid: i32| proc::command_line(pid).iter().take(2).any(|word| *word == program);
    pids.iter().copied().find(|pid| runs(*pid) && proc::stat(*pid).is_some_and(|stat| !pids.contains(&stat.parent)))
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}
