//! The short form of the nemesis suite. The long one: `cargo xtask nemesis --rounds 200`.

use anyhow::{Result, ensure};
use windlass_tests::{lab, nemesis};

/// One of each kind: a process, a host, a link, the control plane, a change of roles.
const FAULTS: &[&str] = &["1", "11", "20", "44", "55"];

#[test]
fn faults_lose_nothing_and_everything_mends_itself() -> Result<()> {
    let faults = FAULTS.iter().map(|fault| (*fault).to_owned()).collect();
    let plan = nemesis::Plan { rounds: FAULTS.len(), seed: 1, faults, way: nemesis::Way::Proxies };
    let mut outcomes = Vec::new();
    lab::run(async |network| {
        nemesis::run(network, &plan, |outcome| {
            println!("{outcome:?}");
            outcomes.push(outcome.clone());
            Ok(())
        })
        .await
    })?;
    let failures: Vec<_> = outcomes.iter().filter(|outcome| !outcome.failures.is_empty()).collect();
    ensure!(failures.is_empty(), "{failures:#?}");
    Ok(())
}
