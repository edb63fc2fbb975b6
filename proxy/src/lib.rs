//! The Windlass proxy: brings clients to the primary of their instance, or holds them until there is one.
//!
//! From the outside in: `accept` takes connections, `protocols` speaks with clients and databases, `routes` says which
//! database that is, `link` hears of routes from the control plane. [`Shared`] is what a protocol needs of the rest.
//!
//! Invariants: the proxy serves from its stored routes when the control plane is away; a route never goes back in
//! (epoch, rev); it stores no password.

pub mod accept;
pub mod app;
pub mod cli;
pub mod config;
pub mod drain;
pub mod evidence;
pub mod handover;
pub mod hold;
pub mod limits;
pub mod link;
pub mod metrics;
mod metrics_http;
pub mod pauses;
pub mod pool;
pub mod protocols;
pub mod routes;
mod shared;
pub mod tls;

pub use shared::Shared;
