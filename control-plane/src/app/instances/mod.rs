//! Use cases of instances: each verb of the API in a file of its own.

pub mod placing;
pub mod validate;
