//! Replication of real PostgreSQL servers, driven by orders as the control plane would give them.

mod agent_restarts;
mod failover;
mod gate;
mod lab;
mod lineage;
mod memory;
mod orders;
mod switchover;
