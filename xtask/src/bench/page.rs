//! `docs/benchmarks.md`, from the results that are there.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::series::Series;
use super::{BENCHMARKS, machine};

/// The page.
///
/// # Errors
/// A result cannot be read, or the machine cannot be described.
pub(crate) fn render(results: &Path) -> Result<String> {
    let mut page = format!(
        "# Benchmarks\n\nWritten by `cargo xtask bench`, which builds optimised programs, measures and writes this page; \
         `cargo xtask bench NAME` measures one part anew. Do not edit by hand. Times on a virtual machine with \
         neighbours are noisy: read medians, and ratios to the baseline, which was measured in the same run, turn by turn \
         with ours.\n\n{}\n",
        machine::describe()?
    );
    for benchmark in BENCHMARKS {
        let Ok(text) = std::fs::read_to_string(results.join(benchmark.name)) else { continue };
        let all: Vec<Series> = serde_json::from_str(&text).with_context(|| format!("results of {}", benchmark.name))?;
        write!(
            page,
            "\n## {}\n\n{} `cargo xtask bench {}`\n\n\
             | | Median | p99 | Worst | Runs | Baseline | Ratio | Aim |\n|---|---|---|---|---|---|---|---|\n",
            benchmark.title, benchmark.note, benchmark.name
        )?;
        for series in &all {
            writeln!(page, "{}", series.row(&all))?;
        }
    }
    Ok(page)
}
