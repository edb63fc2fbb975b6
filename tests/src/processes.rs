//! What processes use, from `/proc`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::{SysconfVar, sysconf};

/// Whom to ask.
#[derive(Debug, Clone, Copy)]
pub enum Scope {
    /// One process.
    Alone(i32),
    /// A process and its descendants.
    Family(i32),
}

/// Proportional set size in bytes.
///
/// # Errors
/// The process is gone.
pub fn memory(of: Scope) -> Result<u64> {
    let mut sum = 0;
    for pid in of.pids() {
        // A descendant may end at any time.
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
        let kibibytes: u64 = line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
        sum += kibibytes * 1024;
    }
    ensure!(sum > 0, "{of:?} is gone");
    Ok(sum)
}

/// Processor time so far, with that of ended children, in steps of a clock tick (mostly 10 ms).
///
/// # Errors
/// The system does not say how long a tick is.
pub fn processor_time(of: Scope) -> Result<Duration> {
    let mut ticks = 0;
    for pid in of.pids() {
        let Some(fields) = stat(pid) else { continue };
        // utime, stime, and both of the children that were waited for.
        ticks += fields.iter().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
    }
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("clock ticks")?;
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

impl Scope {
    /// Whoever belongs to it now.
    pub fn pids(self) -> Vec<i32> {
        match self {
            Self::Alone(pid) => vec![pid],
            Self::Family(root) => family(root),
        }
    }
}

fn family(root: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parents: Vec<(i32, i32)> = pids.filter_map(|pid| Some((pid, stat(pid)?.get(1)?.parse().ok()?))).collect();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(pid) = family.get(next).copied() {
        family.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child));
        next += 1;
    }
    family
}

/// As [`fields`], of a process.
pub(crate) fn stat(pid: i32) -> Option<Vec<String>> {
    fields(Path::new(&format!("/proc/{pid}/stat")))
}

/// The fields of the `stat` file of a process or thread behind the name: state, parent, group, session and so on.
pub(crate) fn fields(file: &Path) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(file).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_its_children_and_who_is_gone_is_an_error() {
        let own = std::process::id().cast_signed();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let found = family(own);
        assert!(found.contains(&child.id().cast_signed()), "{found:?}");
        assert!(memory(Scope::Family(own)).expect("alive") > memory(Scope::Alone(own)).expect("alive") / 2);
        child.kill().expect("kill");
        let ended = child.id().cast_signed();
        child.wait().expect("wait");
        assert!(memory(Scope::Alone(ended)).is_err());
    }

    #[test]
    fn work_takes_time() {
        let own = Scope::Alone(std::process::id().cast_signed());
        let begin = processor_time(own).expect("ticks");
        let mut spins = 0_u64;
        while processor_time(own).expect("ticks") <= begin {
            spins += 1;
        }
        assert!(spins > 0);
    }
}
