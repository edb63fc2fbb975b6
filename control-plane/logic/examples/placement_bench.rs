//! Measures one placement over 10,000 hosts. Prints one JSON object a line: name, unit, median, p99, runs.
//!
//! `cargo run --release -p windlass-logic --example placement_bench`

use std::{collections::BTreeMap, hint::black_box, time::Instant};

use windlass_core::{
    engine::Engine,
    id::{HostId, InstanceId},
    instance::PlacementRules,
    size::{GIB, Resources},
};
use windlass_logic::placement::{
    HostView, Load, Locality, Overcommit, PlacementRequest, Policy, Ports, explain, place,
};

const HOSTS: u64 = 10_000;
const RUNS: usize = 201;
/// Microseconds of one placement.
const AIM: u32 = 1000;

fn main() {
    let hosts = fleet(HOSTS);
    let any = request(GIB / 2, PlacementRules::default());
    let rules = PlacementRules {
        region: "region-1".to_owned(),
        zone: String::new(),
        host_labels: BTreeMap::from([("disk".to_owned(), "nvme".to_owned())]),
    };
    let narrow = request(GIB / 2, rules);
    let impossible = request(1 << 50, PlacementRules::default());
    measure("place_10000_hosts", Some(AIM), || drop(black_box(place(&any, black_box(&hosts)))));
    measure("place_10000_hosts_region_and_label", Some(AIM), || drop(black_box(place(&narrow, black_box(&hosts)))));
    measure("place_10000_hosts_none_fits", Some(AIM), || drop(black_box(place(&impossible, black_box(&hosts)))));
    measure("explain_10000_hosts_every_verdict", None, || drop(black_box(explain(&any, black_box(&hosts)))));
}

fn measure(name: &str, aim: Option<u32>, mut work: impl FnMut()) {
    let mut times: Vec<u64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            work();
            u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
        })
        .collect();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize] as f64 / 1000.0;
    let line = serde_json::json!({
        "name": name, "unit": "µs", "median": at(0.5), "p99": at(0.99), "worst": at(1.0), "runs": times.len(),
        "aim": {"median": aim},
    });
    println!("{line}");
}

fn request(memory_bytes: u64, rules: PlacementRules) -> PlacementRequest {
    PlacementRequest {
        instance: InstanceId::new(),
        engine: Engine::Postgres,
        version: "15".to_owned(),
        resources: Resources { cpu_millis: 500, memory_bytes, disk_bytes: 2 * GIB },
        rules,
        prefer: Locality { region: "region-1".to_owned(), zone: "zone-1".to_owned() },
        policy: Policy::default(),
    }
}

/// A mixed fleet: five regions of three zones, a tenth unusable, a third full, the project everywhere.
fn fleet(count: u64) -> Vec<HostView> {
    (0..count)
        .map(|n| HostView {
            id: HostId::new(),
            name: format!("host-{n}"),
            online: n % 20 != 0,
            cordoned: n % 20 == 1,
            revoked: false,
            region: format!("region-{}", n % 5),
            zone: format!("zone-{}", n % 3),
            labels: BTreeMap::from([
                ("disk".to_owned(), if n % 4 == 0 { "nvme" } else { "ssd" }.to_owned()),
                ("rack".to_owned(), format!("r{}", n % 40)),
            ]),
            capacity: Resources { cpu_millis: 32_000, memory_bytes: 128 * GIB, disk_bytes: 4096 * GIB },
            reserved: Resources {
                cpu_millis: (n * 37) % 64_000,
                memory_bytes: if n % 3 == 0 { 128 * GIB } else { (n * 7 % 128) * GIB },
                disk_bytes: (n * 11 % 2048) * GIB,
            },
            overcommit: Overcommit { cpu: 4.0, memory: 1.0, disk: 1.0 },
            engines: vec![(Engine::Mariadb, "10.11".to_owned()), (Engine::Postgres, "15".to_owned())],
            ports: Ports { low: 20_000, high: 29_999, taken: u32::try_from(n % 100).unwrap_or(0) },
            cost_weight: (n % 7) as f64,
            load: Load { cpu_percent: (n * 13 % 90) as f64, psi_memory: (n % 5) as f64, ..Load::default() },
            instance_members: 0,
            project_members: u32::from(n % 10 == 0),
        })
        .collect()
}
