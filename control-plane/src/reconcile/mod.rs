//! Bringing what is into line with what is wanted, without being told what changed.
//!
//! Every look reads the whole intended and observed state ([`Reconciler::look`]); a wake-up carries no news. Decisions
//! are `windlass_logic::reconcile`. Every write proves the lease's epoch and is made under the instance's lock, after
//! asking again whether it is still needed. A crash leaves commands that were queued: they are found open, and nothing
//! is queued twice.

mod driver;
mod members;
mod purges;
mod removals;

pub use driver::Reconciler;
