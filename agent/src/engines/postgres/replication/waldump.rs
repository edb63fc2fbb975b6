//! Questions to the log of a server that does not run, answered by pg_waldump.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use windlass_core::Error;

use super::Lsn;
use crate::{
    engines::Server,
    host::helper::{Finished, Helper, Priority},
};

const LIMIT: Duration = Duration::from_secs(120);
/// Bytes of a shutdown checkpoint's record, by which the end is reckoned if the log does not tell.
const CHECKPOINT_BYTES: u64 = 0x78;

/// Where the log ends behind the record at `from`, which is a shutdown checkpoint's.
///
/// # Errors
/// `INTERNAL` if the program cannot be run.
pub async fn end_of_wal(server: &Server, timeline: u32, from: Lsn) -> Result<Lsn, Error> {
    let finished = dump(server, timeline, from, &["--quiet"]).await?;
    Ok(end_of(&finished.errors).unwrap_or(Lsn(from.0 + CHECKPOINT_BYTES)))
}

/// What was committed behind a fork, for people; empty if nothing.
///
/// # Errors
/// `INTERNAL` if the program cannot be run.
pub async fn lost_writes(server: &Server, timeline: u32, fork: Lsn) -> Result<String, Error> {
    let finished = dump(server, timeline, fork, &["--rmgr=Transaction"]).await?;
    Ok(summary(&finished.output, fork))
}

async fn dump(server: &Server, timeline: u32, from: Lsn, options: &[&str]) -> Result<Finished, Error> {
    let mut arguments = vec![
        "--path".into(),
        server.site.data.join("pg_wal").into_os_string(),
        "--timeline".into(),
        timeline.to_string().into(),
        "--start".into(),
        from.to_string().into(),
    ];
    arguments.extend(options.iter().map(Into::into));
    let helper = Helper {
        program: &server.installation.server.with_file_name("pg_waldump"),
        arguments,
        directory: &server.site.scratch,
        account: &server.accounts.database,
        priority: Priority::Normal,
        limit: LIMIT,
    };
    helper.run(&CancellationToken::new()).await
}

/// `error in WAL record at 0/1500148: invalid record length at 0/15001C0: wanted 24, got 0`: the last is the end.
fn end_of(errors: &str) -> Option<Lsn> {
    let line = errors.lines().find(|line| line.contains("error in WAL record at"))?;
    let rest = &line[line.rfind(" at ")? + 4..];
    rest.split(|c: char| c != '/' && !c.is_ascii_hexdigit()).next()?.parse().ok()
}

fn summary(dump: &str, fork: Lsn) -> String {
    let commits: Vec<&str> = dump.lines().filter(|line| line.contains("desc: COMMIT")).collect();
    let (Some(first), Some(last)) = (commits.first(), commits.last()) else { return String::new() };
    let time = |line: &str| {
        let text = line.split("desc: COMMIT").nth(1).unwrap_or_default();
        text.trim_start_matches("_PREPARED").split(';').next().unwrap_or_default().trim().to_owned()
    };
    format!(
        "{} transactions behind {fork} that were never acknowledged, from {} to {}",
        commits.len(),
        time(first),
        time(last)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_stands_at_the_end_of_the_complaint() {
        let text = "pg_waldump: error: error in WAL record at 0/1500148: invalid record length at 0/15001C0: wanted 24, got 0\n";
        assert_eq!(end_of(text), Some(Lsn(0x150_01C0)));
        assert_eq!(end_of("pg_waldump: error: could not find file"), None);
    }

    #[test]
    fn commits_behind_the_fork_are_counted() {
        let dump = "rmgr: Transaction len (rec/tot): 34/ 34, tx: 735, lsn: 0/15, prev 0/14, desc: COMMIT 2026-11-20 10:00:01.5 UTC\n\
            rmgr: Transaction len (rec/tot): 34/ 34, tx: 736, lsn: 0/16, prev 0/15, desc: ABORT 2026-11-20 10:00:02 UTC\n\
            rmgr: Transaction len (rec/tot): 34/ 34, tx: 737, lsn: 0/17, prev 0/15, desc: COMMIT 2026-11-20 10:00:03 UTC; inval msgs: x\n";
        assert_eq!(
            summary(dump, Lsn(0x14)),
            "2 transactions behind 0/14 that were never acknowledged, from 2026-11-20 10:00:01.5 UTC to 2026-11-20 10:00:03 UTC"
        );
        assert_eq!(summary("", Lsn(1)), "");
    }
}
