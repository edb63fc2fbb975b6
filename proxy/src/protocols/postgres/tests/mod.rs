//! The proxy before real PostgreSQL servers, with real clients.

mod cancels;
mod entry;
mod features;
mod moves;
mod pooling;
mod raw;
mod world;
