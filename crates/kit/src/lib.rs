//! What every Windlass binary needs and that is not of the domain.
//!
//! Owns: configuration files, telemetry, tasks and shutdown, backoff, failpoints, private files, tokens and the hot
//! TLS identity. Invariants: no globals but the log subscriber that `main` installs; time and randomness are arguments
//! wherever a decision depends on them. Depends on `windlass-core` for the error type only.

pub mod backoff;
pub mod call;
pub mod clock;
pub mod config;
pub mod failpoint;
pub mod files;
pub mod lock;
pub mod random;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod token;
