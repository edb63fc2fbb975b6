//! Connections to PostgreSQL servers: logging in, running our own statements, and what each connection has set.

mod connect;
mod connection;
mod outbox;
mod prepared;
mod reading;

pub(crate) use connect::{Credentials, Refused, Target, connect};
pub(crate) use connection::{Done, LONGEST_ANSWER, Server};
pub(crate) use outbox::{HIGH_WATER, Outbox};
pub(crate) use prepared::{Prepared, Statement, Statements};
pub(crate) use reading::{Reading, changes as changes_reading};
