//! The proxy before real PostgreSQL servers, with real clients.

mod features;
mod pooling;
mod raw;
mod world;
