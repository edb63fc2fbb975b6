//! Looks at a member: process, directory, server. Thin; bounded in time.

use std::time::{Duration, Instant};

use windlass_core::Error;

use super::{
    machine::{DownSince, Machine},
    sight::{SILENT, Sight, Start},
    state::ProcessId,
};
use crate::{
    engines::{
        Server,
        postgres::replication::{
            Configuration, Gate, Live, Reader, Waits, astray, files as role_files, hopeless, incurable, local_timeline,
            read_history,
        },
    },
    host::{Process, UnitStatus, files, proc},
};

/// How long a fresh connection may take.
const CONNECT: Duration = Duration::from_secs(1);
/// A start that lacks a part of the log is given up no sooner.
const ASTRAY_AFTER: Duration = Duration::from_secs(10);
/// Lines of the log that say what a server died of.
const LAST_WORDS: usize = 12;

impl Machine {
    /// Looks.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the host's manager cannot be asked, `INTERNAL` for files that cannot be read.
    pub(super) async fn look(&mut self, server: &Server) -> Result<(), Error> {
        self.forget_crashes();
        self.sight = match self.host.status(&server.unit).await? {
            UnitStatus::Running(process) => {
                self.meet(server, process);
                self.ask(server).await
            }
            UnitStatus::Absent => self.gone(server, "it does not run".to_owned()),
            UnitStatus::Ended(how) => self.gone(server, how),
        };
        if !server.site.data.exists() {
            self.sight = Sight::NoData;
        }
        if let Sight::Live(live) = &self.sight {
            let live = live.clone();
            self.learn(server, &live).await?;
        }
        Ok(())
    }

    /// A process that runs; perhaps another than before.
    pub(super) fn meet(&mut self, server: &Server, process: Process) {
        let id = ProcessId { pid: process.pid, second: process.started.as_second() };
        if self.process == Some(id) {
            return;
        }
        self.process = Some(id);
        if self.launched.is_none() {
            // Found running: what it died of will stand behind what is there.
            self.log_from = files::length(&server.site.log);
        }
        (self.reader, self.applied, self.down, self.last_live) = (None, None, None, None);
        self.expected_end = false;
        self.barrier.forget();
        self.waits = Waits::Unproven;
        self.gate = gate_on_disk(server);
        let (host, seat, unit) = (self.host.clone(), self.seat.clone(), server.unit.clone());
        tokio::spawn(async move {
            // An error is told by the next look.
            let _ = host.ended(&unit).await;
            seat.wake.notify_one();
        });
    }

    /// It does not run.
    fn gone(&mut self, server: &Server, how: String) -> Sight {
        let had_process = self.process.take().is_some();
        if had_process || self.down.is_none() {
            let words = files::tail(&server.site.log, self.log_from, LAST_WORDS);
            self.launched = None;
            self.reader = None;
            let crashed = had_process && !self.expected_end;
            let (incurable, hopeless) = if crashed { (incurable(&words), hopeless(&words)) } else { (None, None) };
            if crashed {
                self.count_crash();
                let kind = if how.ends_with("exit code 0") { "member.stopped" } else { "member.crashed" };
                let message = format!("{}: {how}; its log ends with: {words}", server.title);
                self.members.replica_happened(kind, self.seat.member(), message);
            }
            self.down = Some(DownSince { at: Instant::now(), how, incurable, hopeless });
            (self.applied, self.fenced) = (None, false);
            self.expected_end = false;
            self.barrier.forget();
        }
        self.down()
    }

