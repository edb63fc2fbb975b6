//! The proxy before real PostgreSQL servers, with real clients.

mod cancels;
mod entry;
mod features;
mod leaks;
mod moves;
mod pooling;
mod raw;
mod world;
