//! Clients that write and read all the time and remember what they were told, for the checkers.
//!
//! Each client is a thread in a host's network. A client knows no more than an application does: it connects, gives up
//! a connection that breaks or answers nothing for too long, and connects again at once. What was under way when a
//! connection broke is neither a success nor a failure.

mod append;
mod bank;
mod history;
mod session;
mod watch;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::lab::Node;
use crate::lab::Task;

pub use history::{End, History};
pub use session::{Session, Target, Trust};
pub use watch::watch;

/// Lists that are appended to.
const LISTS: i32 = 4;
/// Accounts of the bank, and what each has at first.
const ACCOUNTS: i32 = 8;
const BALANCE: i64 = 100;

/// A writer that is to measure gaps writes this often.
pub const EVERY: Duration = Duration::from_millis(10);

/// How many clients of each kind.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    /// Insert a unique id each; they measure gaps.
    pub writers: u32,
    /// As writers, but cancel some of their own statements.
    pub cancellers: u32,
    /// Append to lists and read them.
    pub appenders: u32,
    /// Transfer between accounts and read their sum.
    pub bankers: u32,
    /// From one insert of a writer to the next.
    pub every: Duration,
}

impl Default for Mix {
    fn default() -> Self {
        Self { writers: 2, cancellers: 0, appenders: 1, bankers: 1, every: EVERY }
    }
}

/// What every client has.
#[derive(Debug, Clone)]
struct Work {
    client: u32,
    target: Target,
    begin: Instant,
    stop: Arc<AtomicBool>,
    last_ack: Arc<AtomicU64>,
    log: PathBuf,
}

impl Work {
    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn acknowledged(&self, at: Duration) {
        let micros = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
        self.last_ack.fetch_max(micros, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Workload {
    begin: Instant,
    stop: Arc<AtomicBool>,
    last_ack: Arc<AtomicU64>,
    tasks: Vec<Task<History>>,
}

impl Workload {
    /// Makes the tables, anew if they are there.
    ///
    /// # Errors
    /// The server refused.
    pub async fn prepare(target: &Target) -> Result<()> {
        let session = Session::open(target).await?;
        // A server that was cut off from its clients keeps their sessions for a while, and those keep their locks.
        let left = "select pg_terminate_backend(pid, 5000) from pg_stat_activity
                    where application_name = 'nemesis' and usename = current_user and pid <> pg_backend_pid()";
        session.within(session.client.simple_query(left)).await?;
        let script = format!(
            "drop schema if exists nemesis cascade;
             create schema nemesis;
             create table nemesis.write(id bigint primary key, epoch bigint not null, transaction bigint not null);
             create table nemesis.list(key int primary key, list bigint[] not null);
             insert into nemesis.list select key, '{{}}' from generate_series(0, {LISTS} - 1) key;
             create table nemesis.account(id int primary key, balance bigint not null);
             insert into nemesis.account select id, {BALANCE} from generate_series(0, {ACCOUNTS} - 1) id"
        );
        session.within(session.client.batch_execute(&script)).await
    }

    /// Sets clients to work, each at one of the places in turn: a host and the address by which it reaches the database.
    /// Their logs of acknowledgements go into a directory.
    ///
    /// # Errors
    /// The system refused.
    pub fn start(places: &[(Node, Target)], mix: Mix, logs: &Path) -> Result<Self> {
        std::fs::create_dir_all(logs)?;
        let mut workload =
            Self { begin: Instant::now(), stop: Arc::default(), last_ack: Arc::default(), tasks: Vec::new() };
        let kinds = [
            (mix.writers, Kind::Write),
            (mix.cancellers, Kind::WriteAndCancel),
            (mix.appenders, Kind::Append),
            (mix.bankers, Kind::Bank),
        ];
        let clients = kinds.into_iter().flat_map(|(count, kind)| std::iter::repeat_n(kind, count as usize));
        for ((kind, client), (node, target)) in clients.zip(1_u32..).zip(places.iter().cycle()) {
            let work = Work {
                client,
                target: target.clone(),
                begin: workload.begin,
                stop: Arc::clone(&workload.stop),
                last_ack: Arc::clone(&workload.last_ack),
                log: logs.join(format!("client-{client}.acks")),
            };
            let task = node.spawn(&format!("client-{client}"), async move |_| match kind {
                Kind::Write => write::run(work, mix.every, write::Cancels::Never).await,
                Kind::WriteAndCancel => write::run(work, mix.every, write::Cancels::Sometimes).await,
                Kind::Append => append::run(work).await,
                Kind::Bank => bank::run(work).await,
            });
            workload.tasks.push(task?);
        }
        Ok(workload)
    }

    /// Time since the start, as in the history.
    pub fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// When a writer was last told of a success.
    pub fn last_ack(&self) -> Duration {
        Duration::from_micros(self.last_ack.load(Ordering::Relaxed))
    }

    /// Ends the work and gives what the clients saw.
    ///
    /// # Errors
    /// A client could not write its log, or the server did something that no fault explains.
    pub async fn finish(mut self) -> Result<History> {
        self.stop.store(true, Ordering::Relaxed);
        let tasks = std::mem::take(&mut self.tasks);
        tokio::task::spawn_blocking(move || {
            let mut history = History::default();
            for task in tasks {
                history.extend(task.join()?);
            }
            Ok(history)
        })
        .await?
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Write,
    WriteAndCancel,
    Append,
    Bank,
}