    /// Asks the server.
    async fn ask(&mut self, server: &Server) -> Sight {
        let silent = |machine: &Self| match &machine.last_live {
            Some((at, _)) if at.elapsed() >= SILENT => Sight::Silent(at.elapsed()),
            Some((_, live)) => Sight::Live(live.clone()),
            None => Sight::Starting(machine.starting(server)),
        };
        if self.reader.is_none() {
            if self.process.is_some_and(|process| !Reader::is_welcome(server, process.pid)) {
                return silent(self);
            }
            match tokio::time::timeout(CONNECT, Reader::connect(server)).await {
                Ok(Ok(reader)) => self.reader = Some(reader),
                Ok(Err(_)) | Err(_) => return silent(self),
            }
        }
        let Some(reader) = &mut self.reader else { return Sight::Starting(self.start) };
        match tokio::time::timeout(SILENT, reader.read()).await {
            Ok(Ok(live)) => {
                if self.last_live.replace((Instant::now(), Box::new(live.clone()))).is_none() {
                    self.members.replica_answers(self.seat.member());
                }
                Sight::Live(Box::new(live))
            }
            Ok(Err(_)) | Err(_) => {
                self.reader = None;
                silent(self)
            }
        }
    }

    /// How the start goes. A standby that lacks a part of the log waits for it without a word but in its log.
    fn starting(&self, server: &Server) -> Start {
        match self.launched {
            Some(at) if at.elapsed() >= ASTRAY_AFTER => {
                let said = files::tail(&server.site.log, self.log_from, LAST_WORDS);
                astray(&said, self.follows).map_or(self.start, Start::Astray)
            }
            Some(_) | None => self.start,
        }
    }

    /// Keeps what a live server says.
    async fn learn(&mut self, server: &Server, live: &Live) -> Result<(), Error> {
        let record = self.seat.record();
        self.note_followers(&record, live);
        if let Some(receiver) = &live.receiver {
            self.watch_receiver(receiver.pid);
            if receiver.status == "streaming" {
                self.streamed = Instant::now();
            }
        } else if self.applied.as_ref().is_none_or(|applied| applied.upstream.is_none()) {
            // Who follows nobody is not stalled.
            self.streamed = Instant::now();
        }
        self.segment = live.segment;
        self.redo = live.inserted.map_or(0, |inserted| inserted.0.saturating_sub(live.redo.0));
        let flushed = live.flushed.unwrap_or_default();
        if flushed != self.flushed.0 || live.inserted <= live.flushed {
            self.flushed = (flushed, Instant::now());
        }
        let timeline = match (&live.receiver, live.recovering) {
            (_, false) => live.timeline,
            (Some(receiver), true) if receiver.timeline.is_some() => receiver.timeline.unwrap_or_default(),
            (_, true) => {
                local_timeline(&server.site.data, live.end(), live.segment)?.unwrap_or(live.checkpoint_timeline)
            }
        };
        if self.fork.0 != timeline {
            let fork = read_history(&server.site.data, timeline).ok().and_then(|history| history.last().map(|a| a.end));
            self.fork = (timeline, fork.unwrap_or_default());
        }
        if record.timeline != timeline || record.system != live.system {
            self.seat.update(|record| (record.timeline, record.system) = (timeline, live.system.clone())).await?;
        }
        if self.gate == Gate::Shut
            && live.clients > 0
            && let Some(reader) = &self.reader
        {
            // A session that was on its way in when the gate was shut.
            reader.end_sessions().await?;
        }
        Ok(())
    }

    /// The loss of the leader is told at once, by the end of the process that holds the connection.
    fn watch_receiver(&mut self, pid: i32) {
        if self.watched_receiver == pid {
            return;
        }
        self.watched_receiver = pid;
        if let Some(held) = proc::hold(pid) {
            let seat = self.seat.clone();
            tokio::spawn(async move {
                // An error is told by the next look.
                let _ = proc::wait_end(held).await;
                seat.wake.notify_one();
            });
        }
    }
}

/// Whether the files let sessions in. Anything but what the agent writes to shut them out does, or may.
fn gate_on_disk(server: &Server) -> Gate {
    let shut = role_files(server, &Configuration::default(), Gate::Shut);
    let entry = shut.iter().find(|file| file.path.ends_with("pg_hba.conf"));
    let same = entry.is_some_and(|file| files::read_text(&file.path).ok().flatten().as_deref() == Some(&file.text));
    if same { Gate::Shut } else { Gate::Open }
}
