//! The short form of the soak. The long one: `cargo xtask soak --kills 200`.

use anyhow::Result;
use windlass_tests::soak;

#[tokio::test(flavor = "multi_thread")]
async fn random_kills_during_a_mixed_workload_lose_and_leak_nothing() -> Result<()> {
    let report = soak::run(soak::Plan { kills: 25, seed: 1, hosts: 2 }).await?;
    println!("{report:#?}");
    Ok(())
}
