//! `docs/nemesis.md`, from the results of all rounds, with the lessons that people wrote beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::Outcome;
use crate::workspace;

/// The page.
///
/// # Errors
/// A result cannot be read.
pub(super) fn render(results: &Path) -> Result<String> {
    let text = std::fs::read_to_string(results)?;
    let all = text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned()));
    let all: Vec<Outcome> = all.collect::<Result<_>>()?;
    let lessons = std::fs::read_to_string(workspace::root().join("docs/nemesis-lessons.md")).unwrap_or_default();
    Ok(page(&all, &lessons))
}

fn page(all: &[Outcome], lessons: &str) -> String {
    let acknowledged: u64 = all.iter().map(|outcome| outcome.acknowledged).sum();
    let failed = all.iter().filter(|outcome| !outcome.failures.is_empty()).count();
    let broken = |prefix: &str| all.iter().flat_map(|o| &o.failures).filter(|f| f.starts_with(prefix)).count();
    let mut page = format!(
        "# Faults\n\nWritten by `cargo xtask nemesis`; do not edit by hand. Each round: a workload through two proxies, \
         one fault on an installation of four hosts, two control planes and external metadata, each in a network \
         namespace and control group of its own on one machine, then every checker. A gap is the longest time that \
         any writer (100 per second each) was without an acknowledgement, from the fault until a second after every member was whole; it \
         counts the waiting in faults that leave nobody who may acknowledge. Programs are debug builds, and the machine \
         has other work: gaps show that things go on, `docs/benchmarks.md` has figures to compare.\n\n\
         {} rounds of {} faults, {acknowledged} acknowledged writes, {} lost, {} with two writers; {failed} rounds were \
         not as they must be.\n\n\
         | | Fault | Rounds | Gap p50 | p99 | longest | Epochs | Whole after, p50 | longest | Failed |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
        all.len(),
        all.iter().map(|outcome| &outcome.fault).collect::<BTreeSet<_>>().len(),
        broken("acked-set: id"),
        broken("single-writer:"),
    );
    let mut faults: BTreeMap<(u32, &str), Vec<&Outcome>> = BTreeMap::new();
    for outcome in all {
        let digits = outcome.fault.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        faults.entry((digits.parse().unwrap_or(0), &outcome.fault)).or_default().push(outcome);
    }
    for ((_, number), rounds) in &faults {
        let gaps = sorted(rounds.iter().map(|round| round.gap_ms));
        let wholes = sorted(rounds.iter().map(|round| round.whole_ms));
        let epochs: u64 = rounds.iter().map(|round| round.epochs).sum();
        let failed = rounds.iter().filter(|round| !round.failures.is_empty()).count();
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "| {number} | {} | {} | {} | {} | {} | {epochs} | {} | {} | {failed} |",
            rounds[0].name,
            rounds.len(),
            seconds(at(&gaps, 0.5)),
            seconds(at(&gaps, 0.99)),
            seconds(at(&gaps, 1.0)),
            seconds(at(&wholes, 0.5)),
            seconds(at(&wholes, 1.0)),
        );
    }
    let mut failures = all.iter().filter(|outcome| !outcome.failures.is_empty()).peekable();
    if failures.peek().is_some() {
        page += "\n## Rounds that failed\n\n";
        for outcome in failures {
            let first = outcome.failures[0].lines().next().unwrap_or_default();
            let more = outcome.failures.len() - 1;
            let _ = writeln!(page, "- {} (seed {}): {first}; {more} more", outcome.fault, outcome.seed);
        }
    }
    if !lessons.is_empty() {
        page += "\n";
        page += lessons;
    }
    page
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn at(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

fn seconds(milliseconds: f64) -> String {
    format!("{:.2} s", milliseconds / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(fault: &str, gap_ms: f64, failures: &[&str]) -> Outcome {
        Outcome {
            fault: fault.to_owned(),
            name: "something".to_owned(),
            seed: 7,
            gap_ms,
            acknowledged: 100,
            epochs: 1,
            whole_ms: 2000.0,
            failures: failures.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    #[test]
    fn faults_are_in_the_order_of_the_matrix_and_failures_are_counted() {
        let all = [
            outcome("11", 1500.0, &[]),
            outcome("2", 300.0, &[]),
            outcome("11", 2500.0, &["acked-set: id 5 is lost", "another"]),
        ];
        let page = page(&all, "## Lessons\n");
        assert!(
            page.contains("3 rounds of 2 faults, 300 acknowledged writes, 1 lost, 0 with two writers; 1 rounds were"),
            "{page}"
        );
        assert!(page.find("| 2 |") < page.find("| 11 |"), "{page}");
        assert!(page.contains("| 11 | something | 2 | 2.50 s | 2.50 s | 2.50 s | 2 | 2.00 s | 2.00 s | 1 |"), "{page}");
        assert!(page.contains("- 11 (seed 7): acked-set: id 5 is lost; 1 more"), "{page}");
        assert!(page.ends_with("## Lessons\n"));
    }
}
