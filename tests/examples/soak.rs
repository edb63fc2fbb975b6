//! The soak at any length: `soak KILLS SEED`.

use anyhow::{Context, Result};
use windlass_tests::soak;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().with_context(|| format!("no {what}; usage: soak KILLS SEED"));
    let plan = soak::Plan { kills: next("KILLS")?.parse()?, seed: next("SEED")?.parse()?, hosts: 3 };
    println!("{:#?}", soak::run(plan).await?);
    Ok(())
}
