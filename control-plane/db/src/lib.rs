//! The metadata database: the only crate with SQL.
//!
//! Owns: the schema (`migrations/`), the connection pool, transactions, and one file per aggregate with its rows and
//! its queries. It stores and finds; it never decides.
//!
//! Conventions: functions that run in the caller's transaction end in `_tx` and take `&mut PgConnection`; the others
//! are methods of [`Db`]. Every write by the owner of a lease happens in a transaction begun by [`Db::guarded`].
//! A crash in the middle of anything here leaves what the last commit left.

pub mod agents;
pub mod api_keys;
pub mod catalogues;
pub mod certificates;
pub mod commands;
pub mod consistency;
mod db;
pub mod drift;
pub mod endpoints;
mod error;
pub mod events;
pub mod ha;
pub mod hosts;
pub mod idempotency;
pub mod instances;
pub mod join_tokens;
pub mod lease;
pub mod members;
pub mod objects;
pub mod operations;
pub mod projects;
pub mod proxies;
pub mod reservations;
pub mod sagas;
pub mod shard;
pub mod sights;
pub mod supply;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod waits;

pub use db::{Db, Tx};
pub use lease::Guard;
pub use sqlx::PgConnection;
