//! Rounds of faults at an installation of several hosts, as `cargo xtask nemesis` runs them. Arguments: rounds, seed,
//! `proxies` or `direct`, and numbers of faults. Prints one line of JSON for each round.

use std::io::Write as _;

use anyhow::{Context, Result};
use windlass_tests::{lab, nemesis};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.next().context("how many rounds")?.parse()?;
    let seed = arguments.next().context("the seed")?.parse()?;
    let way = match arguments.next().context("proxies or direct")?.as_str() {
        "direct" => nemesis::Way::Direct,
        _ => nemesis::Way::Proxies,
    };
    let plan = nemesis::Plan { rounds, seed, way, faults: arguments.collect() };
    lab::run(async |network| {
        nemesis::run(network, &plan, |outcome| {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}", serde_json::to_string(outcome)?)?;
            Ok(out.flush()?)
        })
        .await
    })
}
