//! How each resource of the API looks in a table.

mod event;
mod host;
mod instance;
mod key;
mod object;
mod operation;
mod project;
mod proxy;
pub(crate) mod text;
mod versions;
