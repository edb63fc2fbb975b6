//! Use cases: who may do what, in which transaction, with which events. Knows no transport.
//!
//! Conventions. A read takes `(&Context, &Caller, …)`. A change takes `(&mut Tx, &Caller, …)`, after a `&Context` if it
//! needs one, and neither begins nor commits: the caller of the use case owns the transaction, so that the answer of a
//! mutation is stored for repeats together with its effect, and a dry run is the same code rolled back. What must
//! follow a commit (waking the executor) is done by the caller of the use case.
//!
//! A crash in the middle leaves nothing, because nothing is committed here.

pub mod agents;
pub mod caller;
pub mod context;
pub mod events;
pub mod hosts;
pub mod instances;
pub mod keys;
pub mod objects;
pub mod operations;
pub mod projects;
pub mod proxies;
pub mod tokens;
pub mod validate;

pub use caller::Caller;
pub use context::Context;
