//! What the figures depend on.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::{packages, workspace};

/// Processor, memory, kernel, engines and disk, in a sentence.
///
/// # Errors
/// An engine is missing, or the disk refused.
pub(crate) fn describe() -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes: u64 = memory.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, m)| m);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let postgres = packages::postgres_directory()?.join("postgres");
    let version = |program: &Path| workspace::output(Command::new(program).arg("--version"));
    let mariadb = workspace::program("mariadbd").context("no mariadbd")?;
    Ok(format!(
        "Machine: {cores} cores ({model}), {} GiB, Linux {}; {}; {}; fdatasync of 8 KiB: {:.2} ms (median of 200).",
        kilobytes >> 20,
        kernel.trim(),
        version(&postgres)?.trim(),
        version(&mariadb)?.trim().trim_start_matches(&*mariadb.to_string_lossy()).trim(),
        fdatasync()?,
    ))
}

/// Median time to make one page durable, in milliseconds.
fn fdatasync() -> Result<f64> {
    use std::os::unix::fs::FileExt;
    let file = tempfile::tempfile_in(workspace::target())?;
    let mut times = Vec::new();
    for at in 0..200 {
        let begin = Instant::now();
        file.write_all_at(&[7; 8192], at * 8192)?;
        file.sync_data()?;
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
