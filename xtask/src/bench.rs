//! `cargo xtask bench`: measures optimised builds and writes `docs/benchmarks.md`.
//!
//! Each benchmark is a program that prints one line of JSON for each series, its baseline measured in the same run.
//! Results rest under `target/bench`; the page is made of all that are there, so that one may be measured anew alone.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::database_user::DatabaseUser;
use crate::packages::{self, Consent};
use crate::scratch_postgres::ScratchPostgres;
use crate::workspace;

/// Measure optimised builds and write docs/benchmarks.md.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which ones; all if none is named.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(BENCHMARKS.iter().map(|b| b.name)))]
    names: Vec<String>,
}

struct Benchmark {
    name: &'static str,
    title: &'static str,
    package: &'static str,
    example: &'static str,
    note: &'static str,
}

const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "create",
        title: "Create an instance",
        package: "windlass-tests",
        example: "bench_create",
        note: "From the request to a server that accepts connections, on a host whose warm pool is filled. The baseline \
               is `initdb` with checksums and `pg_ctl start`, or `mariadb-install-db` and `mariadbd`, for the same.",
    },
    Benchmark {
        name: "restart",
        title: "Restart an instance",
        package: "windlass-tests",
        example: "bench_restart",
        note: "From the request to a server that accepts connections again.",
    },
    Benchmark {
        name: "queue",
        title: "Command queue",
        package: "windlass-tests",
        example: "bench_queue",
        note: "From the commit of a command to its arrival at the agent, 100 commands a second in open loop, while \
               1,000 simulated agents hold a poll.",
    },
    Benchmark {
        name: "scheduler",
        title: "Placement over 10,000 hosts",
        package: "windlass-logic",
        example: "placement_bench",
        note: "One decision of the scheduler over a mixed fleet.",
    },
    Benchmark {
        name: "idle",
        title: "At idle",
        package: "windlass-tests",
        example: "bench_idle",
        note: "A control plane with embedded metadata and one agent, no instances, over 30 s.",
    },
];

/// One series.
#[derive(Deserialize, Serialize)]
struct Series {
    name: String,
    unit: String,
    median: f64,
    p99: f64,
    worst: Option<f64>,
    runs: u64,
    baseline: Option<String>,
}

/// Runs the task.
///
/// # Errors
/// A benchmark fails.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    packages::ensure(Consent::Ask)?;
    DatabaseUser::ensure()?;
    let results = workspace::target().join("bench");
    std::fs::create_dir_all(&results)?;
    workspace::run(&mut workspace::cargo(&["build", "--release", "--workspace", "--bins"]))?;
    for benchmark in BENCHMARKS {
        if arguments.names.is_empty() || arguments.names.iter().any(|name| name == benchmark.name) {
            let series = measure(benchmark)?;
            std::fs::write(results.join(benchmark.name), serde_json::to_string_pretty(&series)?)?;
        }
    }
    let page = page(&results)?;
    std::fs::write(workspace::root().join("docs/benchmarks.md"), page)?;
    println!("docs/benchmarks.md is written");
    Ok(())
}

fn measure(benchmark: &Benchmark) -> Result<Vec<Series>> {
    let database = ScratchPostgres::start()?;
    let mut command = workspace::cargo(&["run", "--quiet", "--release"]);
    command
        .args(["--package", benchmark.package, "--example", benchmark.example])
        .env("DATABASE_URL", database.url())
        .env("WINDLASS_BIN_DIR", workspace::target().join("release"));
    eprintln!("measuring {}", benchmark.name);
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{}: {}", benchmark.name, output.status);
    }
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn page(results: &Path) -> Result<String> {
    let mut page = format!(
        "# Benchmarks\n\nWritten by `cargo xtask bench`; measure again rather than edit. Times on a busy or virtual \
         machine are noisy: read medians, and ratios to the baseline measured in the same run.\n\n{}\n",
        machine()?
    );
    for benchmark in BENCHMARKS {
        let Ok(text) = std::fs::read_to_string(results.join(benchmark.name)) else { continue };
        let all: Vec<Series> = serde_json::from_str(&text)?;
        write!(
            page,
            "\n## {}\n\n{} `cargo xtask bench {}`\n\n| | Median | p99 | Worst | Runs | Ratio to baseline |\n\
             |---|---|---|---|---|---|\n",
            benchmark.title, benchmark.note, benchmark.name
        )?;
        for series in &all {
            let baseline = series.baseline.as_ref().and_then(|name| all.iter().find(|other| other.name == *name));
            let ratio = baseline
                .map_or(String::new(), |other| format!("{:.2} of {}", series.median / other.median, other.name));
            let value = |value: f64| format!("{} {}", rounded(value), series.unit);
            let worst = series.worst.map_or_else(String::new, value);
            writeln!(
                page,
                "| {} | {} | {} | {worst} | {} | {ratio} |",
                series.name,
                value(series.median),
                value(series.p99),
                series.runs
            )?;
        }
    }
    Ok(page)
}

fn rounded(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// What the figures depend on.
fn machine() -> Result<String> {
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
