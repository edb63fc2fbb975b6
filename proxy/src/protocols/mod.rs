//! The protocols of the engines, one directory each.

pub mod postgres;
