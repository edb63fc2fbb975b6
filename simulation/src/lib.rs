//! The control plane's and the agents' decisions together, in virtual time, with seeded faults.
//!
//! Real: `windlass_logic::ha` (decisions, tracker, orders, routes) and the agent's machine (`windlass_agent::ha`: memory,
//! orders, states, comparison of histories, facts). Modelled: PostgreSQL, the network, the metadata, and the drivers around
//! the pure parts. Why not a simulated runtime under the real programs: their effects are processes, files and SQL, which
//! no runtime simulates; and without them a schedule costs milliseconds, so that many thousands can be tried.
//!
//! A schedule follows from its seed alone. What must hold is in `check`; a breach names the seed, and the same seed finds
//! it again, with its story.

mod agent;
mod check;
mod control;
mod end;
mod facts;
mod faults;
mod log;
mod network;
mod orders;
pub mod plan;
mod plane;
mod random;
mod report;
mod server;
mod sight;
mod store;
mod stream;
mod world;

pub use check::Breach;
pub use network::Weather;
use plan::{Metadata, Plan};
use world::World;

/// What became of one schedule.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub seed: u64,
    /// The rule that did not hold, if any.
    pub breach: Option<Breach>,
    /// Commits that were acknowledged.
    pub acknowledged: usize,
    /// Epochs that had a leader beyond the first.
    pub failovers: usize,
    /// Events.
    pub events: u64,
    /// What happened, line by line, if it was asked for.
    pub story: Vec<String>,
}

/// Whether a schedule's story is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Story {
    /// It is.
    Kept,
    /// It is not, which is faster.
    Dropped,
}

/// Runs the schedule of a seed.
pub fn run(seed: u64, metadata: Metadata, story: Story) -> Outcome {
    run_plan(seed, Plan::of(seed, metadata), story)
}

/// Runs a plan; the seed decides what the plan leaves open.
pub fn run_plan(seed: u64, plan: Plan, story: Story) -> Outcome {
    let mut world = World::new(seed, plan);
    world.story = (story == Story::Kept).then(Vec::new);
    world.run();
    Outcome {
        seed,
        acknowledged: world.checker.acknowledgements(),
        failovers: world.checker.epochs(),
        events: world.events,
        breach: world.checker.breach,
        story: world.story.unwrap_or_default(),
    }
}
