//! The proxy beside a direct connection and PgBouncer: pgbench, the latency that it adds, and what an idle client costs.
//! Prints one line of JSON for each series. Arguments for a short look: seconds of each pgbench, turns, idle clients.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use windlass_proto::api::v1::{Connection, Resources};
use windlass_tests::Stack;
use windlass_tests::api::create_request;
use windlass_tests::database;
use windlass_tests::measure::Samples;
use windlass_tests::pgbouncer::{self, PgBouncer};
use windlass_tests::processes::{Scope, memory};
use windlass_tests::proxy::{Proxy, Session, session};
use windlass_tests::stack::Metadata;

const PROJECT: &str = "bench";
/// Server connections of each pool.
const BACKENDS: u32 = 20;
/// Rows of pgbench's accounts, in hundreds of thousands.
const SCALE: &str = "10";
/// Clients of pgbench that connect within a second, on a slow machine.
const CONNECTS: u32 = 100;
/// Blocks of statements whose medians are compared, and statements in each.
const BLOCKS: (usize, usize) = (30, 200);
/// Most latency that the proxy may add, in µs.
const ADDED: f64 = 60.0;
/// Most memory of an idle client, in KiB.
const IDLE: f64 = 20.0;

struct Target {
    name: &'static str,
    address: SocketAddr,
    user: String,
    database: String,
}

struct Bench {
    to: Connection,
    seconds: u32,
    turns: usize,
}

#[derive(Clone, Copy)]
struct Point {
    script: &'static str,
    protocol: &'static str,
    tls: &'static str,
    clients: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let numbers: Vec<u32> = std::env::args().skip(1).map(|word| word.parse()).collect::<Result<_, _>>()?;
    let number = |at: usize, usual| numbers.get(at).copied().unwrap_or(usual);
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;

    let stack = Stack::plan().as_shipped().metadata(Metadata::Embedded).start().await?;
    stack.api.create_project(PROJECT).await?;
    let mut request = create_request(PROJECT, "db", "postgres");
    let instance = request.instance.as_mut().context("an instance")?;
    instance.resources = Some(Resources { cpu_millis: 2000, memory_bytes: 2 << 30, disk_bytes: 4 << 30 });
    instance.parameters.insert("max_connections".to_owned(), "1300".to_owned());
    // The agent has not told yet which parameters there are.
    let operation = windlass_tests::wait_until("a create that is accepted", Duration::from_secs(30), async || {
        Ok(stack.api.instances().create_instance(request.clone()).await?.into_inner())
    })
    .await?;
    stack.api.succeeded(&operation).await?;
    let more = format!(
        "pooling = \"transaction\"\nplaintext = \"allow\"\n[limits]\nbackends = {BACKENDS}\nclients_per_instance = 12000\nclients_per_user = 12000\n"
    );
    let mut proxy = Proxy::start(&stack, "front", &more).await?;
    let to = stack.credentials(PROJECT, "db").await?;
    let (chain, key) = proxy.server_certificate()?;
    let bouncer = PgBouncer::start(&to, BACKENDS, &chain, &key).await?;

    let bench = Bench { to, seconds: number(0, 3), turns: number(1, 3) as usize };
    let direct: SocketAddr = format!("127.0.0.1:{}", bench.to.port).parse()?;
    let database = bench.to.database.clone();
    let suffix = format!("{}@db.{PROJECT}", bench.to.user);
    let target = |name, address, user: &str, database: &str| Target {
        name,
        address,
        user: user.to_owned(),
        database: database.to_owned(),
    };
    let user = bench.to.user.clone();
    let direct = target("direct", direct, &user, &database);
    let ours = target("ours", proxy.address, &suffix, &database);
    let shared = target("PgBouncer", bouncer.address, &user, pgbouncer::TRANSACTION);
    let owned = target("PgBouncer (session)", bouncer.address, &user, pgbouncer::SESSION);

    bench.prepare(&direct)?;
    for point in points() {
        // What PgBouncer of this version cannot do between transactions, it does in sessions.
        let theirs = if point.protocol == "prepared" { &owned } else { &shared };
        // The server itself takes nobody without TLS.
        let all = if point.tls == "require" { vec![&direct, theirs, &ours] } else { vec![theirs, &ours] };
        bench.throughput(point, &all)?;
    }
    bench.latency(&direct, &shared, &ours).await?;
    bench.idle(&ours, proxy.program.pid().context("it runs")?, number(2, 10_000), IDLE).await?;
    bench.idle(&shared, bouncer.pid(), number(2, 10_000), f64::INFINITY).await?;
    drop(bouncer);
    proxy.program.stop().await?;
    stack.finish().await
}

fn points() -> Vec<Point> {
    let mut points = Vec::new();
    let mut add = |script, protocol, tls, clients: &[u32]| {
        points.extend(clients.iter().map(|clients| Point { script, protocol, tls, clients: *clients }));
    };
    for protocol in ["simple", "extended", "prepared"] {
        add("select-only", protocol, "require", &[1, 16, 100, 500]);
    }
    add("select-only", "simple", "disable", &[1, 16, 100, 500]);
    for protocol in ["simple", "extended", "prepared"] {
        add("tpcb-like", protocol, "require", &[1, 16, 100]);
    }
    points
}

