//! `cargo xtask bench`: measures optimised builds and writes `docs/benchmarks.md`.
//!
//! Each benchmark is a program that prints one line of JSON for each series, its baseline measured in the same run.
//! Results rest under `target/bench`; the page is made of all that are there, so that one may be measured anew alone.

mod machine;
mod page;
mod series;

use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::database_user::DatabaseUser;
use crate::packages::{self, Consent};
use crate::workspace;
use series::Series;

/// Measure optimised builds and write docs/benchmarks.md.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which ones; all if none is named.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(BENCHMARKS.iter().map(|b| b.name)))]
    names: Vec<String>,
    /// Only write the page, of the results that are there.
    #[arg(long, conflicts_with = "names")]
    page: bool,
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
        note: "From the API request until the operation has succeeded, and until a client that connects then by TCP, TLS \
               and password has its first answer. One create at a time, each after the host's warm pool is filled again \
               and the former instance is gone; the last series is without such pauses, so that most creates find the \
               pool empty. The engine's own tools: `initdb` with checksums and `postgres`, or `mariadb-install-db` and \
               `mariadbd`, executed directly, until a client without TLS that tries each millisecond has an answer.",
    },
    Benchmark {
        name: "restart",
        title: "Restart an instance",
        package: "windlass-tests",
        example: "bench_restart",
        note: "From the API request until the operation has succeeded, and until the first answer as above. The engine's \
               own tools: `pg_ctl restart -w`; SIGTERM, wait and `mariadbd`.",
    },
    Benchmark {
        name: "queue",
        title: "Command queue",
        package: "windlass-tests",
        example: "bench_queue",
        note: "From before the transaction that queues a command until the agent begins it: 100 commands a second in open \
               loop for 30 s, to 1,000 simulated agents that are connected by TLS, hold a poll each and send their \
               heartbeats, all on this machine. The metadata is embedded and durable. A command that waits for its turn \
               counts its wait. Baseline: one insert with its commit in the same database, in the pauses between.",
    },
    Benchmark {
        name: "scheduler",
        title: "Placement over 10,000 hosts",
        package: "windlass-logic",
        example: "placement_bench",
        note: "One decision of the scheduler over a mixed fleet.",
    },
    Benchmark {
        name: "ha",
        title: "High availability",
        package: "windlass-tests",
        example: "bench_ha",
        note: "An instance of two members on three hosts that are network namespaces of this machine, with a control plane, \
               external metadata and a proxy on hosts of their own. Instances are made with full warm pools; switchovers \
               are measured before the 20 others are made, whose files the disk writes for a minute, and nothing is \
               removed before the end: ext4 is slow to make files for minutes after thousands were removed. Four writers, each of which inserts a row every 10 ms through \
               the proxy; a gap is the longest time that any of them was without an acknowledgement, until a second after \
               writes went on. After each round every acknowledged row must be there, or the measurement fails; of the peer they are counted. Beside it \
               pg_auto_failover as Debian packages it, with its defaults: monitor and two nodes on hosts of their own, \
               reached directly by the same writers, who try both addresses.",
    },
    Benchmark {
        name: "proxy",
        title: "Proxy",
        package: "windlass-tests",
        example: "bench_proxy",
        note: "pgbench against one instance: past the proxy, through PgBouncer as Debian packages it, and through ours, in \
               turns, all on this machine. Both pools share 20 server connections between transactions, with TLS to the \
               server; PgBouncer of this version cannot keep prepared statements apart there and has a session for each \
               client at those points, as a direct client has. Figures are 1 / throughput: lower is better, and a ratio below \
               1 is faster than PgBouncer. One statement: `select 1` by one client over TLS; what is added is the difference \
               of medians of blocks of 200. Memory: growth of the proportional set size by clients that have logged in over \
               TLS and say nothing.",
    },
    Benchmark {
        name: "idle",
        title: "At idle",
        package: "windlass-tests",
        example: "bench_idle",
        note: "One control plane with embedded metadata and one agent over 30 s, first without instances, then with a \
               PostgreSQL and a MariaDB. Memory is the proportional set size, six looks; of the metadata the sum of all \
               its processes.",
    },
];

/// Runs the task.
///
/// # Errors
/// A benchmark fails.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let results = workspace::target().join("bench");
    std::fs::create_dir_all(&results)?;
    let wanted = |name: &str| arguments.names.is_empty() || arguments.names.iter().any(|wanted| wanted == name);
    let chosen: Vec<_> = BENCHMARKS.iter().filter(|benchmark| !arguments.page && wanted(benchmark.name)).collect();
    if !chosen.is_empty() {
        packages::ensure_with_peers(Consent::Ask)?;
        DatabaseUser::ensure()?;
        build(&chosen)?;
    }
    for benchmark in chosen {
        let series = measure(benchmark)?;
        std::fs::write(results.join(benchmark.name), serde_json::to_string_pretty(&series)?)?;
    }
    let page = page::render(&results)?;
    std::fs::write(workspace::root().join("docs/benchmarks.md"), page)?;
    println!("docs/benchmarks.md is written");
    Ok(())
}

/// One build of the programs, as they are shipped, and one of what measures them.
fn build(chosen: &[&Benchmark]) -> Result<()> {
    let packages = ["windlass-control-plane", "windlass-agent", "windlass-proxy"];
    let programs = packages.iter().flat_map(|package| ["--package", package]).chain(["--bins"]);
    workspace::run(workspace::cargo(&["build", "--release"]).args(programs))?;
    let mut drivers = workspace::cargo(&["build", "--release"]);
    for benchmark in chosen {
        drivers.args(["--package", benchmark.package, "--example", benchmark.example]);
    }
    workspace::run(&mut drivers)
}

fn measure(benchmark: &Benchmark) -> Result<Vec<Series>> {
    let release = workspace::target().join("release");
    eprintln!("measuring {}", benchmark.name);
    let output = std::process::Command::new(release.join("examples").join(benchmark.example))
        .current_dir(workspace::root())
        .env("WINDLASS_BIN_DIR", &release)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("{}: {}", benchmark.name, output.status);
    }
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}
