//! Facts of the machine: what it has and how busy it is. Read from `/proc`, so that an idle agent costs next to nothing.

use std::{fs, path::Path};

use windlass_core::{Error, size::Resources};
use windlass_proto::agent::v1 as pb;

use super::{files, proc};

/// Measures the load between two samples.
#[derive(Debug, Default)]
pub struct LoadMeter {
    previous: Option<Ticks>,
}

/// Processor time since boot, in clock ticks.
#[derive(Debug, Clone, Copy)]
struct Ticks {
    total: u64,
    idle: u64,
}

/// What the machine has: all cores, all memory, and the size of the file system below the path.
///
/// # Errors
/// `INTERNAL` when it cannot be measured.
pub fn capacity(path: &Path) -> Result<Resources, Error> {
    let cores = std::thread::available_parallelism()
        .map_err(|error| Error::internal("cannot count processors").with_source(error))?;
    let stat = rustix::fs::statvfs(path).map_err(|error| files::failed("measure", path, error.into()))?;
    Ok(Resources {
        cpu_millis: cores.get() as u64 * 1000,
        memory_bytes: memory("MemTotal:"),
        disk_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

/// New for each boot of the machine.
///
/// # Errors
/// `INTERNAL` when `/proc` is not there.
pub fn boot_id() -> Result<String, Error> {
    proc::boot_id()
}

impl LoadMeter {
    /// The load now; the processor's share is since the previous call.
    pub fn sample(&mut self, path: &Path) -> pb::HostFacts {
        let now = ticks();
        let cpu_percent = match (self.previous, now) {
            (Some(before), Some(now)) if now.total > before.total => {
                let idle = now.idle.saturating_sub(before.idle) as f64;
                100.0 * (1.0 - idle / (now.total - before.total) as f64)
            }
            _ => 0.0,
        };
        self.previous = now;
        pb::HostFacts {
            cpu_percent,
            memory_used_bytes: memory("MemTotal:").saturating_sub(memory("MemAvailable:")),
            disk_free_bytes: files::free_space(path).unwrap_or(0),
            psi_cpu: pressure("cpu"),
            psi_memory: pressure("memory"),
            psi_io: pressure("io"),
        }
    }
}

fn memory(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes =
        text.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Share of the last ten seconds in which some task waited, in percent; 0 on kernels without pressure accounting.
fn pressure(resource: &str) -> f64 {
    parse_pressure(&fs::read_to_string(format!("/proc/pressure/{resource}")).unwrap_or_default())
}

fn parse_pressure(text: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix("some avg10=")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}

fn ticks() -> Option<Ticks> {
    parse_ticks(&fs::read_to_string("/proc/stat").ok()?)
}

/// The first line: user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user time already.
fn parse_ticks(text: &str) -> Option<Ticks> {
    let fields: Vec<u64> =
        text.lines().next()?.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
    Some(Ticks { total: fields.iter().sum(), idle: fields.get(3)? + fields.get(4)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let ticks = parse_ticks("cpu  10 20 30 40 50 1 2 3 99 99\ncpu0 1\n").expect("ticks");
        assert_eq!((ticks.total, ticks.idle), (156, 90));
        assert_eq!(parse_pressure("some avg10=1.25 avg60=0.00 avg300=0.00 total=7\nfull avg10=9 "), 1.25);
        assert_eq!(parse_pressure(""), 0.0);
    }

    #[test]
    fn this_machine_has_something_of_everything() {
        let has = capacity(Path::new("/")).expect("capacity");
        assert!(has.cpu_millis >= 1000 && has.memory_bytes > 1 << 28 && has.disk_bytes > 1 << 28, "{has:?}");
        let mut meter = LoadMeter::default();
        meter.sample(Path::new("/"));
        let facts = meter.sample(Path::new("/"));
        assert!((0.0..=100.0).contains(&facts.cpu_percent) && facts.memory_used_bytes > 0, "{facts:?}");
    }
}
