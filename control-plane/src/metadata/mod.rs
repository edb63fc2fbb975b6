//! Where the metadata lives: an external PostgreSQL by URL, or a private one that this node runs (embedded).
//!
//! After [`open::open`] both are the same: a connected, migrated [`windlass_db::Db`].

pub mod account;
pub mod binaries;
pub mod embedded;
pub mod files;
pub mod open;

pub use embedded::Embedded;
pub use open::{Metadata, open};
