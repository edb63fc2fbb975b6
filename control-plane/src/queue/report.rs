//! Results: stored in groups. While one group is being committed the next one gathers; each reporter waits for its
//! own group, so a result that was acknowledged is durable.

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use windlass_core::{Error, id::CommandId};
use windlass_db::commands::{CommandReport, ReportVerdict};

use super::poll::Queue;

/// Most reports of one group; reporters are never split.
const GROUP: usize = 256;

/// One agent's results.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) reports: Vec<CommandReport>,
    pub(super) done: oneshot::Sender<Result<Vec<CommandId>, Error>>,
}

/// The group commit.
pub(super) struct Batch;

impl Batch {
    pub(super) async fn run(queue: Queue, mut jobs: mpsc::Receiver<Job>, shutdown: CancellationToken) {
        loop {
            let mut group = Vec::new();
            tokio::select! {
                n = jobs.recv_many(&mut group, GROUP) => if n == 0 { break },
                () = shutdown.cancelled() => break,
            }
            store(&queue, group).await;
        }
    }
}

async fn store(queue: &Queue, group: Vec<Job>) {
    let all: Vec<CommandReport> = group.iter().flat_map(|job| job.reports.iter().cloned()).collect();
    match queue.shared.db.commands_report(&all).await {
        Ok(verdicts) => {
            let mut verdicts = verdicts.into_iter();
            for job in group {
                let verdicts: Vec<_> = verdicts.by_ref().take(job.reports.len()).collect();
                finish(queue, job, &verdicts);
            }
        }
        // One report that the database refuses must not hold up the others.
        Err(error) if group.len() > 1 && !error.retryable() => {
            for job in group {
                match queue.shared.db.commands_report(&job.reports).await {
                    Ok(verdicts) => finish(queue, job, &verdicts),
                    Err(error) => answer(job, Err(error)),
                }
            }
        }
        Err(error) => {
            for job in group {
                answer(job, Err(error.clone()));
            }
        }
    }
}

fn finish(queue: &Queue, job: Job, verdicts: &[ReportVerdict]) {
    let mut acknowledged = Vec::new();
    for (report, verdict) in job.reports.iter().zip(verdicts) {
        match verdict {
            ReportVerdict::Stored | ReportVerdict::Ended => acknowledged.push(report.uid),
            ReportVerdict::Stale => {
                tracing::info!(command = %report.uid, attempt = report.attempt, "a stale result was refused");
            }
        }
    }
    if let Some(report) = job.reports.first() {
        queue.shared.hosts.settle(report.host, acknowledged.iter().copied());
        // The next command of the member can be fetched now.
        queue.shared.waker.wake(&[report.host]);
    }
    queue.shared.sagas.wake();
    answer(job, Ok(acknowledged));
}

fn answer(job: Job, outcome: Result<Vec<CommandId>, Error>) {
    // The reporter may have gone; it will report again.
    let _ = job.done.send(outcome);
}