impl Bench {
    fn pgbench(&self, target: &Target, tls: &str, arguments: &[&str]) -> Result<String> {
        let program = database::postgres_directory().context("no PostgreSQL on this machine")?.join("pgbench");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("PGHOST", target.address.ip().to_string())
            .env("PGPORT", target.address.port().to_string())
            .env("PGUSER", &target.user)
            .env("PGPASSWORD", &self.to.password)
            .env("PGDATABASE", &target.database)
            .env("PGSSLMODE", tls);
        database::output(&mut command).with_context(|| format!("pgbench through {}", target.name))
    }

    fn prepare(&self, direct: &Target) -> Result<()> {
        self.pgbench(direct, "require", &["-i", "-q", "-s", SCALE]).map(drop)
    }

    /// Turn by turn, so that a slow minute of the machine is everybody's.
    fn throughput(&self, point: Point, targets: &[&Target]) -> Result<()> {
        let Point { script, protocol, tls, clients } = point;
        let encryption = if tls == "require" { "TLS" } else { "plain" };
        let title = |target: &Target| format!("{script}, {protocol}, {clients} clients, {encryption}: {}", target.name);
        let theirs = targets.iter().find(|target| target.name.starts_with("PgBouncer")).map(|target| title(target));
        let mut series: Vec<_> = targets.iter().map(|target| Samples::new(&title(target), "µs/tx")).collect();
        // pgbench prepares by a call that blocks its thread, and with it clients whose transactions have the connections
        // that the call waits for.
        let threads = if (script, protocol) == ("tpcb-like", "prepared") { clients } else { clients.min(2) };
        // pgbench counts the time in which its clients connect.
        let seconds = self.seconds + clients / CONNECTS;
        let (seconds, number, threads) = (seconds.to_string(), clients.to_string(), threads.to_string());
        let arguments = ["-n", "-b", script, "-M", protocol, "-c", &number, "-j", &threads, "-T", &seconds];
        for _ in 0..self.turns {
            for (target, series) in targets.iter().zip(&mut series) {
                let text = self.pgbench(target, tls, &arguments)?;
                let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
                let rate: f64 = rate.with_context(|| format!("{}: {text}", title(target)))?;
                ensure!(text.contains("number of failed transactions: 0"), "{text}");
                series.add(1e6 / rate);
            }
        }
        for (target, series) in targets.iter().zip(series) {
            match (&theirs, target.name) {
                (Some(theirs), "ours") => series.against(theirs).print()?,
                (_, _) => series.print()?,
            }
        }
        Ok(())
    }

    async fn session(&self, target: &Target) -> Result<Session> {
        let to = Connection { database: target.database.clone(), ..self.to.clone() };
        session(target.address, &to, "localhost", &target.user).await
    }

    /// One client, one statement after the other: what stands between adds to each.
    async fn latency(&self, direct: &Target, bouncer: &Target, ours: &Target) -> Result<()> {
        let names = ["one statement: direct", "one statement: PgBouncer", "one statement: ours"];
        let mut times: Vec<_> = names.iter().map(|name| Samples::new(name, "µs")).collect();
        let mut added =
            Samples::new("added to one statement: ours", "µs").against("added to one statement: PgBouncer").aim(ADDED);
        let mut added_theirs = Samples::new("added to one statement: PgBouncer", "µs");
        let mut sessions = Vec::new();
        for target in [direct, bouncer, ours] {
            sessions.push(self.session(target).await?);
        }
        for _ in 0..BLOCKS.0 {
            let mut medians = Vec::new();
            for (session, samples) in sessions.iter().zip(&mut times) {
                let mut block = Vec::with_capacity(BLOCKS.1);
                for _ in 0..BLOCKS.1 {
                    let begin = Instant::now();
                    session.client.simple_query("select 1").await?;
                    block.push(begin.elapsed().as_secs_f64() * 1e6);
                }
                block.iter().for_each(|time| samples.add(*time));
                block.sort_by(f64::total_cmp);
                medians.push(block[block.len() / 2]);
            }
            added_theirs.add(medians[1] - medians[0]);
            added.add(medians[2] - medians[0]);
        }
        times.iter().try_for_each(Samples::print)?;
        added_theirs.print()?;
        added.print()
    }

    /// Many clients that have logged in by TLS and say nothing.
    async fn idle(&self, target: &Target, pid: i32, clients: u32, aim: f64) -> Result<()> {
        // The first of each kind brings what all share.
        let warm = self.session(target).await?;
        warm.client.simple_query("select 1").await?;
        let before = memory(Scope::Alone(pid))?;
        let sessions: Vec<Result<Session>> =
            futures::stream::iter(0..clients).map(|_| self.session(target)).buffer_unordered(32).collect().await;
        let sessions: Vec<Session> = sessions.into_iter().collect::<Result<_>>()?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let each = memory(Scope::Alone(pid))?.saturating_sub(before) as f64 / f64::from(clients) / 1024.0;
        for session in sessions.iter().step_by(1000) {
            session.client.simple_query("select 1").await?;
        }
        let mut samples =
            Samples::new(&format!("memory of each of {clients} idle clients, TLS: {}", target.name), "KiB");
        if aim.is_finite() {
            samples = samples.aim(aim);
        }
        samples.add(each);
        samples.print()
    }
}
