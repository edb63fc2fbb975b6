//! The real `windlass` binary against a control plane that answers as each test says.

mod bench;
mod config;
mod connect;
mod errors;
mod fake;
mod mutations;
mod output;
mod samples;
mod terminal;
mod tls;
mod waiting;
