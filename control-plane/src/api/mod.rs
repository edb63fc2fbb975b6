//! The gRPC API: wire names, messages and errors around the use cases of [`crate::app`].
//!
//! Every call passes the [`gate`]; every mutation runs in [`change`]; every error leaves by [`error`]. Handlers here
//! only translate: they hold no rule and no query.

pub mod access;
pub mod agent;
pub mod auth;
mod change;
mod convert;
pub mod error;
mod events;
mod filter;
pub mod gate;
mod hosts;
mod instances;
mod keys;
pub mod limit;
mod mask;
mod objects;
mod operations;
mod page;
mod projects;
mod proxies;
pub mod proxy;
pub mod server;

pub use server::Api;
