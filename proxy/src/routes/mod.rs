//! Where clients are brought: the routes that the control plane gives, found by the name a client gives.
//!
//! Invariants: a route is replaced only by one that is not older in (epoch, rev); a session that watches a route sees
//! every change that matters to it, also that its instance is gone (CLOSED).

mod destination;
mod instance;
mod log;
mod route;
mod scout;
mod table;
#[cfg(test)]
pub(crate) mod testing;

pub use destination::{Access, Destination, Entrance};
pub use instance::{Instance, Running};
pub use log::{Change, RouteLog};
pub use route::{Backend, Pooling, ReadFallback, Route, Settings, State};
pub use scout::Scout;
pub use table::RouteTable;
