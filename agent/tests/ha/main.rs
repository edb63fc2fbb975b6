//! Replication of real PostgreSQL servers, driven by orders as the control plane would give them.

mod failover;
mod lab;
