//! Routes on disk: a log of changes, rewritten as a list when it is opened and when it has grown.
//!
//! Each line is one change as JSON. A crash in the middle of a line leaves a last line that cannot be read, which is
//! ignored; the control plane tells everything again after a start. Invariant: a process that has handed over does not
//! write, so two processes never write one log.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use windlass_core::{Error, id::InstanceId};
use windlass_kit::files::{self, Access};
use windlass_proto::proxy::v1 as pb;

/// The log is rewritten when it has this many lines more than twice the routes.
const SLACK: usize = 1000;

/// One change.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A route, new or changed.
    Put(Box<pb::Route>),
    /// An instance is gone.
    Remove(InstanceId),
}

/// The log. Clones write the same.
#[derive(Debug, Clone)]
pub struct RouteLog(Arc<Mutex<Log>>);

#[derive(Debug)]
struct Log {
    path: PathBuf,
    /// None once the log belongs to another process.
    file: Option<File>,
    routes: BTreeMap<String, pb::Route>,
    lines: usize,
}

impl RouteLog {
    /// Opens the log and gives the routes in it.
    ///
    /// # Errors
    /// `INTERNAL` naming the file.
    pub fn open(path: &Path) -> Result<(Self, Vec<pb::Route>), Error> {
        let mut routes = BTreeMap::new();
        for line in files::read_if_there(path)?.unwrap_or_default().lines() {
            if let Ok(change) = serde_json::from_str::<Change>(line) {
                apply(&mut routes, change);
            }
        }
        let known = routes.values().cloned().collect();
        let mut log = Log { path: path.to_owned(), file: None, routes, lines: 0 };
        log.rewrite()?;
        Ok((Self(Arc::new(Mutex::new(log))), known))
    }

    /// Stores changes.
    ///
    /// # Errors
    /// `INTERNAL` naming the file.
    pub async fn append(&self, changes: Vec<Change>) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let log = self.clone();
        spawn_blocking(move || log.lock().append(changes))
            .await
            .map_err(|error| Error::internal("storing routes was interrupted").with_source(error))?
    }

    /// From now on another process writes the log.
    pub fn give_away(&self) {
        self.lock().file = None;
    }

    /// This process writes it again, with all that it knows.
    ///
    /// # Errors
    /// `INTERNAL` naming the file.
    pub fn take_back(&self) -> Result<(), Error> {
        self.lock().rewrite()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn append(&mut self, changes: Vec<Change>) -> Result<(), Error> {
        let mut text = Vec::new();
        for change in changes {
            write_line(&mut text, &change)?;
            apply(&mut self.routes, change);
            self.lines += 1;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(&text)
            .and_then(|()| file.sync_data())
            .map_err(|error| files::failed("write", &self.path, error))?;
        if self.lines > 2 * self.routes.len() + SLACK { self.rewrite() } else { Ok(()) }
    }

    fn rewrite(&mut self) -> Result<(), Error> {
        let mut text = Vec::new();
        for route in self.routes.values() {
            write_line(&mut text, &Change::Put(Box::new(route.clone())))?;
        }
        files::replace(&self.path, &text, Access::Private)?;
        let file = File::options().append(true).open(&self.path);
        self.file = Some(file.map_err(|error| files::failed("open", &self.path, error))?);
        self.lines = self.routes.len();
        Ok(())
    }
}

fn apply(routes: &mut BTreeMap<String, pb::Route>, change: Change) {
    match change {
        Change::Put(route) => drop(routes.insert(route.instance_id.clone(), *route)),
        Change::Remove(id) => drop(routes.remove(&id.to_string())),
    }
}

fn write_line(text: &mut Vec<u8>, change: &Change) -> Result<(), Error> {
    serde_json::to_writer(&mut *text, change)
        .map_err(|error| Error::internal("cannot write a route as JSON").with_source(error))?;
    text.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(instance: InstanceId, rev: u64) -> Change {
        Change::Put(Box::new(pb::Route { instance_id: instance.to_string(), rev, ..pb::Route::default() }))
    }

    #[tokio::test]
    async fn what_was_appended_is_there_after_a_restart_and_half_a_line_is_ignored() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("routes");
        let (one, two) = (InstanceId::new(), InstanceId::new());
        let (log, known) = RouteLog::open(&path).expect("new");
        assert!(known.is_empty());
        log.append(vec![route(one, 1), route(two, 1), route(one, 2), Change::Remove(two)]).await.expect("stored");
        let mut file = File::options().append(true).open(&path).expect("open");
        file.write_all(b"{\"put\":{\"instance_id\":").expect("half a line");
        let (_, known) = RouteLog::open(&path).expect("again");
        assert_eq!(
            known.iter().map(|route| (route.instance_id.clone(), route.rev)).collect::<Vec<_>>(),
            [(one.to_string(), 2)]
        );
    }

    #[tokio::test]
    async fn the_log_does_not_grow_for_ever_and_is_left_alone_once_given_away() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("routes");
        let one = InstanceId::new();
        let (log, _) = RouteLog::open(&path).expect("new");
        for rev in 0..3 {
            log.append((0..SLACK as u64).map(|n| route(one, rev * 1000 + n)).collect()).await.expect("stored");
        }
        let lines = || std::fs::read_to_string(&path).expect("text").lines().count();
        assert!(lines() <= SLACK + 2, "{}", lines());
        log.give_away();
        let before = lines();
        log.append(vec![route(one, 9000)]).await.expect("kept");
        assert_eq!(lines(), before);
        log.take_back().expect("ours again");
        let (_, known) = RouteLog::open(&path).expect("again");
        assert_eq!(known[0].rev, 9000);
    }
}
