//! Faults at whole installations, each in a round of its own: a workload runs, something goes wrong and is put right
//! again, and then everything must be well and nothing that anybody was promised may be lost.
//!
//! A [`Scenario`] is one fault of the failure matrix with what is expected of it. What holds for every fault is not
//! repeated there: every checker finds nothing, writes go on in the end, and every member is whole again without anybody's
//! help. One seed decides the order of rounds and the choices in them.

mod control;
mod hosts;
mod network;
mod processes;
mod replication;
mod round;
mod scenario;
mod suite;

pub use round::{Round, whole};
pub use scenario::{ALL, Expected, Leader, Scenario};
pub use suite::{Outcome, Plan, Way, run};
