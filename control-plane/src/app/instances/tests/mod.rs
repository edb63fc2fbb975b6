//! The use cases of instances on a real database, with stand-ins for agents.

mod change;
mod concurrency;
mod consistency;
mod create;
mod delete;
mod objects;
mod power;
mod reading;
mod soak;
